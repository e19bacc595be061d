"""Read the `info/*.txt` files of MiniOneRec: lines of SID, title and item id with tabs between them."""

from pathlib import Path

import pyarrow as pa

from octorec.catalog.sid_rows import SidRows
from octorec.catalog.sid_text import text_codes
from octorec.errors import InputError
from octorec.reading import read_text

MOST_BYTES = 2**29
LINE = "must be SID, title and item_id with tabs between them"
ENDS = "has a carriage return inside: lines end with \\n or \\r\\n"


def read_info(path: str | Path) -> SidRows:
    """Return the items of a file, in its order, with their titles; an InputError by line for what is none."""
    path = Path(path)
    sids, titles, ids = [], [], []
    for number, line in enumerate(read_text(path, "catalog", MOST_BYTES).split("\n"), 1):
        if not line.strip():
            continue
        sid, _, rest = line.rstrip("\r").partition("\t")
        title, tab, item = rest.rpartition("\t")  # a title may hold tabs
        if "\r" in line.rstrip("\r"):
            raise InputError(f"{path}: line {number}", line, ENDS)
        if not tab or not item.strip():
            raise InputError(f"{path}: line {number}", line, LINE)
        sids.append(sid.strip())
        titles.append(title.strip())
        ids.append(item.strip())
    if not ids:
        raise InputError(str(path), "no items", "a catalog needs at least one")
    codes = text_codes(pa.array(sids, pa.string()), f"{path}: SIDs")
    return SidRows(path, pa.array(ids, pa.string()), codes, pa.array(titles, pa.string()), id_field="item_id")
