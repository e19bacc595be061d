"""The verbs of `octorec ab` that read an experiment's file: check, assign, plan."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octorec.cli_options import A_FILE, Json, show
from octorec.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

ab_app = typer.Typer(no_args_is_help=True, help="The verdict online: plan, look at and judge an A/B experiment.")
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
    salts = {"hold-out": hold_out_salt or "", "ramp": read.salt, "variant": read.salt}
    rows = []
    for typed in _typed(units):
        unit = unit_id(typed)
        given = assign(read, unit, salts["hold-out"])
        buckets = {} if unit is None else {purpose: bucket(salt, purpose, unit) for purpose, salt in salts.items()}
        rows.append({"unit": unit, "variant": given.variant, "group": given.group, "buckets": buckets})
    show(as_json, {"units": rows}, *([] if as_json else [_assigned(rows, list(salts))]))


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


def labelled(said: Iterable[tuple[str, str]], width: int = WIDTH) -> Iterator[str]:
    """Lines of at most `width` characters, each heading before its sentences."""
    before = None
    for heading, sentence in said:
        label = f"{'' if heading == before else heading:{LABEL}}"
        yield from wrap(sentence, width, initial_indent=label, subsequent_indent=" " * LABEL)
        before = heading


def _typed(units: Iterable[str]) -> Iterator[str]:
    """The units of the command line; where `-` stands, those of stdin."""
    for unit in units:
        if unit != "-":
            yield unit
            continue
        try:
            yield from (line.rstrip("\r\n") for line in sys.stdin)
        except UnicodeDecodeError:
            raise InputError("units", "stdin", "must be UTF-8, a unit id a line") from None
