"""Loading what may be served: checkpoints and catalogs, checked before anybody is answered from them."""

import logging
import os
import re
from pathlib import Path
from typing import Any

from octorec.catalog.catalog import Catalog
from octorec.engine.catalogs import Catalogs
from octorec.engine.engine import Engine
from octorec.engine.load import load
from octorec.engine.model_folder import is_adapter
from octorec.errors import InputError
from octorec.reading import require_file
from octorec.serve.config import ServeConfig

MOST_FILES = 10_000
logger = logging.getLogger(__name__)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
# those of a catalog that requests and answers need
CACHED_PROPERTIES = (
    "version",
    "index",
    "id_hashes",
    "item_ids",
    "titles",
    "live",
    "item_leaf",
    "set_bit",
    "popular_order",
    "n_interactions",
)


def version_folder(root: str | None, setting: str, name: str, field: str = "version") -> Path:
    """Return the folder of version `name` below the root that `setting` names; InputError about `field` otherwise."""
    if root is None:
        raise InputError(setting, None, "is not set: start the server with it to load versions")
    if not NAME.fullmatch(name) or not (Path(root) / name).is_dir():
        raise InputError(field, name[:128], f"must be one of {', '.join(versions(root)) or 'nothing: no folder'}")
    return Path(root) / name


def versions(root: str) -> list[str]:
    """Return the names of the folders below a root; an InputError where there is no such root."""
    if not Path(root).is_dir():
        raise InputError("root", root, "must be a folder whose subfolders are versions")
    return sorted(path.name for path in Path(root).iterdir() if NAME.fullmatch(path.name) and path.is_dir())


def check_files(folder: Path, most: int, field: str) -> None:
    """Refuse a folder with anything but files in it, such as a pipe, which would never be read, or with too many bytes.

    most: bytes of its files together.
    """
    total = count = 0
    for above, _, names in os.walk(folder, followlinks=True):
        for name in names:
            path = Path(above) / name
            total, count = total + require_file(path, f"{field} {folder.name}: {path.relative_to(folder)}"), count + 1
            if total > most:
                raise InputError(field, folder.name, f"has more than max_load_bytes = {most} bytes")
            if count > MOST_FILES:
                raise InputError(field, folder.name, f"has more than {MOST_FILES} files, or a link in a ring")


def load_catalog(folder: Path) -> Catalog:
    """Load a catalog and make every look-up, so that no request waits for it."""
    catalog = Catalog.load(folder)
    prepare(catalog)
    return catalog


def prepare(catalog: Catalog) -> None:
    for name in CACHED_PROPERTIES:
        getattr(catalog, name)


def load_engine(checkpoint: str | Path, catalog: Catalogs | None, config: ServeConfig, own: bool = False) -> Engine:
    """Load an engine and make every look-up of its catalogs; errors are those of `engine.load.load`.

    own: whether the checkpoint is the one that the server was started with, of which `base` may be said.
    """
    options: dict[str, Any] = {**config.engine.of_engine(), "context_module": config.engine.context_module}
    base = config.engine.base if own or is_adapter(checkpoint) else None
    engine = load(checkpoint, catalog, config.engine.device, progress=_logged, base=base, **options)
    for one in (engine, *engine.domains.values()):
        prepare(one.catalog)
    return engine


def _logged(done: int, total: int, what: str = "", /) -> None:
    """Log the Progress of a load."""
    logger.info(what)
