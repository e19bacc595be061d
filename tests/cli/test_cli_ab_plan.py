"""`octorec ab plan`: the units that each metric needs by past data, and what the plan's units reach."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from octorec.evaluate.online.past import Past
from octorec.evaluate.online.reached import reached
from octorec.evaluate.online.size import Size, plan_units, sizes
from tests.cli.test_cli import octorec
from tests.evaluate.online.ab_reports import FILE, experiment

COLUMNS = ("--columns", "time=when,unit=customer,event=what")
BUYERS = {"buyers": {"kind": "proportion", "event": "order", "window": "7d", "role": "guardrail"}}
ABSOLUTE = {"buyers": BUYERS["buyers"] | {"margin": {"absolute": 0.03}}}


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(FILE | {"metrics": ABSOLUTE} | changes, sort_keys=False))
    return path


def past(folder: Path, share: float = 0.3, units: int = 1000) -> Path:
    """A shop's table of 8 days: each customer looks once at the beginning, and a share of them orders in the last 7."""
    begin = datetime(2026, 11, 1, tzinfo=UTC).timestamp()
    rng = np.random.default_rng(0)
    lines = ["when,customer,what"]
    for unit in range(units):
        lines.append(f"{datetime.fromtimestamp(begin + unit, UTC):%Y-%m-%dT%H:%M:%SZ},{unit},view")
        if unit < share * units:
            at = datetime.fromtimestamp(begin + 86400 * (2 + 5 * rng.random()), UTC)
            lines.append(f"{at:%Y-%m-%dT%H:%M:%SZ},{unit},order")
    lines.append(f"{datetime.fromtimestamp(begin + 8 * 86400, UTC):%Y-%m-%dT%H:%M:%SZ},0,view")
    path = folder / "past.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_unit_that_did_nothing_but_look_counts(tmp_path: Path) -> None:
    told = json.loads(octorec("ab", "plan", written(tmp_path), "--data", past(tmp_path), *COLUMNS, "--json").stdout)
    assert told["past"]["buyers"]["units"] == 1000
    assert told["past"]["buyers"]["mean"] == pytest.approx(0.3)


def test_the_size_is_that_of_the_formula_for_a_margin(tmp_path: Path) -> None:
    """Share 0.3, margin 0.03, nothing differs, one-sided 2.5 %, power 80 %: 3,663 units an arm (chapter 4 of Chow)."""
    by = written(tmp_path, plan={"units": 10_000})
    told = json.loads(octorec("ab", "plan", by, "--data", past(tmp_path), *COLUMNS, "--json").stdout)
    (size,) = told["sizes"]
    assert size["units"] == pytest.approx(2 * 3663, rel=0.005)
    assert told["past"]["buyers"]["mean"] == pytest.approx(0.3)
    assert told["power"]["buyers"] == pytest.approx(0.904, abs=0.01)  # of 10,000 units: z = 2.8016 sqrt(10000 / 7326)


@pytest.mark.parametrize(
    ("units", "said"), [(8000, "are enough for every guardrail"), (7000, "are too few for buyers (7,")]
)
def test_the_first_line_says_whether_the_plan_is_enough(tmp_path: Path, units: int, said: str) -> None:
    by = written(tmp_path, plan={"units": units})
    done = octorec("ab", "plan", by, "--data", past(tmp_path), *COLUMNS)
    assert done.stdout.startswith(f"The plan's {units:,} units {said}")
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_days_follow_from_the_units_a_day(tmp_path: Path) -> None:
    by = written(tmp_path, plan={"units": 10_000})
    flags = ("--units-per-day", 500, "--json")
    (size,) = json.loads(octorec("ab", "plan", by, "--data", past(tmp_path), *COLUMNS, *flags).stdout)["sizes"]
    assert size["days"] == pytest.approx(size["units"] / 500 + 7)


def test_a_plan_in_days_reaches_the_units_whose_windows_pass_in_them(tmp_path: Path) -> None:
    by = experiment(metrics=ABSOLUTE, plan={"days": 17})
    assert plan_units(by, 500) == 5000
    assert plan_units(by, None) is None
    both = experiment(metrics=ABSOLUTE, plan={"days": 17, "units": 6000})
    assert (plan_units(both, 500), plan_units(both, 5000), plan_units(both, None)) == (5000, 6000, 6000)
    file = written(tmp_path, plan={"days": 17})
    said = octorec("ab", "plan", file, "--data", past(tmp_path), *COLUMNS).stdout
    assert said.startswith("The plan states no units: give --units-per-day to learn how many its days reach")
    said = octorec("ab", "plan", file, "--data", past(tmp_path), *COLUMNS, "--units-per-day", 500).stdout
    assert said.startswith("The plan's 5,000 units are too few for buyers")


def test_without_data_it_says_what_it_needs(tmp_path: Path) -> None:
    metrics = ABSOLUTE | {
        "rate": {"kind": "ratio", "event": "click", "per": "view", "window": "2d", "role": "guardrail", "margin": 0.1},
        "clicks": {
            "kind": "mean", "event": "click", "window": "7d", "role": "guardrail", "margin": 0.1, "covariate": "14d",
        },
    }  # fmt: skip
    said = octorec("ab", "plan", written(tmp_path, metrics=metrics, plan={"units": 9000})).stdout
    assert "Give past outcomes by --data" in said
    assert "buyers: rows of order over 7 days or more" in said
    assert "rate: rows of click and view over 2 days or more" in said
    assert "clicks: rows of click over 21 days or more" in said


@pytest.mark.parametrize(("name", "begins"), [("p.png", b"\x89PNG"), ("p.svg", b"<?xml")])
def test_the_plot_is_written_as_its_name_says(tmp_path: Path, name: str, begins: bytes) -> None:
    by = written(tmp_path)
    done = octorec("ab", "plan", by, "--data", past(tmp_path), *COLUMNS, "--plot", tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(begins)
    assert done.stderr.splitlines()[-1] == f"wrote {tmp_path / name}"
    octorec("ab", "plan", by, "--data", past(tmp_path), *COLUMNS, "--plot", tmp_path / name)  # its own it may replace


def test_a_picture_of_somebody_else_is_not_replaced(tmp_path: Path) -> None:
    mine = tmp_path / "mine.png"
    mine.write_bytes(b"\x89PNG my own")
    done = octorec("ab", "plan", written(tmp_path), "--data", past(tmp_path), *COLUMNS, "--plot", mine, expect=2)
    assert "mine.png" in done.stderr
    assert mine.read_bytes() == b"\x89PNG my own"


def test_the_plot_is_never_written_over_what_is_read(tmp_path: Path) -> None:
    by, data = written(tmp_path), past(tmp_path)
    before = data.read_bytes()
    link = tmp_path / "power.png"
    link.hardlink_to(data)
    done = octorec("ab", "plan", by, "--data", data, *COLUMNS, "--plot", link, expect=2)
    assert "plot" in done.stderr
    assert data.read_bytes() == before
    assert "must end in .png or .svg" in octorec("ab", "plan", by, "--plot", tmp_path / "p.pdf", expect=2).stderr
    assert "give --data" in octorec("ab", "plan", by, "--plot", tmp_path / "p.png", expect=2).stderr


def test_a_past_without_a_metric_or_too_short_for_it_is_refused(tmp_path: Path) -> None:
    data = past(tmp_path)
    calls = {"calls": ABSOLUTE["buyers"] | {"event": "call"}}
    done = octorec("ab", "plan", written(tmp_path, metrics=calls), "--data", data, *COLUMNS, expect=2)
    assert "metric calls has no such row in the last 7 days" in done.stderr
    long = {"buyers": ABSOLUTE["buyers"] | {"window": "30d"}}
    done = octorec("ab", "plan", written(tmp_path, metrics=long), "--data", data, *COLUMNS, expect=2)
    assert "metric buyers asks for 30 days" in done.stderr


def test_power_is_the_planned_one_at_the_size_and_rises_with_the_units() -> None:
    by = experiment(metrics=ABSOLUTE, plan={"units": 8000, "looks": [0.4, 0.7, 1]})
    (size,) = sizes(by, {"buyers": Past(1000, 0.3, 0.21)})
    assert size.units is not None
    powers = reached(by, size, [size.units * share for share in (0.1, 0.5, 1, 2)])
    assert powers == sorted(powers)
    assert powers[2] == pytest.approx(0.8, abs=1e-3)


def test_several_guardrails_share_the_power() -> None:
    by = experiment(
        metrics={"a": ABSOLUTE["buyers"], "b": ABSOLUTE["buyers"] | {"event": "click"}}, plan={"units": 8000}
    )
    size = Size("a", 5000, None, None, "")
    assert reached(by, size, [5000])[0] == pytest.approx(0.9)
