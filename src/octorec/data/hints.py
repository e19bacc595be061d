"""Say what to do about a table whose columns are not ours: which of its columns look like them, and
the flags to type.
"""

import csv
import re
import shlex
from collections.abc import Collection, Mapping, Sequence

from octorec.data.table_format import SEPARATORS, TableFormat

ALIASES = {  # how others name a column, in lower case, letters and digits alone
    "user_id": "userid user uid users visitorid customerid customer memberid reviewerid accountid userno playerid"
    " sessionid session clientid buyer client viewerid visitor profileid buyerid",
    "item_id": "itemid item iid items movieid movie productid product asin parentasin bookid book trackid songid"
    " articleid videoid newsid gameid businessid sku isbn contentid artistid recipeid goodsid listingid postid pid sid",
    "timestamp": "timestamp time ts date datetime eventtime createdat unixreviewtime reviewtime unixtime"
    " ratingtimestamp tsms timestampms timems ratedat reviewdate day ratingdate eventtimestamp clickedat purchasedat"
    " orderdate when",
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
    """Return which of our columns a column's name, such as `userId` or `user_id:token`, stands for;
    None where that is not plain.
    """
    plain = re.sub(r"[^a-z0-9]", "", name.split(":")[0].lower())
    return next((ours for ours, names in ALIASES.items() if plain in names.split()), None)


def guessed_columns(names: Sequence[str], wanted: Collection[str]) -> dict[str, str]:
    """Return our name -> the one of `names` that stands for it, for those of `wanted` that are not there."""
    found: dict[str, str] = {}
    for ours in wanted:
        like = [name for name in names if meaning(name) == ours]
        if ours not in names and len(like) == 1:
            found[ours] = like[0]
    return found


def guessed_places(values: Sequence[str], wanted: Sequence[str]) -> dict[str, str]:
    """Return our name -> a place of a row of `values`: the ids' the first, and the timestamp's one
    that holds a time.
    """
    times = [place for place, value in enumerate(values) if TIME.fullmatch(value.strip())]
    time = times[-1] if times else len(values) - 1
    rest = iter([place for place in range(len(values)) if place != time or "timestamp" not in wanted])
    places = {ours: time if ours == "timestamp" else next(rest, None) for ours in wanted}
    return {ours: str(place) for ours, place in places.items() if place is not None}


def is_row(values: Sequence[str]) -> bool:
    """Tell whether a first line is a row and no header: some of it is numbers or times, and none of it
    names a column.
    """
    some = any(NUMBER.fullmatch(value.strip()) or TIME.fullmatch(value.strip()) for value in values)
    return some and not any(map(meaning, values))


def advice(
    lines: Sequence[str], names: Sequence[str], required: Sequence[str], known: Collection[str], form: TableFormat
) -> str:
    """Return what to type where a CSV lacks some of the columns `required`; "" where nothing is known to be.

    lines: the CSV's first ones. names: what the first gave, read as `form` says. known: columns that it may have too.
    """
    line = lines[0]
    if EXCEL.match(line):
        return f"remove the first line, {line.strip()!r}"
    if line.lstrip()[:1] in ("{", "["):
        return "this looks like JSON: the name of JSON lines, an object a line, ends in .jsonl"
    if header := later_header(lines):
        return f"line {header} looks like the header: remove what stands before it"
    flags = []
    best = likely_separator(line, required)
    values = split(line, best)
    if len(names) < len(required) <= len(values):
        flags.append(f"this looks separated by {word(best)!r}: --sep {shlex.quote(word(best))}")
        names = values
    if is_row(names) and len(names) >= len(required) and not form.by_place:
        why = [] if flags else ["its first line looks like a row and no header, so name places from 0, such as"]
        return " ".join([*flags, *why, columns_flag(guessed_places(names, required), form)])
    columns = told_and_guessed(names, required, known, form)
    return " ".join([*flags, *([] if flags or not columns else ["did you mean"]), columns])


def told_and_guessed(names: Sequence[str], required: Collection[str], known: Collection[str], form: TableFormat) -> str:
    """Return the flag with the columns that `form` tells and those that are plain by their names, or ""
    without any of these.

    One `required` that is neither is said to be NAME.
    """
    told = {ours: str(name) for ours, name in form.columns.items()}
    guessed = guessed_columns(names, [ours for ours in (*required, *known) if ours not in told])
    if not guessed:
        return ""
    open_ = {ours: "NAME" for ours in required if ours not in names}
    every = {**open_, **guessed, **told}
    return columns_flag({ours: every[ours] for ours in (*required, *every) if ours in every}, form)


def later_header(lines: Sequence[str]) -> int | None:
    """Return the number of the line that names columns where the first one names none; None where there
    is no such line.
    """
    named = [sum(meaning(name) is not None for name in split(line, likely_separator(line, ()))) for line in lines]
    return next((at + 1 for at, count in enumerate(named) if count > 1), None) if named[0] == 0 else None


def likely_separator(line: str, required: Collection[str]) -> str:
    """Return the separator of a CSV's first line: the one that gives most columns whose names are
    known, else most columns.
    """

    def worth(mark: str) -> tuple[int, bool, int]:
        values = split(line, mark)
        return sum(map(is_named, values)), mark == "::" and len(values) > 1, len(values)

    def is_named(name: str) -> bool:
        return name in required or meaning(name) is not None

    return max(SEPARATORS, key=worth)


def split(line: str, separator: str) -> list[str]:
    """Split a line into its values."""
    return line.split(separator) if len(separator) > 1 else next(csv.reader([line], delimiter=separator), [])


def word(separator: str) -> str:
    """Write a separator as a shell takes it."""
    return {"\t": "tab", " ": "space"}.get(separator, separator)


def columns_flag(columns: Mapping[str, str], form: TableFormat) -> str:
    """Return a flag as a shell takes it, such as `--columns user_id=uid,item_id=movie`; of a table beside interactions,
    what to add to it.
    """
    if form.beside:
        return "--columns ...," + shlex.quote(
            ",".join(f"{form.beside}.{ours}={name}" for ours, name in columns.items())
        )
    return "--columns " + shlex.quote(",".join(f"{ours}={name}" for ours, name in columns.items()))
