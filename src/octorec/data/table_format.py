"""A table that a user brings may be written otherwise than OctoRec's: with another separator, other
columns or times.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from octorec.errors import InputError

WORDS = {"tab": "\t", "\\t": "\t", "space": " "}  # separators that a shell makes hard to write
SEPARATORS = (",", ";", "|", ":", "\t", " ", "::")
PLACE = re.compile("0|[1-9][0-9]{0,4}")
FORM = (
    "our name = the file's, with commas: user_id=uid,item_id=movie; places from 0 where there is no header: user_id=0"
)
INTERACTIONS = ("user_id", "item_id", "timestamp")  # our names
ITEMS = ("item_id", "title", "codes", "sets", "vector", "live", "interactions")
TABLES = ("items", "users")


@dataclass(frozen=True)
class TableFormat:
    """A TableFormat says how a table is written.

    sep: what separates the values of a CSV: , ; | : tab, space or ::. None: as its first line has it.
    columns: our name of a column -> the file's name for it; or its place, counted from 0, in a CSV without a header.
    time_format: how a timestamp that is text is written, as strptime has it: `%d.%m.%Y`. None: numbers or ISO 8601.
    beside: "items" or "users" for a table that stands beside interactions; optional: our names that it may have itself
    instead of those of `columns`. `of` makes such a format.
    """

    sep: str | None = None
    columns: Mapping[str, str | int] = field(default_factory=dict)
    time_format: str | None = None
    beside: str = ""
    optional: Collection[str] = ()

    def __post_init__(self) -> None:
        if self.sep is not None:
            sep = WORDS.get(self.sep, self.sep)
            if sep not in SEPARATORS:
                raise InputError("sep", self.sep, "allowed: , ; | : tab space ::")
            object.__setattr__(self, "sep", sep)
        names = {ours: str(name) for ours, name in self.columns.items()}
        object.__setattr__(self, "columns", names)
        _check_columns(names)
        if self.time_format is not None and "%" not in self.time_format:
            raise InputError("time_format", self.time_format, "must be as strptime has it, such as %d.%m.%Y %H:%M")

    @property
    def by_place(self) -> bool:
        """Tell whether `columns` gives places, so that there is no header."""
        return any(is_place(name) for ours, name in self.columns.items() if _table_of(ours) == "")

    def of(self, table: str, known: Collection[str] | None = None, beside: bool = True) -> "TableFormat":
        """Return the format of the items or the users of one command, whose interactions have this format.

        known: the columns that such a table may have, None: any. Entries of `columns` for `items.title` are for the
        items alone. beside: there are interactions too, so that names are for them first: the table may have our own
        name of an id instead, and places are not its.
        """
        mine = {ours: name for ours, name in self.columns.items() if _table_of(ours) == ""}
        if beside and any(map(is_place, mine.values())):
            mine = {}
        own = {ours: name for ours, name in mine.items() if known is None or ours in known}
        told = {k.removeprefix(f"{table}."): name for k, name in self.columns.items() if k.startswith(f"{table}.")}
        optional = [ours for ours in own if beside and ours not in told and ours.endswith("_id")]
        return replace(self, columns={**own, **told}, beside=table if beside else "", optional=optional)


def parse_format(sep: str | None, columns: str | None, time_format: str | None, known: Collection[str]) -> TableFormat:
    """Return the format that flags ask for. columns: `user_id=uid,item_id=movie`. known: our names that it may have,
    besides those of `users.` fields, which are a model's own.
    """
    pairs: dict[str, str] = {}
    for part in columns.split(",") if columns is not None else ():
        ours, _, name = part.partition("=")
        ours = ours.strip()
        if not (ours and name.strip()):
            raise InputError("columns", part, f"must be {FORM}")
        if ours in pairs:
            raise InputError("columns", columns, f"{ours} is given twice")
        if ours.removeprefix("items.") not in known and not ours.startswith("users."):
            raise InputError("columns", ours, f"unknown name; ours are {', '.join(known)}, and users.FIELD ({FORM})")
        pairs[ours] = name
    return TableFormat(sep, pairs, time_format)


def is_place(name: str | int) -> bool:
    """Tell whether a column is named by its place."""
    return bool(PLACE.fullmatch(str(name)))


def _table_of(ours: str) -> str:
    """Return the table that a name such as `items.title` is for; "" where it is for any."""
    table, dot, _ = ours.partition(".")
    return table if dot and table in TABLES else ""


def _check_columns(names: Mapping[str, str]) -> None:
    """Refuse one column of a table for two of ours, and names beside places."""
    for table in ("", *TABLES):
        here = {ours: name for ours, name in names.items() if _table_of(ours) == table}
        twice = [name for name in here.values() if list(here.values()).count(name) > 1]
        if twice:
            both = " and ".join(ours for ours, name in here.items() if name == twice[0])
            raise InputError("columns", twice[0], f"one column cannot be {both}")
        if len({is_place(name) for name in here.values()}) > 1:
            raise InputError("columns", names, "must be names of a header or places from 0, not both")


OURS = TableFormat()  # a table as OctoRec has it
