"""A model of several domains answers from one catalog each, which the prompt's begin token chooses."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from octorec.catalog.catalog import Catalog
from octorec.catalog.domain_paths import DOMAINS, within
from octorec.catalog.domain_paths import domain_paths as domain_paths
from octorec.catalog.domain_paths import domains_of as domains_of
from octorec.catalog.foreign import open_catalog
from octorec.errors import InputError


def read_domains(
    given: str | Path | Mapping[str, str | Path],
    codebook_sizes: Sequence[int] | None = None,
    levels: Sequence[np.ndarray] | None = None,
) -> dict[str, Catalog]:
    """Return the catalog of each domain, read as `foreign.open_catalog` does; one file of two domains is read once.

    given: paths by domain, or one path, as `domain_paths` reads it. Raises InputError where there is none.
    """
    paths = (
        {domain: Path(path) for domain, path in given.items()} if isinstance(given, Mapping) else within(Path(given))
    )
    if not paths:
        raise InputError(
            "catalog", str(given), f"has no catalog of a domain: names are such as {', '.join(DOMAINS)[2:]}"
        )
    catalogs = {path: open_catalog(path, codebook_sizes, levels) for path in dict.fromkeys(paths.values())}
    return {domain: catalogs[path] for domain, path in paths.items()}
