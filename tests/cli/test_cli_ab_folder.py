"""`octorec ab report`, `stop`, `resume` and `end` on the folder of a small shop's experiment."""

import dataclasses
import json
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from octorec.evaluate.online import look as look_module
from octorec.evaluate.online.experiment import read_experiment
from octorec.evaluate.online.log import EXPOSURES_FOLDER, RowLog
from octorec.evaluate.online.record import add_look, read_record
from octorec.evaluate.online.rows import EXPOSURES
from tests.cli.test_cli import Done, octorec
from tests.evaluate.online.ab_reports import FILE
from tests.evaluate.online.shop import START, make

UNITS = 600
COLUMNS = ("--columns", "time=when,unit=customer,event=what")
METRICS = {
    "clicks": {"kind": "mean", "event": "click", "window": "7d", "role": "guardrail", "margin": 0.3},
    "buyers": {
        "kind": "proportion", "event": "order", "window": "7d", "role": "guardrail", "margin": {"absolute": 0.25},
    },
}  # fmt: skip
EARLY, HALF, END = "2026-11-05", "2026-11-17T12:00", "2026-11-25"


def shop(folder: Path, loss: float = 0.0, **changes: Any) -> Path:
    """A shop's files in `folder`, with the experiment's folder in it, which comes back."""
    plan = {"units": UNITS - 50, "looks": [0.5, 1]}
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(FILE | {"metrics": METRICS, "plan": plan} | changes, sort_keys=False))
    return make(folder, read_experiment(path), UNITS, loss)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    shop(folder)
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    """A copy of the shop's experiment that a test may change."""
    return Path(shutil.copytree(made / "experiments" / "fp8-shop", tmp_path / "fp8-shop"))


@pytest.fixture
def report(made: Path) -> Any:
    def run(folder: Path, now: str, *flags: object, expect: int | None = 4) -> Done:
        outcomes = ("--outcomes", made / "outcomes.csv", *COLUMNS)
        return octorec("ab", "report", folder, *outcomes, "--now", now, *flags, expect=expect)

    return run


def test_before_a_look_is_due_the_report_says_when_one_will_be(here: Path, report: Any) -> None:
    said = report(here, EARLY).stdout
    assert said.startswith("inconclusive at margins of 30 % and 0.25, by clicks and buyers: no look was due yet\n")
    assert "The next look is due at 275 units" in said
    assert read_record(here).looks == ()


def test_a_look_that_is_due_is_made_once_and_told_until_the_next(here: Path, report: Any) -> None:
    first = report(here, HALF, expect=None)
    again = report(here, "2026-11-17T13:00", expect=None)
    assert "at look 1 of 2" in first.stdout.splitlines()[0]
    assert again.stdout.splitlines()[0] == first.stdout.splitlines()[0]
    assert [look.number for look in read_record(here).looks] == [1]
    last = report(here, END, expect=0)
    assert last.stdout.startswith("not inferior at margins of 30 % and 0.25, by clicks and buyers at the last look")
    assert [look.final for look in read_record(here).looks] == [False, True]


def test_what_is_printed_fits_and_has_all_that_a_reader_needs(here: Path, report: Any) -> None:
    said = report(here, HALF, expect=None).stdout
    for title in ("Sample ratio", "fp8 beside control at look 1 of 2", "Looks so far, of 2 planned", "What comes"):
        assert f"\n{title}\n" in said, title
    assert "What became of requests" in said
    assert "\x1b" not in said


def test_json_has_the_numbers_and_the_exit_code(here: Path, report: Any) -> None:
    done = report(here, END, "--json", expect=0)
    told = json.loads(done.stdout)
    assert (told["experiment"], told["outcome"], told["exit_code"]) == ("fp8-shop", "not_inferior", 0)
    assert told["looks"][0]["effects"][0]["metric"] == "clicks"
    assert sum(told["sample_ratio"]["assigned"].values()) == UNITS
    assert set(told["ended"]["fp8"]) <= {"answered", "short"}


def test_a_treatment_that_loses_is_inferior(tmp_path: Path) -> None:
    folder = shop(tmp_path, loss=0.8)
    outcomes = ("--outcomes", tmp_path / "outcomes.csv", *COLUMNS)
    done = octorec("ab", "report", folder, *outcomes, "--now", END, expect=3)
    assert done.stdout.startswith("inferior at a margin of 30 %, by clicks at the last look")


def test_final_makes_the_last_look_wherever_the_plan_is(here: Path, report: Any) -> None:
    said = report(here, "2026-11-14", "--final", expect=None).stdout
    assert "at the last look" in said.splitlines()[0]
    assert [look.final for look in read_record(here).looks] == [True]
    assert "at the last look" in report(here, END, "--final", expect=None).stdout
    assert len(read_record(here).looks) == 1


def test_of_two_runs_at_once_one_look_is_made_and_both_tell_it(
    here: Path, report: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge, other = look_module.judge, []

    def slow(*arguments: Any) -> Any:
        """Judge, and let another run record its own look just before this one does."""
        found = judge(*arguments)
        if not other:
            other.append(dataclasses.replace(found.looks[-1], time=found.looks[-1].time - 60))
            add_look(here, other[0])
        return found

    monkeypatch.setattr(look_module, "judge", slow)
    told = json.loads(report(here, HALF, "--json", expect=None).stdout)
    assert [look["time"] for look in told["looks"]] == [other[0].time]
    assert [look.time for look in read_record(here).looks] == [other[0].time]


def test_a_time_before_the_last_look_or_the_start_is_refused(here: Path, report: Any) -> None:
    assert "must not be before its start at 2026-11-02 00:00 UTC" in report(here, "2026-11-01", expect=2).stderr
    report(here, HALF, expect=None)
    done = report(here, EARLY, expect=2)
    assert "must not be before its last look at 2026-11-17 12:00 UTC: is a clock wrong?" in done.stderr


def test_the_page_is_written_and_replaced_and_never_anything_else(here: Path, report: Any, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    report(here, EARLY, "--html", page)
    assert "no look was due yet" in page.read_text()
    done = report(here, HALF, "--html", page, expect=None)
    assert done.stderr.splitlines()[-1] == f"wrote {page}"
    assert "at look 1 of 2" in page.read_text()
    mine = tmp_path / "mine.html"
    mine.write_text("<p>my own notes</p>")
    assert "mine.html" in report(here, HALF, "--html", mine, expect=2).stderr
    assert mine.read_text() == "<p>my own notes</p>"
    assert "html" in report(here, HALF, "--html", here / "record.json", expect=2).stderr


def test_stop_resume_and_end_are_on_the_record(here: Path) -> None:
    said = octorec("ab", "stop", here, "--why", "basket is broken").stdout
    assert said.startswith("fp8-shop is stopped: the control answers all units (basket is broken, since ")
    assert read_record(here).stop is not None
    assert octorec("ab", "resume", here).stdout == "fp8-shop is resumed: the variants answer again\n"
    assert read_record(here).stop is None
    assert "is not stopped" in octorec("ab", "resume", here, expect=2).stderr
    told = json.loads(octorec("ab", "end", here, "--json").stdout)
    assert told["ended"] == read_record(here).ended
    assert "was ended" in octorec("ab", "stop", here, "--why", "late", expect=2).stderr
    assert [note.text.split(":")[0] for note in read_record(here).notes][1:] == ["stopped", "resumed", "ended"]


def test_a_reason_is_one_line_and_not_empty(here: Path) -> None:
    assert "why" in octorec("ab", "stop", here, "--why", "  ", expect=2).stderr
    said = octorec("ab", "stop", here, "--why", "two\nlines\x1b[2J").stdout
    assert said.count("\n") == 1
    assert "\x1b" not in said


def test_a_report_says_that_the_experiment_was_stopped_or_ended(here: Path, report: Any) -> None:
    octorec("ab", "stop", here, "--why", "basket is broken")
    assert "Stopped on " in report(here, END, expect=None).stdout
    octorec("ab", "end", here)
    assert "Ended on " in report(here, END, expect=None).stdout


def test_a_folder_without_a_record_is_refused(made: Path, tmp_path: Path) -> None:
    done = octorec("ab", "report", tmp_path, expect=2)
    assert "must be a folder that holds record.json" in done.stderr
    inside = octorec("ab", "report", made / "experiments", expect=2)
    assert "it lies in its folder fp8-shop: give one of these" in inside.stderr


def test_an_experiment_file_as_folder_is_refused(made: Path) -> None:
    done = octorec("ab", "report", made / "experiment.yaml", expect=2)
    assert done.stderr.strip().endswith("must be a folder that holds record.json, and is a file")


def test_an_experiment_without_exposures_says_so(here: Path, report: Any) -> None:
    shutil.rmtree(here / EXPOSURES_FOLDER)
    assert "holds no exposures yet" in report(here, HALF, expect=2).stderr


def test_an_experiment_without_outcomes_says_how_to_give_them(here: Path) -> None:
    done = octorec("ab", "report", here, "--now", HALF, expect=2)
    assert "there are no outcomes yet: send them to POST /v1/outcomes, or give files by --outcomes" in done.stderr


def test_columns_that_are_not_there_are_named(here: Path, made: Path) -> None:
    plain = octorec("ab", "report", here, "--outcomes", made / "outcomes.csv", "--now", HALF, expect=2)
    assert "outcomes.csv" in plain.stderr
    assert "when" in plain.stderr
    wrong = ("--outcomes", made / "outcomes.csv", "--columns", "time=when,unit=who,event=what")
    done = octorec("ab", "report", here, *wrong, "--now", HALF, expect=2)
    assert "who" in done.stderr
    unknown = octorec("ab", "report", here, *wrong[:2], "--columns", "price=amount", "--now", HALF, expect=2)
    assert "unknown name; ours are time, unit, request_id, event, value, item, id" in unknown.stderr
    assert [done.stderr.count("\n") for done in (plain, done, unknown)] == [1, 1, 1]


def test_a_metric_without_rows_is_named(tmp_path: Path) -> None:
    metrics = METRICS | {"calls": METRICS["clicks"] | {"event": "phone-call"}}
    folder = shop(tmp_path, metrics=metrics)
    outcomes = ("--outcomes", tmp_path / "outcomes.csv", *COLUMNS)
    done = octorec("ab", "report", folder, *outcomes, "--now", END, expect=2)
    assert "got 'phone-call'; no outcome since the start has it, so that no look is made" in done.stderr
    assert "give the rows of metric calls" in done.stderr
    assert read_record(folder).looks == ()
    said = octorec("ab", "report", folder, *outcomes, "--now", EARLY, expect=4).stdout
    assert "calls" in said
    last = octorec("ab", "report", folder, *outcomes, "--now", END, "--empty", expect=4).stdout
    assert last.startswith("inconclusive at a margin of 30 %, by calls at the last look")
    assert len(read_record(folder).looks) == 1


def test_rows_of_the_past_do_not_stand_for_those_that_are_missing(here: Path, made: Path, tmp_path: Path) -> None:
    """A forgotten file of clicks must not cost a look, though the covariate's clicks are there."""
    header, *rows = (made / "outcomes.csv").read_text().splitlines()
    orders = tmp_path / "orders.csv"
    orders.write_text("\n".join([header, *(row for row in rows if "order" in row)]) + "\n")
    given = ("--outcomes", made / "past.csv", "--outcomes", orders, *COLUMNS)
    done = octorec("ab", "report", here, *given, "--now", END, expect=2)
    assert "got 'click'; no outcome since the start has it" in done.stderr
    assert read_record(here).looks == ()


def test_a_file_that_ends_early_does_not_cost_a_look(here: Path, made: Path, tmp_path: Path) -> None:
    """Clicks that end a week before the others would make units that clicked into units that did not."""
    header, *rows = (made / "outcomes.csv").read_text().splitlines()
    stale = tmp_path / "stale.csv"
    stale.write_text("\n".join([header, *(row for row in rows if "order" in row or row < "2026-11-10")]) + "\n")
    given = ("--outcomes", stale, *COLUMNS, "--now", END)
    done = octorec("ab", "report", here, *given, expect=2)
    assert "got 'click'; its last outcome is of 2026-11-09" in done.stderr
    assert "of the units came, so that no look is made" in done.stderr
    assert read_record(here).looks == ()
    octorec("ab", "report", here, *given, "--empty", expect=None)
    assert len(read_record(here).looks) == 1


def rewritten(folder: Path, change: Any) -> None:
    """Let the exposures of a folder be those that `change` makes of a list of rows."""
    rows = change(look_module.read_exposures(folder / EXPOSURES_FOLDER)[0].to_pylist())
    shutil.rmtree(folder / EXPOSURES_FOLDER)
    log = RowLog(folder / EXPOSURES_FOLDER, EXPOSURES)
    for row in rows:
        log.add(row | {"time": row["time"].timestamp()})
    log.close(60.0)


def test_an_empty_control_breaks_the_experiment(here: Path, report: Any) -> None:
    rewritten(here, lambda rows: [row for row in rows if row["variant"] != "control"])
    done = report(here, END, expect=5)
    assert done.stdout.startswith("broken: ")
    assert "control" in done.stdout.splitlines()[0]


def test_units_in_two_variants_are_counted_and_break_the_experiment_when_many(here: Path, report: Any) -> None:
    def both(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        other, later = {"control": "fp8", "fp8": "control"}, timedelta(hours=1)
        return [*rows, *(row | {"variant": other[row["variant"]], "time": row["time"] + later} for row in rows[:200])]

    rewritten(here, both)
    done = report(here, END, expect=5)
    assert "seen in two variants" in done.stdout.splitlines()[0]


def test_a_wrong_sample_ratio_breaks_the_experiment(here: Path, report: Any) -> None:
    rewritten(here, lambda rows: [r for n, r in enumerate(rows) if r["variant"] == "control" or n % 3])
    done = report(here, END, expect=5)
    assert done.stdout.startswith("broken: the variants have other shares of units than planned")
    assert "The sample ratio is broken" in done.stdout
    assert read_record(here).looks == ()
    assert read_record(here).lowest_ratio_p < 0.001


def test_outcomes_may_be_parquet_and_come_from_several_files(here: Path, made: Path, tmp_path: Path) -> None:
    table = pa.csv.read_csv(made / "outcomes.csv")
    half = table.num_rows // 2
    for name, part in {"a": table.slice(0, half), "b": table.slice(half)}.items():
        pq.write_table(part, tmp_path / f"{name}.parquet")
    flags = ("--outcomes", tmp_path / "a.parquet", "--outcomes", tmp_path / "b.parquet", *COLUMNS)
    two = json.loads(octorec("ab", "report", here, *flags, "--now", END, "--json", expect=0).stdout)
    one = shutil.copytree(made / "experiments" / "fp8-shop", tmp_path / "again")
    flags = ("--outcomes", made / "outcomes.csv", *COLUMNS)
    told = json.loads(octorec("ab", "report", one, *flags, "--now", END, "--json", expect=0).stdout)
    assert two["looks"][-1]["effects"] == told["looks"][-1]["effects"]


def test_the_start_is_when_it_was_started(here: Path) -> None:
    assert read_record(here).stages[0].since == START
