"""These are the verbs of `octorec data`."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated

import typer

from octorec.catalog.sizes import CODEBOOK_SIZES
from octorec.cli.options import A_TABLE, Json, show
from octorec.cli.tables import Columns, Sep, TimeFormat, table_format

if TYPE_CHECKING:
    from octorec.data.check import Checked

data_app = typer.Typer(no_args_is_help=True, help="Look what is in tables of one's own.")
WIDTH = 80
MOST_CODES = max(CODEBOOK_SIZES)
ITEMS_A_CODE = 6  # of the first level, for a table that is too small for the default
NEXT = {
    "interactions": "octorec catalog build --data {file}{flags}{sizes} --out catalog",
    "items": "octorec catalog build --data INTERACTIONS --items {file}{flags} --out catalog",
    "users": "octorec train --data INTERACTIONS --users {file}{flags} --catalog catalog --out checkpoint",
}


@data_app.callback()
def data() -> None:
    """Look what is in tables of one's own."""


@data_app.command("check")
def data_check(
    file: Annotated[
        Path, typer.Argument(help="Parquet, CSV or JSON lines of interactions, items or users.", callback=A_TABLE)
    ],
    kind: Annotated[str | None, typer.Option(help="interactions, items or users; by its columns if not given.")] = None,
    sep: Sep = None,
    columns: Columns = None,
    time_format: TimeFormat = None,
    as_json: Json = False,
) -> None:
    """Read a table as the other verbs do: what is in it, and what may be wrong. Exit code 2: it cannot be read."""
    from octorec.data.check import check_table

    found = check_table(file, table_format(sep, columns, time_format, items=True), kind)
    given = {"--sep": sep, "--columns": columns, "--time-format": time_format}
    flags = "".join(f" {flag} {shlex.quote(value)}" for flag, value in given.items() if value is not None)
    following = NEXT[found.kind].format(file=shlex.quote(str(file)), flags=flags, sizes=_sizes(found))
    notes = [line for remark in found.remarks for line in wrap(f"note: {remark}", WIDTH, subsequent_indent="      ")]
    show(as_json, {**found.to_dict(), "next": following}, *_lines(found), *notes, f"next: {following}")


def _sizes(found: "Checked") -> str:
    """Return the flag that gives a small catalog codes for its items; nothing where the default is right."""
    codes = 2 ** max(1, (found.facts.get("items", 0) // ITEMS_A_CODE).bit_length() - 1)
    return "" if codes >= MOST_CODES else f" --codebook-sizes {codes},{codes},{codes}"


def _lines(found: "Checked") -> Iterator[str]:
    """Yield what there is, a name and its value a line, at most WIDTH characters long."""
    names = [ours if ours == name else f"{ours} (here {name})" for ours, name in found.columns.items()]
    rows = {"table": f"{found.kind}, {found.written}", "columns": ", ".join(names), "not read": ", ".join(found.unread)}
    for name, value in {**rows, **found.facts}.items():
        label = f"{name.replace('_', ' '):20} "
        yield from wrap(_words(value), WIDTH, initial_indent=label, subsequent_indent=" " * len(label))


def _words(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none known"}[value]
    return f"{value:,}" if isinstance(value, int) else f"{value:,}" if isinstance(value, float) else str(value) or "-"
