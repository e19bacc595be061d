"""A model's catalogs: one, or one a domain where the model reads tokens."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from octorec.catalog.catalog import Catalog
from octorec.catalog.domains import domain_paths, read_domains
from octorec.catalog.foreign import open_catalog
from octorec.catalog.tokens import check_tokens
from octorec.engine.model_folder import CATALOG
from octorec.errors import InputError
from octorec.models.model import max_tokens
from octorec.models.sid_tokens import SidTokens

Catalogs = str | Path | Catalog | Sequence[str] | Mapping[str, str | Path | Catalog]
ALL = ""  # the domain of a catalog that answers for every one


def open_catalogs(given: Catalogs | None, folder: Path, model: Any) -> dict[str, Catalog]:
    """Return the catalogs of a model by domain, each checked against it; "" is the domain of one that serves all.

    given: as `octorec.load` takes it; None: the catalog inside the checkpoint's `folder`.
    Raises InputError for a domain that the model has no begin token for, several catalogs of a model that reads codes,
    and items with codes that the model's vocabulary has no tokens for.
    """
    if max_tokens(model) is None:
        return {ALL: _only(given, folder, model)}
    sids: SidTokens = model.sids
    found = _of_domains(folder / CATALOG if given is None else given, sids)
    if len({id(catalog) for catalog in found.values()}) == 1 and (not sids.begin or ALL in sids.begin):
        found = {ALL: next(iter(found.values()))}
    for domain, catalog in found.items():
        where = f"catalog of domain {domain}" if domain else "catalog"
        if domain and sids.begin and domain not in sids.begin and ALL not in sids.begin:
            allowed = f"the model has no begin token of it; of {', '.join(sids.begin)} it has: write NAME=PATH"
            raise InputError("catalog: domain", domain, allowed)
        if not len(catalog):
            raise InputError(where, "no item", "must have one item or more")
        check_tokens(catalog, sids.levels, where)
    return found


def _only(given: Catalogs | None, folder: Path, model: Any) -> Catalog:
    if isinstance(given, Catalog):
        return given
    if given is not None and not isinstance(given, str | Path):
        paths = list(given.values()) if isinstance(given, Mapping) else list(given)
        if len(paths) != 1:
            raise InputError("catalog", f"{len(paths)} catalogs", "this model reads codes and has one catalog")
        return _only(paths[0], folder, model)
    return open_catalog(folder / CATALOG if given is None else given, model.codebook_sizes)


def _of_domains(given: Catalogs, sids: SidTokens) -> dict[str, Catalog]:
    if isinstance(given, Catalog):
        return {ALL: given}
    if isinstance(given, Mapping):
        made = {domain: one for domain, one in given.items() if isinstance(one, Catalog)}
        paths = {domain: one for domain, one in given.items() if not isinstance(one, Catalog)}
    else:
        made, paths = {}, {**domain_paths([str(given)] if isinstance(given, str | Path) else given)}
    if not made and not paths:
        raise InputError("catalog", str(given), "holds no catalog that its name says the domain of: write NAME=PATH")
    return {**made, **(read_domains(paths, levels=sids.levels) if paths else {})}
