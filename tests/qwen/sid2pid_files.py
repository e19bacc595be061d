"""Catalogs as sid2pid.json files, of some of a made folder's items, whose ids are numbers of their own."""

import json
from pathlib import Path

from octorec.catalog.catalog import Catalog


def sid2pid(path: Path, catalog: Catalog, places: range, first: int) -> Path:
    """Write the items at `places` of a catalog with the ids `first`, `first` + 1, ..."""
    entries: dict[str, list[dict[str, int]]] = {}
    for number, place in enumerate(places):
        a, b, c = map(int, catalog.codes[place])
        entry = {"pid": first + number, "count": 9, "count_after_downsample": 3}
        entries.setdefault(str(a * 8192**2 + b * 8192 + c), []).append(entry)
    path.write_text(json.dumps(entries))
    return path
