"""Check what is in a table, as the verbs would read it: counts, times, and what may be wrong with it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from octorec.data.described import period, time_unit
from octorec.data.hints import columns_flag, guessed_columns, meaning
from octorec.data.interactions import COLUMNS, Interactions
from octorec.data.items import COLUMNS as ITEM_COLUMNS
from octorec.data.items import read_items
from octorec.data.remarks import remarks, repeats, values
from octorec.data.table_format import OURS, TableFormat
from octorec.data.tables import kind_of, one_array, read_table, table_names, timestamp_column, unread_names
from octorec.data.users import read_users
from octorec.errors import InputError

KINDS = ("interactions", "items", "users")
MOST_VALUES = 10  # most different values of a rating that are counted one by one
MISSING = ("nan", "na", "n/a", "null", "none", "unknown", "-1", "-", "?")  # ids that may mean that there is none


@dataclass(frozen=True)
class Checked:
    """A Checked is what was found in a table. kind: interactions, items or users. columns: our name -> the file's.
    unread: its other columns. facts: what there is, a name and a value each. remarks: what may be wrong, in a sentence
    each.
    """

    path: str
    kind: str
    written: str
    columns: dict[str, str]
    unread: list[str]
    facts: dict[str, Any]
    remarks: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return asdict(self)


def check_table(path: str | Path, form: TableFormat = OURS, kind: str | None = None) -> Checked:
    """Read a table as the verbs do and say what is in it; what they refuse is an InputError.

    kind: interactions, items or users; None: as its columns are.
    """
    path = Path(path)
    kind = kind or _kind(path, form)
    if kind not in KINDS:
        raise InputError("kind", kind, f"allowed: {', '.join(KINDS)}")
    check = {"interactions": _interactions, "items": _items, "users": _users}[kind]
    known = {"interactions": COLUMNS, "items": ITEM_COLUMNS, "users": None}[kind]
    facts, said = check(path, form)
    names = table_names(path, form)
    told = {ours: str(name) for ours, name in form.columns.items() if known is None or ours in known}
    own = {n: n for n in names if not form.by_place and n not in told and (known is None or n in known)}
    ours = {**told, **{n: n for n in own if n not in told.values()}}
    unread = [name for name in names if name not in ours.values()]
    if like := guessed_columns(unread, [name for name in known or () if name not in ours]):
        said = [*said, f"some columns that are not read look like ours: {columns_flag({**told, **like}, form)}"]
    return Checked(str(path), kind, kind_of(path, form), ours, unread, facts, said)


def _kind(path: Path, form: TableFormat) -> str:
    """Return what a table is by its columns: interactions where that is not plain."""
    names = [*form.columns] if form.by_place else table_names(path, form)
    found = {*form.columns, *(meaning(name) for name in names)}
    if "user_id" in found and not {"item_id", "timestamp"} & found:
        return "users"
    return "items" if "item_id" in found and not {"user_id", "timestamp"} & found else "interactions"


def _interactions(path: Path, form: TableFormat) -> tuple[dict[str, Any], list[str]]:
    unread = unread_names(path, form, COLUMNS)
    worth = values(unread)
    table = read_table(path, COLUMNS, [*COLUMNS, *worth], ["timestamp", *worth], form)
    interactions = Interactions.from_table(table, str(path), form.time_format)
    times = np.asarray(timestamp_column(table, "timestamp", str(path), form.time_format))
    found = repeats(interactions)
    lengths = np.diff(interactions.user_starts())
    start, end = times.min().item(), times.max().item()
    counts = np.asarray(pc.value_counts(one_array(interactions.table["item_id"])).field("counts"))
    facts = {
        "rows": len(interactions),
        "users": len(lengths),
        "items": len(counts),
        "time": period(start, end),
        "time_unit": time_unit(start, end),
        "oldest": start,
        "newest": end,
        "in_order_of_time": bool(np.all(times[1:] >= times[:-1])),
        "duplicate_rows": found.duplicates,
        "items_met_again": found.again,
        "ties_in_time": found.ties,
        "shortest_history": int(lengths.min()),
        "median_history": float(np.median(lengths)),
        "longest_history": int(lengths.max()),
        "users_with_one_row": int((lengths == 1).sum()),
        "users_with_two_rows": int((lengths == 2).sum()),
        "items_met_once": int((counts == 1).sum()),
    }
    facts |= {f"column {name}": _counted(one_array(table[name])) for name in worth}
    said = remarks(interactions, unread, found)
    if alone := facts["users_with_one_row"]:
        said.append(f"users with a single row: {alone:,}; they are learned from, and nothing of them is predicted")
    said += _ids(interactions.table["user_id"], "user") + _ids(interactions.table["item_id"], "item")
    return facts, said


def _items(path: Path, form: TableFormat) -> tuple[dict[str, Any], list[str]]:
    table = read_items(path, form)
    facts: dict[str, Any] = {"rows": table.num_rows}
    said = _ids(table["item_id"], "item")
    if "title" in table.column_names:
        facts["without_title"] = pc.sum(pc.equal(table["title"], "")).as_py()
    if "sets" in table.column_names:
        names = one_array(table["sets"]).flatten()
        facts["named_sets"] = len(pc.unique(names))
        facts["without_sets"] = pc.sum(pc.equal(pc.list_value_length(table["sets"]), 0)).as_py()
    for name in {"codes", "vector"} & {*table.column_names}:
        facts[f"width_of_{name}"] = len(table[name][0])
    if "live" in table.column_names:
        facts["withdrawn"] = pc.sum(pc.invert(table["live"])).as_py()
    if not {"title", "sets", "vector"} & {*table.column_names}:
        said.append("nothing but ids: a new item needs a title, sets or a vector")
    return facts, said


def _users(path: Path, form: TableFormat) -> tuple[dict[str, Any], list[str]]:
    users = read_users(path, form=form)
    facts: dict[str, Any] = {"rows": len(users)}
    for name in dict.fromkeys(name for user in users.values() for name in user):
        known = [user[name] for user in users.values() if name in user]
        numbers = not isinstance(known[0], str | bool)
        what = f"{min(known)} to {max(known)}" if numbers else f"{len(set(known)):,} values"
        facts[f"field {name}"] = f"{what}, {len(users) - len(known):,} missing"
    return facts, _ids(pa.chunked_array([pa.array(list(users))]), "user")


def _counted(column: pa.Array) -> str:
    """Return how often each value of a column stands there, or from what to what they go."""
    counts = pc.value_counts(column)
    if len(counts) <= MOST_VALUES:
        some = sorted(((str(c["values"]), c["counts"].as_py()) for c in counts), key=lambda pair: pair[0])
        return ", ".join(f"{value}: {count:,}" for value, count in some)
    if pa.types.is_string(column.type):
        return f"{len(counts):,} values"
    ends = pc.min_max(column)
    return f"{ends['min']} to {ends['max']}"


def _ids(column: pa.ChunkedArray, what: str) -> list[str]:
    """Return what is odd about ids: some that may be one and the same, some that may mean that there is none."""
    ids = pc.unique(one_array(column))
    said = []
    plain = pc.utf8_lower(pc.utf8_trim_whitespace(ids))
    for how, form in {
        "in case or spaces": plain,
        "in leading zeros or .0": pc.replace_substring_regex(plain, r"^0+([0-9])|\.0$", r"\1"),
    }.items():
        if pair := _pair(ids, form):
            said.append(f"{what} ids differ {how} alone, such as {pair[0]!r} and {pair[1]!r}")
            break
    odd = ids.filter(pc.is_in(plain, pa.array(MISSING)))
    if len(odd):
        rows = pc.sum(pc.is_in(column, odd)).as_py()
        said.append(f"rows with the {what} id {odd[0].as_py()!r}: {rows:,}; does it mean that there is none?")
    return said


def _pair(ids: pa.Array, form: pa.Array) -> Sequence[str]:
    """Return two of the distinct ids that have one and the same form; nothing where there are none."""
    counts = pc.value_counts(form)
    twice = counts.filter(pc.greater(counts.field("counts"), 1))
    return ids.filter(pc.equal(form, twice[0]["values"])).to_pylist()[:2] if len(twice) else ()
