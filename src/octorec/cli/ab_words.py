"""The verbs of `octorec ab` share the options that name outcomes, and times as they are typed."""

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from octorec.cli.options import A_TABLE
from octorec.data.table_format import TableFormat, parse_format
from octorec.errors import InputError

OURS = ("time", "unit", "request_id", "event", "value", "item", "id")  # columns of outcomes, as `rows.OUTCOMES`
LATEST = 253_402_300_799.0  # the last second of the year 9999


def each_a_table(param: typer.CallbackParam, value: list[Path] | None) -> list[Path] | None:
    """Return the callback of an option that names several tables."""
    for path in value or []:
        A_TABLE(param, path)
    return value


def a_rate(value: float | None) -> float | None:
    """Return the callback of an option that is a number of things a day."""
    if value is not None and not 0 < value < math.inf:
        raise InputError("units_per_day", value, "must be above 0")
    return value


def a_reason(value: str) -> str:
    """Return the callback of --why."""
    if not value.strip():
        raise InputError("why", value, "must be a reason, which stands in the record")
    return value.strip()


def a_picture(value: Path | None) -> Path | None:
    """Return the callback of an option that names a picture to write."""
    if value is not None and value.suffix not in (".png", ".svg"):
        raise InputError("plot", str(value), "must end in .png or .svg")
    return value


OutcomeColumns = Annotated[
    str | None, typer.Option(help="Names of columns in the files: time=ts,unit=uid,event=kind,value=amount.")
]


def outcome_format(sep: str | None, columns: str | None, time_format: str | None) -> TableFormat:
    """Return how the files of outcomes are written."""
    form = parse_format(sep, columns, time_format, OURS)
    unknown = [name for name in form.columns if name not in OURS]
    if unknown:
        raise InputError("columns", unknown[0], f"unknown name; ours are {', '.join(OURS)}")
    return form


def time_of(field: str, text: str) -> float:
    """Return seconds since 1970 of a time as ISO 8601, in UTC where it names no zone, or of such a number."""
    try:
        found = float(text)
    except ValueError:
        try:
            read = datetime.fromisoformat(text.strip())
        except ValueError:
            read = None
        found = math.nan if read is None else (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
    if not 0 <= found <= LATEST:
        raise InputError(field, text, "must be a time such as 2026-11-30T12:00 (UTC), or seconds since 1970")
    return found
