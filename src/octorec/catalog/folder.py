"""A catalog's folder has files that are read and written together.

`catalog.json`, `items.parquet` (item_id, title, codes, sets, live, maybe interactions, in code order),
`codebook.safetensors` (not where the codes came from elsewhere) and `attributes.parquet` (where items have attributes).
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from octorec.catalog.about import ABOUT_FILE, read_about
from octorec.catalog.attributes import AttributeMap
from octorec.catalog.codebook import Codebook
from octorec.data.items import read_items
from octorec.data.learned import Learned
from octorec.errors import InputError, MismatchError
from octorec.files import is_own_file
from octorec.formats import CATALOG, CATALOG_FILES
from octorec.output.write import new_folder

_, ITEMS, CODEBOOK, ATTRIBUTES = CATALOG_FILES
COMPARED = ("levels", "n_items", "fingerprint", "version", "attributes")  # keys that must be as the files say


@dataclass(frozen=True)
class CatalogFiles:
    """CatalogFiles are what the files of a catalog's folder hold, each checked alone.

    about: the object in catalog.json.
    """

    folder: Path
    about: dict[str, Any]
    items: pa.Table
    codebook: Codebook | None
    attribute_map: AttributeMap | None
    learned: Learned | None


def write_folder(
    folder: str | Path,
    about: Mapping[str, Any],
    items: pa.Table,
    codebook: Codebook | None,
    attribute_map: AttributeMap | None,
    force: bool,
) -> None:
    """Write a catalog's folder; an existing one is an InputError unless `force`, which replaces it as a whole."""
    with new_folder(folder, force) as new:
        (new / ABOUT_FILE).write_text(json.dumps({**CATALOG.stamp(), **about}, indent=1))
        pyarrow.parquet.write_table(items, new / ITEMS)
        if codebook:
            codebook.save(new / CODEBOOK)
        if attribute_map:
            attribute_map.save(new / ATTRIBUTES)


def read_folder(folder: str | Path) -> CatalogFiles:
    """Read what `write_folder` wrote: an InputError for a damaged or foreign folder."""
    folder = Path(folder)
    for name in CATALOG_FILES:
        if os.path.lexists(folder / name) and not is_own_file(folder / name):
            raise InputError(str(folder / name), "a pipe or a link", "must be a regular file of its folder")
    about = read_about(folder)
    codebook = attribute_map = None
    if (folder / CODEBOOK).exists():
        codebook = Codebook.load(folder / CODEBOOK)
    if (folder / ATTRIBUTES).exists():
        attribute_map = AttributeMap.load(folder / ATTRIBUTES)
    items = read_items(folder / ITEMS)
    record = about.get("learned")
    learned = None if record is None else Learned.from_dict(f"{folder / ABOUT_FILE}: learned", record)
    return CatalogFiles(folder, about, items, codebook, attribute_map, learned)


def check_belonging(files: CatalogFiles, made: Mapping[str, Any]) -> None:
    """Raise MismatchError unless the files go together.

    made: what catalog.json would say of the catalog that is made of them.
    """
    folder, about, codebook, attribute_map = files.folder, files.about, files.codebook, files.attribute_map
    if about.get("extends") and codebook:
        raise MismatchError(f"{folder}: extends", True, "a catalog with a codebook has the codebook's fingerprint")
    if codebook and codebook.sizes != made["codebook_sizes"]:
        allowed = f"catalog.json says {made['codebook_sizes']}"
        raise MismatchError(f"{folder / CODEBOOK}: sizes", codebook.sizes, allowed)
    if attribute_map and not (codebook and len(attribute_map.bias) == codebook.width):
        allowed = "as wide as the codebook's centroids"
        raise MismatchError(f"{folder / ATTRIBUTES}: width", len(attribute_map.bias), allowed)
    for key in COMPARED:
        if about[key] != made[key]:
            allowed = f"catalog.json says {about[key]!r}: copy the folder as a whole"
            raise MismatchError(f"{folder}: {key}", made[key], allowed)
