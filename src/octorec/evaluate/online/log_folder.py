"""Read a log's folder: files of lines and Parquet, of living and dead processes, on this host or copied here."""

import contextlib
import fcntl
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from octorec.data.tables import readable
from octorec.errors import InputError
from octorec.evaluate.online.log_file import LINES, NOTE, PARQUET, left, read_lines
from octorec.evaluate.online.log_lines import Head, parse_head
from octorec.reading import folder_names

OWN = re.compile(r".*-\d+-[0-9a-f]{8}-\d+(\.jsonl|\.parquet)")  # the name of a log's file


@dataclass(frozen=True)
class LogRows:
    """LogRows are the rows of a log's folder.

    table: all rows, doubles among them, with the columns that were asked for.

    lost: rows that never were written, as their processes counted them. torn: lines that cannot be read. killed:
    processes that did not close their files.
    """

    table: pa.Table
    lost: int
    torn: int
    killed: int


def read_log(folder: str | Path, schema: pa.Schema, columns: Collection[str] | None = None) -> LogRows:
    """Read the rows of a folder that `log.RowLog` writes or wrote, while it is written too; folders
    within are read as well.

    columns: None for all of the schema. Raises InputError, which names the file, for one that is no log's or is broken.
    """
    folder = Path(folder)
    folder_names(folder, "log", "must be a folder of logs")
    wanted = pa.schema([schema.field(name) for name in (schema.names if columns is None else columns)])
    tables: list[pa.Table] = [wanted.empty_table()]
    heads: dict[str, Head] = {}
    for stem in log_stems(folder):
        some, head = _read_stem(stem, schema, wanted)
        tables += some
        if head is not None:  # a file and its copy have one name: take the one that knows more
            heads[head.name] = max(head, heads.get(head.name, head), key=lambda one: (one.lost, one.torn, one.closed))
    killed = len({head.name.rpartition("-")[0] for head in heads.values() if not head.closed})
    lost, torn = sum(head.lost for head in heads.values()), sum(head.torn for head in heads.values())
    return LogRows(pa.concat_tables(tables), lost, torn, killed)


def is_log(folder: Path) -> bool:
    """Tell whether a folder holds what a `RowLog` wrote, or nothing at all; other folders may be tables."""
    if not folder.is_dir():
        return False
    files = [path for path in folder.rglob("*") if path.is_file() and not _is_hidden(path, folder)]
    return not files or any(OWN.fullmatch(path.name) for path in files)


def log_stems(folder: Path) -> list[Path]:
    """Return the log files below a folder, without their endings, in order; another file's name is an InputError.

    While lines are made Parquet a listing may miss both, the next one does not; so two are taken.
    """
    found = {path for _ in range(2) for path in folder.rglob("*") if not _is_hidden(path, folder)}
    for path in sorted(found):
        if path.suffix not in (LINES, PARQUET) and not path.is_dir():
            raise InputError(str(path), path.name, f"is no log: must end in {LINES} or {PARQUET}, or lie elsewhere")
    return sorted({path.with_suffix("") for path in found if path.suffix in (LINES, PARQUET)})


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _read_stem(stem: Path, schema: pa.Schema, wanted: pa.Schema) -> tuple[list[pa.Table], Head | None]:
    """Read Parquet where there is any, which has all that the lines have; it may come while the lines
    are looked for.
    """
    readers = ((PARQUET, _read_parquet), (LINES, _read_lines), (PARQUET, _read_parquet))
    for ending, read in readers:
        with contextlib.suppress(FileNotFoundError):
            return read(stem.with_name(stem.name + ending), schema, wanted)
    raise InputError(str(stem), "no file", "was removed while it was read")


def _read_parquet(path: Path, schema: pa.Schema, wanted: pa.Schema) -> tuple[list[pa.Table], Head | None]:
    with path.open("rb") as opened, readable(path):
        file = pyarrow.parquet.ParquetFile(opened, page_checksum_verification=True)
        if set(file.schema_arrow.names) != set(schema.names):
            names = ", ".join(schema.names)
            raise InputError(f"{path}: columns", file.schema_arrow.names, f"must be those of its log: {names}")
        note = (file.metadata.metadata or {}).get(NOTE)
        head = None if note is None else parse_head(note, str(path), schema)
        table = file.read(columns=wanted.names).select(wanted.names).cast(wanted)
        table.validate(full=True)
        return [table], head


def _read_lines(path: Path, schema: pa.Schema, wanted: pa.Schema) -> tuple[list[pa.Table], Head | None]:
    with path.open("rb") as file, readable(path), left(file, path, fcntl.LOCK_SH) as is_left:
        head, parts = read_lines(file, path, schema, growing=not is_left)
        tables, torn = _selected(parts, wanted)
        if head is None:
            return [], None
        return tables, Head(head.name, head.columns, head.lost, head.closed or not is_left, torn)


def _selected(parts: Iterator[tuple[list[pa.Table], int]], wanted: pa.Schema) -> tuple[list[pa.Table], int]:
    tables, torn = [], 0
    for some, bad in parts:
        torn += bad
        tables += [table.select(wanted.names) for table in some]
    return tables, torn
