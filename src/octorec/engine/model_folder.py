"""A look at the folders that an engine is loaded from, which takes a moment and imports no torch."""

import stat
from collections.abc import Mapping
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

from octorec.catalog.about import ABOUT_FILE
from octorec.catalog.domain_paths import domain_paths
from octorec.catalog.foreign_kinds import kind_of
from octorec.errors import InputError
from octorec.models.checkpoint_folder import CONFIG, SUFFIX, is_adapter, require_checkpoint
from octorec.models.context_file import CONTEXT_MODULE, require_module_file
from octorec.reading import require_folder, require_there

__all__ = ["CONTEXT_MODULE", "is_adapter", "require_checkpoint", "require_module_file"]  # for serve
CATALOG = "catalog"
CATALOGS = (  # how a flag says it
    "Catalog folder, or a file of semantic IDs such as sid2pid.json; of a model with several domains a folder of "
    "several, or DOMAIN=PATH, repeated; the checkpoint's own if not given."
)
BASE = "Folder of the model that an adapter belongs to."
DIGITS = 12  # hexadecimal digits of a checkpoint's version


def require_model(checkpoint: Any, catalog: Any = None, field: str = "checkpoint") -> None:
    """Refuse paths that hold no checkpoint or no catalog, with an InputError that says what was found.

    catalog: its folder or file, or several as `octorec.load` takes them; None for the one inside the checkpoint.
    """
    require_checkpoint(checkpoint, field)
    if isinstance(catalog, Mapping | list | tuple):
        paths = catalog if isinstance(catalog, Mapping) else domain_paths(catalog)
        for path in paths.values():
            if isinstance(path, str | Path):
                require_catalog(path)
        return
    if catalog is None:
        if not Path(checkpoint, CATALOG).exists():
            allowed = f"has no folder {CATALOG!r}: name a catalog (in Python catalog=, on the command line --catalog)"
            raise InputError(field, str(checkpoint), allowed)
        catalog = Path(checkpoint, CATALOG)
    if not isinstance(catalog, str | Path) or Path(catalog, ABOUT_FILE).exists() or not _holds_several(catalog):
        require_catalog(catalog)


def _holds_several(path: str | Path) -> bool:
    return Path(path).is_dir() and bool(domain_paths([str(path)]))


def require_catalog(path: Any, field: str = "catalog") -> None:
    """Refuse what is neither a folder of a catalog nor a file of semantic IDs (`catalog.foreign_kinds`)."""
    if stat.S_ISREG(require_there(path, field).st_mode):
        kind_of(path, field)
    else:
        require_folder(path, field, ABOUT_FILE)


def catalog_within(path: Path) -> Path:
    """Return the catalog's folder of a checkpoint, where `path` is one; else `path`."""
    return path / CATALOG if (path / CATALOG / ABOUT_FILE).is_file() else path


def checkpoint_version(folder: Path) -> str:
    """Return a checkpoint's name with 12 digits that change with any byte of its config and weights."""
    whole = sha256()
    for path in sorted(folder.iterdir()):
        if path.name == CONFIG or path.name.endswith(SUFFIX):
            with path.open("rb") as file:
                whole.update(f"{path.name}\0{file_digest(file, 'sha256').hexdigest()}\0".encode())
    return f"{folder.name}-{whole.hexdigest()[:DIGITS]}"
