"""What to do about a table whose columns are not ours: which of its columns look like them, and the flags to type."""

import csv
import re
import shlex
from collections.abc import Collection, Mapping, Sequence

from octorec.data.table_format import SEPARATORS, TableFormat

ALIASES = {  # how others name a column, in lower case, letters and digits alone
    "user_id": "userid user uid users visitorid customerid customer memberid reviewerid accountid userno playerid"
    " sessionid session clientid profileid buyerid",
    "item_id": "itemid item iid items movieid movie productid product asin parentasin bookid book trackid songid"
    " articleid videoid newsid gameid businessid sku isbn contentid artistid recipeid goodsid listingid postid",
    "timestamp": "timestamp time ts date datetime eventtime createdat unixreviewtime reviewtime unixtime"
    " ratingtimestamp ratedat reviewdate eventtimestamp clickedat purchasedat orderdate when",
    "title": "title name itemname producttitle movietitle productname",
    "sets": "sets genres genre category categories tags maincategory",
    "vector": "vector embedding embeddings vectors emb",
    "live": "live active available instock",
}
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
DATE = r"[0-9]{4}[-/.][0-9]{1,2}[-/.][0-9]{1,2}|[0-9]{1,2}[-/.][0-9]{1,2}[-/.][0-9]{4}"
TIME = re.compile(rf"[0-9]{{9,19}}(\.[0-9]+)?|({DATE})([ T,].*)?")
EXCEL = re.compile(r'"?sep=.')


def meaning(name: str) -> str | None:
    """Which of our columns a column's name stands for; None where that is not plain. `userId`, `user_id:token`."""
    plain = re.sub(r"[^a-z0-9]", "", name.split(":")[0].lower())
    return next((ours for ours, names in ALIASES.items() if plain in names.split()), None)


def guessed_columns(names: Sequence[str], wanted: Collection[str]) -> dict[str, str]:
    """Our name -> the one of `names` that stands for it, for those of `wanted` that are not there."""
    found: dict[str, str] = {}
    for ours in wanted:
        like = [name for name in names if meaning(name) == ours]
        if ours not in names and len(like) == 1:
            found[ours] = like[0]
    return found


def guessed_places(values: Sequence[str], wanted: Sequence[str]) -> dict[str, str]:
    """Our name -> a place of a row of `values`: the ids' the first, and the timestamp's one that holds a time."""
    times = [place for place, value in enumerate(values) if TIME.fullmatch(value.strip())]
    time = times[-1] if times else len(values) - 1
    rest = iter([place for place in range(len(values)) if place != time or "timestamp" not in wanted])
    places = {ours: time if ours == "timestamp" else next(rest, None) for ours in wanted}
    return {ours: str(place) for ours, place in places.items() if place is not None}


def is_row(values: Sequence[str]) -> bool:
    """Whether a first line is a row and no header: some of it is numbers or times, and none of it names a column."""
    some = any(NUMBER.fullmatch(value.strip()) or TIME.fullmatch(value.strip()) for value in values)
    return some and not any(map(meaning, values))


def advice(
    line: str, names: Sequence[str], missing: Collection[str], required: Sequence[str], form: TableFormat
) -> str:
    """What to type where a CSV lacks the columns `missing`; its first line is `line`. "" where it is not known.

    names: what that line gave. form: how it was read.
    """
    if EXCEL.match(line):
        return f"remove the first line, {line.strip()!r}"
    flags = []
    split = {mark: next(csv.reader([line], delimiter=mark), []) for mark in SEPARATORS if len(mark) == 1}
    split["::"] = line.split("::")
    best = max(split, key=lambda mark: (mark == "::" and len(split["::"]) > 1, worth(split[mark], required)))
    if len(names) < len(required) and len(split[best]) > len(names):
        named = {"\t": "tab", " ": "space"}.get(best, best)
        flags.append(f"this looks separated by {named!r}: --sep {shlex.quote(named)}")
        names = split[best]
    columns = _columns(names, missing, required, form, bool(flags))
    return " ".join([*flags, *columns])


def _columns(
    names: Sequence[str], missing: Collection[str], required: Sequence[str], form: TableFormat, after: bool
) -> list[str]:
    if is_row(names) and len(names) >= len(required) and not form.by_place:
        why = [] if after else ["its first line looks like a row and no header, so name places from 0, such as"]
        return [*why, columns_flag(guessed_places(names, required), form)]
    guessed = guessed_columns(names, missing)
    whole = {**{ours: str(name) for ours, name in form.columns.items() if ours not in missing}, **guessed}
    if not guessed:
        return []
    return ([] if after else ["did you mean"]) + [columns_flag(whole, form)]


def worth(values: Sequence[str], required: Collection[str]) -> tuple[int, int]:
    """How likely it is that a separator is the right one: columns that are known, and columns."""
    known = sum(value in required or meaning(value) is not None for value in values)
    return known, len(values)


def columns_flag(columns: Mapping[str, str], form: TableFormat) -> str:
    """`--columns user_id=uid,item_id=movie`, as a shell takes it."""
    prefix = f"{form.beside}." if form.beside else ""
    return "--columns " + shlex.quote(",".join(f"{prefix}{ours}={name}" for ours, name in columns.items()))
