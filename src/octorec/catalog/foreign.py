"""A catalog is read from a file that another project made, whichever of the known kinds it is (`foreign_kinds`)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from octorec.catalog.catalog import Catalog
from octorec.catalog.foreign_kinds import kind_of
from octorec.catalog.index_json import read_index
from octorec.catalog.info_text import read_info
from octorec.catalog.pid2sid import read_pid2sid
from octorec.catalog.sid2pid import read_sid2pid
from octorec.catalog.sid_rows import catalog_of, check_fitting
from octorec.catalog.token_lines import read_token_lines
from octorec.catalog.tokens import check_tokens
from octorec.errors import InputError

INDEX = ".index.json"


def open_catalog(
    path: str | Path, codebook_sizes: Sequence[int] | None = None, levels: Sequence[np.ndarray] | None = None
) -> Catalog:
    """Return the catalog of a folder (`Catalog.load`), or of a file that another project made (`read`)."""
    return Catalog.load(path) if Path(path).is_dir() else read(path, codebook_sizes, levels)


def read(
    path: str | Path, codebook_sizes: Sequence[int] | None = None, levels: Sequence[np.ndarray] | None = None
) -> Catalog:
    """Return the catalog of a file of semantic IDs, without a codebook; its kind is told by its content.

    codebook_sizes: those of the model that answers; None takes the lengths of `levels`, else each level's largest
    code + 1. levels: the token id of each code of a level (`SidTokens.levels`), -1 where there is none: every code of
    an item must have one.
    Raises InputError, which names file, key or row, for what no kind allows.
    """
    if codebook_sizes is None and levels is not None:
        codebook_sizes = [len(tokens) for tokens in levels]
    catalog = _read(Path(path), codebook_sizes, levels)
    if levels is not None:
        check_tokens(catalog, levels, str(path))
    return catalog


def import_catalog(
    path: str | Path,
    items: pa.Table | None = None,
    codebook_sizes: Sequence[int] | None = None,
    base: Catalog | None = None,
) -> Catalog:
    """Return the catalog of a file, as `read`; of an .index.json with what `read_index` takes.

    An InputError where another kind of file is given with either.
    """
    if items is None and base is None:
        return read(path, codebook_sizes)
    if kind_of(path, "index") == "index":
        return read_index(path, items, codebook_sizes, base)
    given = "items" if base is None else "base"
    raise InputError(
        given, "a value", "goes with an .index.json alone; `catalog upsert` adds titles and sets afterwards"
    )


def _read(path: Path, sizes: Sequence[int] | None, levels: Sequence[np.ndarray] | None) -> Catalog:
    match kind_of(path):
        case "index":
            return _with_titles(path, sizes)
        case "sid2pid":
            rows = read_sid2pid(path)
        case "parquet":
            rows = read_pid2sid(path)
        case "lines":
            rows = read_token_lines(path, levels)
        case "info":
            rows = read_info(path)
    return catalog_of(rows, sizes)


def _with_titles(path: Path, sizes: Sequence[int] | None) -> Catalog:
    """Return the catalog of an index, with the titles of MiniOneRec's info file where there is one of its name."""
    plain = read_index(path)
    check_fitting(plain.codes, plain.codebook_sizes if sizes is None else sizes, str(path))
    info = info_beside(path)
    if info is None:
        return plain if sizes is None else Catalog.of_items(plain.items, sizes)
    rows = read_info(info)
    places = plain.places(rows.ids.to_pylist())
    wrong = np.flatnonzero((places >= 0) & (rows.codes != plain.codes[places]).any(1))
    if len(wrong):
        item, codes = rows.ids[int(wrong[0])].as_py(), rows.codes[wrong[0]].tolist()
        allowed = f"{path.name} has {plain.codes[places[wrong[0]]].tolist()}: the two must be of one run"
        raise InputError(f"{info}: SID of item {item!r}", codes, allowed)
    titles = np.array(plain.titles, object)
    assert rows.titles is not None
    titles[places[places >= 0]] = np.array(rows.titles.to_pylist(), object)[places >= 0]
    column = plain.items.column_names.index("title")
    items = plain.items.set_column(column, "title", pa.array(titles, pa.string()))
    return Catalog.of_items(items, plain.codebook_sizes if sizes is None else sizes)


def info_beside(path: str | Path) -> Path | None:
    """Return the info file of an index: `NAME*.txt` beside NAME.index.json, or in the folder `info` beside its own.

    None where there is none. Raises InputError where there are several.
    """
    path = Path(path)
    name = path.name.removesuffix(INDEX)
    if name == path.name:
        return None
    folders = (path.parent, path.parent.parent / "info")
    found = [file for folder in folders if folder.is_dir() for file in sorted(folder.iterdir())]
    found = [file for file in found if file.name.startswith(name) and file.suffix == ".txt" and file.is_file()]
    if len(found) > 1:
        raise InputError(f"{path}: info", ", ".join(str(file) for file in found), "must be one file: move the others")
    return found[0] if found else None
