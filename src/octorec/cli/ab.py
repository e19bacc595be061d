"""Three verbs of `octorec ab` read an experiment's file: check, assign, plan."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octorec.cli.ab_folder import folder_app
from octorec.cli.ab_words import OutcomeColumns, a_picture, a_rate, each_a_table, outcome_format, time_of
from octorec.cli.options import A_FILE, Json, show
from octorec.cli.tables import Sep, TimeFormat
from octorec.errors import InputError
from octorec.output.claim import claimed_file
from octorec.progress_bar import counting
from octorec.report.ab_signs import is_plot
from octorec.terminal import say

if TYPE_CHECKING:
    from rich.table import Table

    from octorec.evaluate.online.experiment import Experiment
    from octorec.evaluate.online.planning import Reached

ab_app = typer.Typer(no_args_is_help=True, help="The verdict online: plan, look at and judge an A/B experiment.")
ab_app.add_typer(folder_app)
WIDTH, LABEL = 80, 12

ExperimentFile = Annotated[Path, typer.Argument(help="The experiment's YAML file.", callback=A_FILE)]


@ab_app.command("check")
def ab_check(experiment: ExperimentFile, as_json: Json = False) -> None:
    """Read an experiment's file strictly and say what will happen. Exit code 2: something in it is wrong."""
    from octorec.evaluate.online.describe import described
    from octorec.evaluate.online.experiment import read_experiment

    said = list(described(read_experiment(experiment)))
    show(as_json, {"said": [list(pair) for pair in said]}, *labelled(said))


@ab_app.command("assign")
def ab_assign(
    experiment: ExperimentFile,
    units: Annotated[
        list[str], typer.Argument(metavar="UNIT...", help="Unit ids; - reads them from stdin, one a line.")
    ],
    hold_out_salt: Annotated[
        str | None, typer.Option(help="The deployment's, as its server has it; needed where units are held out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say which variant each unit gets, and why: its group, and its buckets of 10,000 for each purpose."""
    from octorec.evaluate.online.assign import assign
    from octorec.evaluate.online.buckets import bucket
    from octorec.evaluate.online.experiment import read_experiment
    from octorec.evaluate.online.unit import unit_id

    read = read_experiment(experiment)
    if read.hold_out and hold_out_salt is None:
        allowed = "is needed, as this experiment holds units out: give the salt that the server has"
        raise InputError("hold_out_salt", None, allowed)
    salts = {"hold-out": hold_out_salt or ""} if read.hold_out else {}
    salts |= {"ramp": read.salt, "variant": read.salt}
    rows = []
    for typed in _typed(units):
        unit = unit_id(typed)
        given = assign(read, unit, hold_out_salt or "")
        buckets = {} if unit is None else {purpose: bucket(salt, purpose, unit) for purpose, salt in salts.items()}
        rows.append({"unit": unit, "variant": given.variant, "group": given.group, "buckets": buckets})
    show(as_json, {"units": rows}, *([] if as_json else [_assigned(rows, list(salts))]))


@ab_app.command("plan")
def ab_plan(
    command: typer.Context,
    experiment: ExperimentFile,
    data: Annotated[
        list[Path] | None, typer.Option(help="Past outcomes, Parquet or CSV; may be repeated.", callback=each_a_table)
    ] = None,
    sep: Sep = None,
    columns: OutcomeColumns = None,
    time_format: TimeFormat = None,
    until: Annotated[
        str | None, typer.Option(help="Where the past ends, such as 2026-11-30; the newest row if not given.")
    ] = None,
    units_per_day: Annotated[
        float | None, typer.Option(help="Units that come for the first time each day, in the ramp.", callback=a_rate)
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Power against units: FILE.png or FILE.svg; replaces an earlier one.", callback=a_picture),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say how many units each metric needs by past data, and what power the plan's units reach, with days.

    Without --data it says what the past has to hold.
    """
    form = outcome_format(sep, columns, time_format)
    end = None if until is None else time_of("until", until)
    if plot is not None:
        command.with_resource(claimed_file(plot, [experiment, *(data or [])], is_plot, "plot"))

    from octorec.evaluate.online.experiment import read_experiment

    read = read_experiment(experiment)

    from octorec.evaluate.online import planning

    if not data:
        if plot is not None:
            raise InputError("plot", str(plot), "is drawn of past data: give --data")
        needs = list(planning.needs(read))
        show(as_json, {"needs": needs}, *(line for need in needs for line in wrap(need, WIDTH, subsequent_indent="  ")))
        return

    from octorec.evaluate.online.outcomes import read_outcomes
    from octorec.evaluate.online.past import past_of
    from octorec.report.ab_table import render_parts

    with counting("reading"):
        outcomes, counts = read_outcomes(data, read, form, every_event=True)
        found = planning.reach(read, past_of(read, outcomes, end), units_per_day)
    if plot is not None:
        _plot(plot, read, found, [experiment, *data])
    told = {**asdict(found), "counts": dict(counts)}
    parts = planning.parts_of_plan(read, found, counts)
    show(as_json, told, planning.verdict_of_plan(read, found), *render_parts(parts))


def _plot(path: Path, experiment: "Experiment", found: "Reached", inputs: Sequence[Path]) -> None:
    from octorec.evaluate.online.planning import curves
    from octorec.output.write import new_file
    from octorec.report.ab_plots import power_curves, save

    drawn = curves(experiment, found)
    if not drawn:
        raise InputError("plot", str(path), "there is no guardrail whose number of units is known: nothing is drawn")
    with new_file(path, inputs, is_plot, "plot") as scratch:
        save(power_curves(drawn, found.units), scratch)
    say(f"wrote {path}")


def _assigned(rows: Sequence[dict[str, Any]], purposes: Sequence[str]) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=0)
    for name in ("unit", "variant", "group"):
        table.add_column(name, no_wrap=True)
    for name in purposes:
        table.add_column(f"{name} bucket", justify="right", no_wrap=True)
    for row in rows:
        buckets = [str(row["buckets"].get(purpose, "-")) for purpose in purposes]
        table.add_row(row["unit"] or "-", row["variant"], row["group"].replace("_", " "), *buckets)
    return table


def labelled(said: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield lines of at most WIDTH characters, each heading before its sentences."""
    before = None
    for heading, sentence in said:
        label = f"{'' if heading == before else heading:{LABEL}}"
        yield from wrap(sentence, WIDTH, initial_indent=label, subsequent_indent=" " * LABEL)
        before = heading


def _typed(units: Iterable[str]) -> Iterator[str]:
    """Yield the units of the command line; where `-` stands, those of stdin."""
    for unit in units:
        if unit != "-":
            yield unit
            continue
        try:
            yield from (line.rstrip("\r\n") for line in sys.stdin)
        except UnicodeDecodeError:
            raise InputError("units", "stdin", "must be UTF-8, a unit id a line") from None
