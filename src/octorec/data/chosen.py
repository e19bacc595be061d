"""Choose which columns of a file are ours: by their names, or as the user says; what does not fit is
refused by name.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol

from octorec.data.csv_file import CsvFile
from octorec.data.hints import advice, columns_flag, meaning, told_and_guessed
from octorec.data.table_format import TableFormat
from octorec.errors import InputError


class NamedFile(Protocol):
    """A NamedFile holds what a file of a table says of its columns."""

    @property
    def path(self) -> Path: ...
    @property
    def names(self) -> list[str]: ...


def chosen_columns(
    file: NamedFile, required: Collection[str], known: Collection[str] | None, form: TableFormat
) -> dict[str, str]:
    """Return our name -> the file's, for those of the `known` columns (None: all) that the file has.

    Refused are: a name of `form` that the file lacks, a name that stands twice, one that differs from ours in case or
    spaces alone, and the lack of one `required`.
    """
    chosen = _as_told(file, known, form)
    told = set(chosen.values())
    _check_alike(file, told, {*required, *(known or ())}, form)
    for name in [] if form.by_place else file.names:
        if name not in told and name not in form.columns and (known is None or name in known):
            chosen[name] = name
    _check_twice(file, chosen)
    _check_header(file, chosen, form)
    missing = [name for name in required if name not in chosen]
    if missing:
        raise InputError(_where(file), file.names, _what_to_do(file, missing, list(required), known or (), form))
    return chosen


def _as_told(file: NamedFile, known: Collection[str] | None, form: TableFormat) -> dict[str, str]:
    chosen = {}
    for ours, told in form.columns.items():
        if known is not None and ours not in known:
            continue
        name = str(told)
        like = [n for n in file.names if n == name] or [n for n in file.names if n.strip() == name.strip()]
        if like:
            chosen[ours] = like[0]
        elif not (ours in form.optional and ours in file.names):
            how = (
                f"places go from 0 to {len(file.names) - 1}"
                if file.names[0] == "0"
                else f"found: {', '.join(file.names)}"
            )
            raise InputError(f"columns: {ours}", name, f"{file.path} has no such column; {how}")
        else:
            chosen[ours] = ours
    return chosen


def _check_twice(file: NamedFile, chosen: dict[str, str]) -> None:
    twice = sorted(name for name in chosen.values() if file.names.count(name) > 1)
    if twice:
        raise InputError(_where(file), file.names, f"each name may stand once; duplicated: {', '.join(twice)}")


def _check_alike(file: NamedFile, told: Collection[str], ours: Collection[str], form: TableFormat) -> None:
    for name in file.names:
        meant = "_".join(name.replace("_", " ").lower().split())
        if meant in ours and meant not in file.names and meant not in form.columns and name not in told:
            flag = told_and_guessed(file.names, [meant], ours, form) or columns_flag({meant: name}, form)
            raise InputError(_where(file), file.names, f"rename {name!r} to {meant!r}, or {flag}")


def _check_header(file: NamedFile, chosen: dict[str, str], form: TableFormat) -> None:
    """Refuse places where the first line is a header after all."""
    if not (isinstance(file, CsvFile) and form.by_place and not file.header):
        return
    names = {ours: file.first[int(place)] for ours, place in chosen.items()}
    if names and all(meaning(name) == ours for ours, name in names.items()):
        allowed = f"is a header, so name columns by it: {columns_flag(names, form)}"
        raise InputError(f"{file.path}: first line", file.lines[0][:200], allowed)


def _what_to_do(
    file: NamedFile, missing: Sequence[str], required: Sequence[str], known: Collection[str], form: TableFormat
) -> str:
    said = f"column {missing[0]} is missing"
    if f"/{missing[0]}=" in file.path.as_posix():
        return f"{said}: the names of folders are not read, so write the table without partitions"
    told = {ours: str(name) for ours, name in form.columns.items()}
    if not [name for name in file.names if name not in required and name not in told.values()]:
        return f"{said}, and there is no other column that could be it"
    if isinstance(file, CsvFile):
        todo = advice(file.lines, file.names, required, known, form)
    elif flag := told_and_guessed(file.names, required, known, form):
        todo = f"did you mean {flag}"
    else:
        todo = ""
    open_ = dict.fromkeys(missing, "NAME")
    return f"{said}: {todo or f'say which one it is: {columns_flag({**told, **open_}, form)}'}"


def _where(file: NamedFile) -> str:
    return f"{file.path}: columns"
