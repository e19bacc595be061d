"""`octorec ab check` and `assign`: what an experiment's file says will happen, and which variant a unit gets."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from octorec.evaluate.online.assign import assign
from octorec.evaluate.online.experiment import read_experiment
from tests.cli.test_cli import octorec
from tests.evaluate.online.ab_reports import FILE


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path)


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(FILE | changes, sort_keys=False))
    return path


def test_check_says_in_words_what_will_happen(tmp_path: Path) -> None:
    changes = {
        "ramp": 0.2,
        "hold_out": 0.05,
        "overrides": {"tester-1": "fp8"},
        "guard": {"latency_ms": 200, "error_rate": 0.02},
    }
    said = octorec("ab", "check", written(tmp_path, **changes)).stdout
    assert max(map(len, said.splitlines())) <= 80
    words = " ".join(said.split())
    for sentence in (
        "fp8: 50 % of the units; checkpoint runs/fp8, beam width 64",
        "20 % of the units take part; the others get the control and are not counted",
        "5 % of all units, the same in every experiment, get the control and are not counted",
        "1 unit with a variant given by the file; not counted",
        "clicks: the sum of the values of click a unit, over 7 days from a unit's first exposure; must not fall by 2 % "
        "of the control's mean or more",
        "the share of units with order, over 7 days from a unit's first exposure; must not fall by 0.01 or more",
        "spent: the sum of the values of order a unit, over 7 days from a unit's first exposure; is to rise",
        "2 looks at 10,000 and 20,000 units whose windows (7 days at most) have passed",
        "the 99th percentile of its latency is above 200 ms, over 1 minute and at least 200 requests",
        "the share of its requests that fail is above 2 %",
        "a second experiment beside it are refused",
    ):
        assert sentence in words, sentence


def test_check_says_a_metric_that_is_to_go_down_a_ratio_and_a_covariate(tmp_path: Path) -> None:
    base = {"event": "click", "window": "36h", "role": "guardrail", "margin": 0.02}
    metrics = {
        "late": base | {"kind": "mean", "direction": "down", "covariate": "14d"},
        "rate": base | {"kind": "ratio", "per": "view"},
    }
    plan = {"days": 28}
    words = " ".join(octorec("ab", "check", written(tmp_path, metrics=metrics, plan=plan)).stdout.split())
    assert "less what the 14 days before explain (CUPED); must not rise by 2 % of the control's mean or more" in words
    assert "rate: the sum of click over the sum of view, over 36 hours from a unit's first exposure" in words
    assert "1 look, 28 days after the start" in words


def test_check_refuses_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    wrong = {"control": {"share": 0.5}, "fp8": {"share": 0.4}}
    done = octorec("ab", "check", written(tmp_path, variants=wrong), expect=2)
    assert "experiment.yaml: variants: share" in done.stderr
    assert "must add up to 1" in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_assign_gives_each_unit_what_the_server_gives_it(tmp_path: Path) -> None:
    path = written(tmp_path, ramp=0.5, hold_out=0.1, overrides={"9": "fp8"})
    units = [*map(str, range(40)), "José"]
    told = json.loads(octorec("ab", "assign", path, *units, "--hold-out-salt", "salt", "--json").stdout)["units"]
    experiment = read_experiment(path)
    for unit, one in zip(units, told, strict=True):
        given = assign(experiment, unit, "salt")
        assert (one["unit"], one["variant"], one["group"]) == (unit, given.variant, given.group)
        assert set(one["buckets"]) == {"hold-out", "ramp", "variant"}
    assert {one["group"] for one in told} == {"experiment", "hold_out", "outside", "tester"}


def test_assign_reads_units_from_stdin_and_an_empty_line_is_no_unit(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("7\r\n8\n\n"))
    said = octorec("ab", "assign", file, "-").stdout.splitlines()
    assert [line.split()[0] for line in said if line.strip()][2:] == ["7", "8", "-"]
    assert "no unit" in said[-2]


def test_assign_does_not_guess_the_salt_of_a_hold_out(tmp_path: Path) -> None:
    done = octorec("ab", "assign", written(tmp_path, hold_out=0.1), "7", expect=2)
    assert "hold_out_salt" in done.stderr
    assert "give the salt that the server has" in done.stderr


@pytest.mark.parametrize("raw", [b"\xff\xfe\n", b"caf\xe9\n"])
def test_assign_refuses_a_stdin_that_is_no_text(file: Path, monkeypatch: pytest.MonkeyPatch, raw: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw), "utf-8"))
    done = octorec("ab", "assign", file, "-", expect=2)
    assert "must be UTF-8" in done.stderr


def test_assign_refuses_a_unit_id_that_no_server_takes(file: Path) -> None:
    done = octorec("ab", "assign", file, "x" * 257, expect=2)
    assert "at most 256 bytes" in done.stderr
