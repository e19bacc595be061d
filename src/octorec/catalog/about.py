"""The file catalog.json says what is in its folder."""

from pathlib import Path
from typing import Any

from octorec.errors import InputError
from octorec.files import read_json
from octorec.formats import CATALOG, CATALOG_FILES
from octorec.reading import require_folder

ABOUT_FILE = CATALOG_FILES[0]
ABOUT = {  # keys of catalog.json
    "fingerprint": str,
    "codebook_sizes": list,
    "levels": int,
    "n_items": int,
    "version": str,
    "given_vectors": bool,
    "unique": bool,
    "attributes": bool,
}
OPTIONAL = (CATALOG.key, "learned", "extends", "as_given")  # keys that older catalogs lack


def read_about(folder: Path) -> dict[str, Any]:
    """Read catalog.json: every key there and of its type, else an InputError."""
    require_folder(folder, "catalog", ABOUT_FILE)
    path = folder / ABOUT_FILE
    about = read_json(path, "catalog")
    CATALOG.check(str(path), about)
    known = (*ABOUT, *OPTIONAL)
    unknown = sorted(set(about) - set(known))
    if unknown:
        raise InputError(str(path), unknown[0], f"unknown key; known: {', '.join(known)}")
    for key, kind in ABOUT.items():
        _check_type(f"{path}: {key}", about.get(key), kind)
    for flag in ("extends", "as_given"):
        _check_type(f"{path}: {flag}", about.get(flag, False), bool)
    for size in about["codebook_sizes"]:
        _check_type(f"{path}: codebook_sizes", size, int)
    return about


def _check_type(where: str, value: Any, kind: type) -> None:
    if type(value) is not kind:
        raise InputError(where, value, f"must be of type {kind.__name__}")
