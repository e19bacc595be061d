"""The verbs that read a user's tables share the flags that say how tables are written, and how they are read."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from octorec.data.table_format import INTERACTIONS, ITEMS, TableFormat, parse_format
from octorec.terminal import console

if TYPE_CHECKING:
    from octorec.data.interactions import Interactions

Sep = Annotated[str | None, typer.Option(help="What separates a CSV's values: , ; | : tab space or ::")]
Columns = Annotated[
    str | None,
    typer.Option(help="Names of columns in the file: user_id=uid,item_id=movie. Places from 0 without a header."),
]
TimeFormat = Annotated[str | None, typer.Option(help="How timestamps are written, as strptime has it: %d.%m.%Y")]


def table_format(sep: str | None, columns: str | None, time_format: str | None, items: bool = False) -> TableFormat:
    """Return the format of a verb's tables. items: the verb reads items, so that `columns` may name theirs."""
    return parse_format(sep, columns, time_format, dict.fromkeys([*INTERACTIONS, *(ITEMS if items else ())]))


def items_format(form: TableFormat, beside: bool = False) -> TableFormat:
    """Return the format of the items of a verb whose tables have `form`. beside: it reads interactions too."""
    return form.of("items", ITEMS, beside)


def users_format(form: TableFormat) -> TableFormat:
    """Return the format of the users of a verb whose interactions have `form`."""
    return form.of("users", {*form.columns} - {*INTERACTIONS[1:]})


def read_log(path: Path, form: TableFormat) -> "Interactions":
    """Return the interactions of a file, after what is remarkable of them was said on stderr."""
    from octorec.data.interactions import read_interactions
    from octorec.data.remarks import remarks
    from octorec.data.tables import unread_names

    interactions = read_interactions(path, form)
    for line in remarks(interactions, unread_names(path, form, INTERACTIONS)):
        console.print(f"note: {path}: {line}", soft_wrap=True)
    return interactions
