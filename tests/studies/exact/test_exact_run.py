"""The whole study with a small model on made-up shops: its rows, its answers, and its pages."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from made_union import made_shops

from benchmarks.records import read
from benchmarks.rows import FILES
from benchmarks.rows.exact import (
    CertifiedRow,
    ExactDifferenceRow,
    ExactRow,
    PolicyAnswersRow,
    StartsRow,
    TemperatureRow,
)
from octorec.catalog.catalog import Catalog
from octorec.data.interactions import read_interactions
from octorec.data.splits import Example
from octorec.engine.batch import ParsedRequest
from octorec.engine.engine import Engine
from octorec.engine.load import load
from octorec.engine.policy import BeamStarts
from octorec.engine.request import Request
from octorec.engine.widths import BeamWidth
from octorec.errors import InputError
from octorec.models.onerec import OneRecV2, initialize
from octorec.models.presets import preset
from octorec.models.weights import save
from octorec.output.write import new_folder
from octorec.quant.convert import quantize_checkpoint
from studies.exact import data, render, run, settings
from studies.exact.asked import Deadline, parse_all
from studies.exact.certified import certified
from studies.exact.run import Study
from studies.exact.searches import Searches, ask
from studies.exact.subject import Subject, Targets, opened, spread
from studies.stages import stage_names

SIZES = (16, 16, 32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Interactions and a checkpoint whose heads are sharp, so that narrow beams certify some answers."""
    base = tmp_path_factory.mktemp("study")
    catalog = data.write(made_shops(base), base, SIZES)
    config = preset("tiny", codebook_sizes=SIZES, codebook_fingerprint=catalog.fingerprint)
    model = OneRecV2(config)
    initialize(model, 0)
    with torch.no_grad():
        for head in model.head:
            head.weight.mul_(20)  # type: ignore[operator]
    with new_folder(base / "bf16") as scratch:
        save(model, scratch, torch.bfloat16)
        catalog.save(scratch / "catalog")
    quantize_checkpoint(base / "bf16", base / "fp8", "fp8")
    return base


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Widths that fit the small shops."""
    monkeypatch.setattr(settings, "SCHEDULES", ((8, 16, 32),))
    monkeypatch.setattr(settings, "REFERENCE", 32)
    monkeypatch.setattr(settings, "POLICIES", ((16, 10), ("auto", 10), ("auto", 5), ((8, 16, 32), 32)))
    monkeypatch.setattr(settings, "OF_MANY", (((8, 16, 32), 32),))
    for module in (settings, sys.modules["studies.exact.certified"]):
        monkeypatch.setattr(module, "WIDTHS", (12, 16, 24, 32))
        monkeypatch.setattr(module, "KS", (2, 5, 10, 32))
        monkeypatch.setattr(module, "WIDEST", 64)
    policies = sys.modules["studies.exact.policies"]
    monkeypatch.setattr(policies, "REFERENCE", 32)
    monkeypatch.setattr(policies, "CUTOFFS", (5, 10, 32))
    monkeypatch.setattr(policies, "SCHEDULES", ((8, 16, 32),))
    monkeypatch.setattr(policies, "TIMED", (((8, 16, 32), 32), ("auto", 5)))
    monkeypatch.setattr(sys.modules["studies.exact.shops"], "POLICY", 16)
    subject = sys.modules["studies.exact.subject"]
    monkeypatch.setattr(subject, "SERVING", subject.engine_settings(12, 16, 24, 32, (8, 16, 32)))
    monkeypatch.setattr(subject, "REFERENCE", 32)


def test_asking_gives_the_answers_of_recommend(folder: Path, small: None, tmp_path: Path) -> None:
    engine = load(folder / "bf16", beam_widths=(12, 32), default_beam_width=32, exclude_seen=True)
    subject = opened(folder / "bf16", engine.catalog, "cpu", {}, tmp_path / "rows.jsonl")
    examples = spread(Targets.of(read_interactions(folder / "interactions.csv")).test, 24)
    deadline = Deadline.within("test", 600)
    subject.starting(BeamStarts({5: 12}))
    asked = parse_all(subject.engine, examples, deadline)
    policies: list[tuple[BeamWidth, int]] = [(8, 5), ((8, 16, 32), 32), ("auto", 5)]
    for width, k in policies:
        found = ask(subject.engine, asked, width, k, deadline)
        answers = subject.engine.recommend([Request(one.history, k=k, beam_width=width) for one in examples])
        ids = [subject.engine.catalog.item_ids[place] for place in found.places[0] if place >= 0]
        assert ids == answers[0].items
        for row, answer in enumerate(answers):
            n = int(found.found[row])
            assert found.scores[row, :n].tolist() == answer.scores
            assert found.exact[row] == answer.exact
            assert found.repeated[row] == (width == "auto" and answer.beam_width != 12)
            assert found.bounds[row] == (-np.inf if answer.bound is None else answer.bound)
    assert 0 < found.repeated.mean() < 1


def test_what_was_searched_is_not_searched_again(
    folder: Path, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = opened(folder / "bf16", Catalog.load(folder / "catalog"), "cpu", {}, tmp_path / "rows.jsonl")
    subject.starting(BeamStarts({5: 12}))
    deadline = Deadline.within("test", 600)
    examples = spread(Targets.of(read_interactions(folder / "interactions.csv")).test, 24)
    searches = Searches(subject.engine, parse_all(subject.engine, examples, deadline))
    searched: list[tuple[int, ...]] = []
    launch = Engine.launch

    def counted(self: Engine, parsed: Sequence[ParsedRequest]) -> object:
        searched.extend(one.widths for one in parsed)
        return launch(self, parsed)

    monkeypatch.setattr(Engine, "launch", counted)
    widest = searches.lists(32, 32, deadline)
    narrow = searches.lists(12, 10, deadline)
    assert searched == [(32,) * 3] * 24 + [(12,) * 3] * 24
    auto = searches.lists("auto", 5, deadline)
    assert set(searched[48:]) <= {(16,) * 3, (24,) * 3}  # the narrow ones and the widest are there
    assert np.array_equal(auto.places[~auto.repeated], narrow.places[~auto.repeated, :5])
    wide = auto.width == 32
    assert wide.any()
    assert np.array_equal(auto.places[wide], widest.places[wide, :5])


def test_a_request_is_parsed_once(folder: Path, small: None, tmp_path: Path) -> None:
    subject = opened(folder / "bf16", Catalog.load(folder / "catalog"), "cpu", {}, tmp_path / "rows.jsonl")
    examples = Targets.of(read_interactions(folder / "interactions.csv")).test
    known: dict[Example, ParsedRequest] = {}
    first, second = (parse_all(subject.engine, spread(examples, n), Deadline.within("x", 60), known) for n in (9, 30))
    assert {id(one) for one in first.parsed} & {id(one) for one in second.parsed}
    assert len(known) == len({one.user_id for one in (*first.examples, *second.examples)})


def test_a_width_that_the_kernel_has_no_room_for_is_left_out(
    folder: Path, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(self: Subject, catalog: Catalog, *widths: int) -> Engine:
        raise InputError("beam_width", widths[0], "the beam kernel has no room")

    monkeypatch.setattr(Subject, "over", refuse)
    out = tmp_path / "rows.jsonl"
    about = {"run": "1", "model": "m", "precision": "bf16", "temperature": 1.0}
    subject = opened(folder / "bf16", Catalog.load(folder / "catalog"), "cpu", about, out)
    examples = spread(Targets.of(read_interactions(folder / "interactions.csv")).test, 8)
    deadline = Deadline.within("test", 600)
    certified(subject, subject.engine, parse_all(subject.engine, examples, deadline), (2, 10), deadline)
    assert [row.beam_width for row in read(out, CertifiedRow)] == [12, 16, 24, 32]
    assert "64 beams: beam_width: got 64; the beam kernel has no room" in capsys.readouterr().out


@pytest.mark.slow
def test_rows_and_pages(folder: Path, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "exact.jsonl"
    call = ["run", str(folder / "bf16"), str(folder / "fp8"), "--data", str(folder / "interactions.csv")]
    counts = ["--validation", "64", "--start-requests", "16", "--certified-users", "32", "--users", "64"]
    more = ["--shop-users", "64", "--batches", "2", "--items", "600", "--device", "cpu", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", [*call, *counts, *more])
    run.main()
    rows = read(out, *FILES["exact.jsonl"])
    assert {type(row) for row in rows} == set(FILES["exact.jsonl"])
    shares = [row for row in rows if isinstance(row, CertifiedRow)]
    assert len(shares) == 2 * 4 * 5  # catalogs, models, widths
    for row in shares:
        assert all(0 <= share <= 1 for share in row.certified.values())
        assert all(int(k) <= row.beam_width for k in row.certified)
    temperature = next(row for row in rows if isinstance(row, TemperatureRow))
    assert temperature.validation_nll_calibrated < temperature.validation_nll
    for row in rows:
        if isinstance(row, ExactDifferenceRow):
            assert row.differ == 0
            assert row.score_difference == 0  # on a CPU a row's bits do not depend on the number of rows
        if isinstance(row, PolicyAnswersRow) and row.policy == "32":
            assert set(row.overlap.values()) == {1.0}
    assert sum(row.both_exact for row in rows if isinstance(row, ExactDifferenceRow)) > 0
    assert all(str(k) in row.starts for row in rows if isinstance(row, StartsRow) for k in (2, 5, 10))
    found = [row for row in rows if isinstance(row, ExactRow)]
    monkeypatch.setattr(render, "rows", lambda: found)
    pages = [page() for page in (render.certified, render.policies, render.recall)]
    assert all(page.count("\n") >= 5 for page in pages)
    assert "600" in pages[0]
    assert "made-up" in pages[0]


@pytest.mark.slow
def test_a_stage_without_time_leaves_the_others_their_rows(
    folder: Path, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "exact.jsonl"
    call = ["run", str(folder / "bf16"), str(folder / "fp8"), "--data", str(folder / "interactions.csv")]
    counts = ["--validation", "16", "--shop-users", "30", "--device", "cpu", "--out", str(out)]
    times = [f"--{name}-seconds=0" for name in ("starts", "policies", "times", "million")]
    monkeypatch.setattr(sys, "argv", [*call, *counts, *times, "--certified-seconds", "1e-9"])
    run.main()
    kinds = {type(row).__name__ for row in read(out, *FILES["exact.jsonl"])}
    assert kinds == {"TemperatureRow", "ShopRow"}
    assert "certified: its 1e-09 s are over" in capsys.readouterr().out
    assert all(json.loads(line)["format"] == 1 for line in out.read_text().splitlines())


def test_a_stage_done_alone_adds_to_the_run_and_begins_as_was_measured(
    folder: Path, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "exact.jsonl"
    call = ["run", str(folder / "bf16"), str(folder / "fp8"), "--data", str(folder / "interactions.csv")]
    counts = ["--start-requests", "16", "--certified-users", "30", "--items", "600", "--device", "cpu"]
    again = [*call, *counts, "--run", "1", "--temperature", "1.25", "--out", str(out)]
    begins: list[BeamStarts] = []
    monkeypatch.setattr(
        Study, "million", lambda self, _: begins.extend(one.engine.policy.starts for one in self.served)
    )
    for stages in ("starts", "million"):
        monkeypatch.setattr(sys, "argv", [*again, "--calibrated-only", "--stages", stages])
        run.main()
    rows = [row for row in read(out, *FILES["exact.jsonl"]) if isinstance(row, StartsRow)]
    assert {row.run for row in rows} == {"1"}
    assert {row.temperature for row in rows} == {1.25}
    measured = [{int(k): width for k, width in row.starts.items()} for row in rows]
    assert [dict(one.widths) for one in begins] == measured
    assert len(measured) == 2


def test_a_stage_that_there_is_not_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"--stages: got 'milion'; allowed: temperature, starts, .*million"):
        stage_names("shops,milion", run.SECONDS)
