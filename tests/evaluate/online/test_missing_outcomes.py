"""A look is made once, so it is not made on outcomes that are not all there, and lost ones break the experiment."""

import dataclasses
from pathlib import Path

import pytest
from logged import DAY, START, experiment, exposure, log, outcome

from octorec.errors import InputError
from octorec.evaluate.online.assign import assign
from octorec.evaluate.online.design import Guard, Plan
from octorec.evaluate.online.exposures import EXPOSURES_FOLDER
from octorec.evaluate.online.log import OUTCOMES_FOLDER, RowLog
from octorec.evaluate.online.look import look
from octorec.evaluate.online.record import read_record, start
from octorec.evaluate.online.rows import OUTCOMES

UNITS = [f"u{number}" for number in range(60)]
NOW = START + 3 * DAY
VERSIONS = {"control": ("m", "c"), "b": ("m", "c")}


def folder_of(root: Path, outcomes: list[dict], guard: Guard | None = None) -> Path:
    """An experiment whose units came within an hour, a minute each."""
    made = dataclasses.replace(experiment(), plan=Plan(units=50), guard=guard or Guard())
    root.mkdir()
    folder = Path(start(root, made, VERSIONS, START).folder)
    log(folder / EXPOSURES_FOLDER, [exposure(u, 60 * n, assign(made, u).variant) for n, u in enumerate(UNITS)])
    log(folder / OUTCOMES_FOLDER, outcomes, OUTCOMES)
    return folder


def clicks(until: float = 2 * DAY) -> list[dict]:
    """Each unit's click soon after it came, and what units that never were exposed did up to `until`."""
    own = [outcome(unit, 60 * place + 30 + place % 7) for place, unit in enumerate(UNITS)]
    return [*own, outcome("stranger", until)]


def test_no_look_is_made_at_outcomes_that_end_before_the_windows_of_many_units(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "root", clicks(DAY + 30 * 60))
    with pytest.raises(InputError, match=r"outcomes: got .*none are as late as the windows of 29 of 60 units"):
        look(folder, now=NOW)
    assert read_record(folder).looks == ()
    (only,) = look(folder, now=NOW, empty=True)[0].looks
    assert only.units == 60


def test_a_stray_outcome_over_http_makes_no_look(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "root", [outcome("u3", 200)])
    with pytest.raises(InputError, match="no look is made"):
        look(folder, now=NOW)
    assert read_record(folder).looks == ()


def test_outcomes_that_were_lost_break_the_experiment(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "root", clicks())
    full = RowLog(folder / OUTCOMES_FOLDER, OUTCOMES, waiting_bytes=1)
    for number in range(20):
        full.add(outcome("u1", number))
    full.close(60)
    report = look(folder, now=NOW)[0]
    assert (report.outcome, report.looks) == ("broken", ())
    assert report.broken == ("20 of 81 outcomes were lost, more than 1%",)


def test_an_experiment_of_files_is_not_looked_at_without_them(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "root", clicks(), Guard(outcomes=False))
    assert read_record(folder).experiment.guard == Guard(outcomes=False)
    with pytest.raises(InputError, match=r"outcomes: got 'none'; guard\.outcomes is false.*--outcomes"):
        look(folder, now=NOW)
    table = tmp_path / "late.csv"
    table.write_text(f"unit,time,event\nu1,{START + DAY},click\n")
    assert look(folder, [table], now=NOW)[0].looks
