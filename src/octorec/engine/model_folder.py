"""A look at the folders that an engine is loaded from, which takes a moment and imports no torch."""

from pathlib import Path
from typing import Any

from octorec.catalog.about import ABOUT_FILE
from octorec.errors import InputError
from octorec.models.checkpoint_folder import require_checkpoint
from octorec.reading import require_folder

CATALOG = "catalog"


def require_model(checkpoint: Any, catalog: Any = None, field: str = "checkpoint") -> None:
    """Refuse paths that hold no checkpoint or no catalog, with an InputError that says what was found.

    catalog: its folder; None for the one inside the checkpoint's folder.
    """
    require_checkpoint(checkpoint, field)
    if catalog is None:
        if not Path(checkpoint, CATALOG).exists():
            allowed = f"has no folder {CATALOG!r}: name a catalog (in Python catalog=, on the command line --catalog)"
            raise InputError(field, str(checkpoint), allowed)
        catalog = Path(checkpoint, CATALOG)
    require_catalog(catalog)


def require_catalog(path: Any, field: str = "catalog") -> None:
    """Refuse what is no folder of a catalog."""
    require_folder(path, field, ABOUT_FILE)


def catalog_within(path: Path) -> Path:
    """The catalog's folder of a checkpoint, where `path` is one; else `path`."""
    return path / CATALOG if (path / CATALOG / ABOUT_FILE).is_file() else path
