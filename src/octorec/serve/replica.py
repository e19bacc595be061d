"""One replica from its start to its end, whatever runs it."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from octorec.engine.catalogs import Catalogs
from octorec.engine.engine import Engine
from octorec.engine.model_folder import CATALOG
from octorec.errors import InputError
from octorec.serve.config import ServeConfig
from octorec.serve.follower import Follower
from octorec.serve.manifest import Manifest, read_manifest
from octorec.serve.service import Service
from octorec.serve.tokens import Tokens, warn_if_open
from octorec.serve.variants import has_ended, read_variants
from octorec.serve.versions import check_files, load_engine, version_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Started:
    """Started is a service that answers, and what makes it follow a manifest, if there is one."""

    service: Service
    follower: Follower | None

    async def stop(self) -> None:
        """Answer what was accepted, then end."""
        if self.follower is not None:
            await self.follower.stop()
        await self.service.stop()


@dataclass(frozen=True)
class Source:
    """A Source is what a replica may begin with. model, catalog: the manifest's names; None for its own."""

    checkpoint: Path
    catalogs: Catalogs
    model: str | None = None
    catalog: str | None = None


async def started(checkpoint: str, config: ServeConfig, manifest: str | None, name: str) -> Started:
    """Return a service that is ready, from the versions that the manifest wants.

    Where these cannot be served it begins with its own, and says why beside the manifest. Raises what ended loading
    otherwise, and InputError for a manifest that cannot be read: without it, withdrawn items would answer. name: the
    replica's.
    """
    if config.http.token_file is not None:
        Tokens(config.http.token_file)  # refuses a missing file before anything is loaded
        warn_if_open(config.http.token_file)
    if manifest is None:
        return Started(await _ready(_own(checkpoint, config), config), None)
    wanted = read_manifest(manifest)
    if wanted.experiment is not None:
        config = replace(config, ab=replace(config.ab, experiment=wanted.experiment))
    service, source = await _first(checkpoint, config, wanted)
    if service.domains:
        raise InputError("manifest", manifest, "changes one catalog, and this model answers from several")
    follower = Follower(service, manifest, name, wanted)
    follower.model, follower.catalog = source.model, source.catalog
    await follower.start()
    return Started(service, follower)


async def _first(checkpoint: str, config: ServeConfig, wanted: Manifest) -> tuple[Service, Source]:
    """Return a ready service from the first source that gives one."""
    own = _own(checkpoint, config)
    if wanted.model is not None or wanted.catalog is not None:
        try:
            source = _wanted(own, config, wanted)
            return await _ready(source, config), source
        except InputError as error:
            logger.error("what the manifest wants cannot be served", extra={"reason": str(error)})
    return await _ready(own, config), own


async def _ready(source: Source, config: ServeConfig) -> Service:
    """Return a service from one source once it is ready; raises why it is not."""
    variants = None
    if config.ab.experiment is not None:
        at = replace(config, engine=replace(config.engine, catalog=_said(source.catalogs)))
        variants = read_variants(source.checkpoint, at)
        if has_ended(variants):
            logger.warning("experiment has ended: take it out of the settings")
            variants = None
    service = Service(lambda: _engine(source, config), source.checkpoint.name, config, variants)
    await service.start()
    await service.loaded
    if service.error is not None:
        await service.stop()
        raise service.error
    return service


def _engine(source: Source, config: ServeConfig) -> Engine:
    for path, given in _given(source):
        check_files(path, config.admin.max_load_bytes, given)
    return load_engine(source.checkpoint, source.catalogs, config, own=source.model is None)


def _given(source: Source) -> Iterator[tuple[Path, str]]:
    """Yield the folders that the manifest names, with the field that does."""
    if source.model is not None:
        yield source.checkpoint, "model"
    if source.catalog is not None and isinstance(source.catalogs, str | Path):
        yield Path(source.catalogs), "catalog"


def _own(checkpoint: str, config: ServeConfig) -> Source:
    return Source(Path(checkpoint).resolve(), config.engine.catalog)


def _wanted(own: Source, config: ServeConfig, manifest: Manifest) -> Source:
    """Return the manifest's versions; what it leaves open is the replica's own, the catalog too where only a model is
    named, as in replicas that were there before."""
    found = replace(own, catalogs=own.checkpoint / CATALOG if own.catalogs is None else own.catalogs)
    if manifest.model is not None:
        folder = version_folder(config.admin.model_root, "model_root", manifest.model, "model")
        found = replace(found, checkpoint=folder, model=manifest.model)
    if manifest.catalog is not None:
        folder = version_folder(config.admin.catalog_root, "catalog_root", manifest.catalog, "catalog")
        found = replace(found, catalogs=folder, catalog=manifest.catalog)
    return found


def _said(catalogs: Catalogs) -> Catalogs:
    return str(catalogs) if isinstance(catalogs, Path) else catalogs
