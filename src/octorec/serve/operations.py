"""Changing what a service answers from: one operation at a time, loading beside it, the switch between two batches."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256

import orjson
import pyarrow as pa

from octorec.catalog.build import restore as restored
from octorec.catalog.build import withdraw as without
from octorec.catalog.catalog import Catalog
from octorec.catalog.change import Change, compare, refuse_both
from octorec.catalog.same_codebook import difference
from octorec.catalog.upsert import upsert
from octorec.errors import InputError
from octorec.serve.admin_schemas import State
from octorec.serve.batcher import Serving
from octorec.serve.refusal import Refusal
from octorec.serve.service import Service
from octorec.serve.versions import load_catalog, load_engine, prepare, version_folder, versions

logger = logging.getLogger(__name__)
# by withdrawals; made anew they take seconds
UNTOUCHED = ("index", "id_hashes", "item_ids", "titles", "item_leaf", "set_bit", "popular_order", "n_interactions")


class Operations:
    """A catalog version answers less the items that were withdrawn here, whichever version is loaded later.

    Items that were added or changed here are a version of their own: the next load replaces it, a rollback undoes it.
    """

    def __init__(self, service: Service):
        self.service, self.config = service, service.config
        self.withdrawn: frozenset[str] = frozenset()
        self.previous: Catalog | None = None
        self._loaded: Catalog | None = None  # the version that answers, before withdrawals; None: as it was started
        self._busy = False

    @property
    def loaded(self) -> Catalog:
        return self._loaded or self.service.serving.engine.catalog

    async def load_catalog(self, name: str) -> None:
        folder = version_folder(self.config.catalog_root, "catalog_root", name)
        async with self._operation("catalog load"):
            await self._switch(await asyncio.to_thread(load_catalog, folder), self.withdrawn)

    async def roll_back(self) -> None:
        async with self._operation("catalog rollback"):
            if self.previous is None:
                raise InputError("catalog", "no earlier version", "load one first")
            await self._switch(self.previous, self.withdrawn)

    async def change_items(
        self, upserts: pa.Table | None, withdraw: list[str], restore: list[str], field: str | None = None
    ) -> Change:
        """Add or change items, withdraw some and restore others, all between the same two batches, or none of it.

        field: the name of `withdraw` or `restore` in errors, where a request spells it otherwise.
        """
        async with self._operation("items change"):
            refuse_both(withdraw, restore)
            before, named = self.service.serving.engine.catalog, [*withdraw, *restore]
            base = await asyncio.to_thread(self._changed, upserts, withdraw, restore, field)
            await self._switch(base, self.withdrawn.union(withdraw).difference(restore))
            named += [] if upserts is None else upserts["item_id"].to_pylist()
            return await asyncio.to_thread(compare, before, self.service.serving.engine.catalog, named)

    def _changed(self, upserts: pa.Table | None, withdraw: list[str], restore: list[str], field: str | None) -> Catalog:
        """The version that answers, with `upserts`, and with what it does not hold live itself restored."""
        base = self.loaded if upserts is None else upsert(self.loaded, upserts, "upsert")
        base.places_of(withdraw, field or "withdraw")
        here = [item for item in restore if item in base.index or item not in self.withdrawn]
        base = restored(base, here, field or "restore") if here else base
        prepare(base)
        return base

    async def load_model(self, name: str, catalog_name: str | None) -> None:
        folder = version_folder(self.config.model_root, "model_root", name)
        named = None
        if catalog_name is not None:
            named = version_folder(self.config.catalog_root, "catalog_root", catalog_name, "catalog")
        async with self._operation("model load"):
            base = await asyncio.to_thread(load_catalog, named) if named else self.loaded
            catalog = await asyncio.to_thread(_without, base, self.withdrawn)
            engine = await asyncio.to_thread(load_engine, folder, catalog, self.config)
            await self.service.warm_up(engine)
            serving = Serving(engine, name)
            before = self.loaded
            await self.service.batcher.between_batches(lambda: self.service.now_serving(serving))
            if base is not before:  # None: no version that this model could answer from
                self.previous = before if await asyncio.to_thread(difference, before, base) is None else None
            self._loaded = base

    def state(self) -> State:
        serving = self.service.serving
        catalog = serving.engine.catalog
        return State(
            model=serving.model,
            catalog=catalog.version,
            previous_catalog=None if self.previous is None else self.previous.version,
            live_items=int(catalog.live.sum()),
            withdrawn=len(self.withdrawn),
            catalogs=versions(self.config.catalog_root) if self.config.catalog_root else [],
            models=versions(self.config.model_root) if self.config.model_root else [],
        )

    async def _switch(self, base: Catalog, withdrawn: frozenset[str]) -> None:
        """Answer from `base` without `withdrawn` from the next batch on."""
        serving, before = self.service.serving, self.loaded
        catalog = await asyncio.to_thread(_without, base, withdrawn)

        def switch() -> None:
            serving.engine.replace_catalog(catalog)
            self.service.now_serving(serving)

        await self.service.batcher.between_batches(switch)
        self._loaded, self.withdrawn = base, withdrawn
        if base is not before:
            self.previous = before

    @asynccontextmanager
    async def _operation(self, name: str) -> AsyncIterator[None]:
        """One at a time, counted and logged; whatever goes wrong is refused with its reason."""
        if self._busy or self.service.state != "ready":
            raise Refusal("busy", "another operation is running" if self._busy else "the server is not ready")
        self._busy, outcome, reason = True, "failed", None
        try:
            yield
            outcome = "ok"
        except InputError as error:
            outcome, reason = "refused", str(error)
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            logger.exception(f"{name} failed")
            raise Refusal("failed", reason) from error
        finally:
            self._busy = False
            self.service.metrics.operations.labels(name, outcome).inc()
            logger.info(name, extra={"outcome": outcome, "reason": reason, **self.state().model_dump()})


def _without(base: Catalog, withdrawn: frozenset[str]) -> Catalog:
    """`base` with the items of `withdrawn` that it has not live, and every look-up made.

    Its version is that of `base` and 6 digits that change with what was withdrawn.
    """
    items = sorted(item for item in withdrawn if item in base.index)
    if not items:
        return base
    catalog = without(base, items)
    if catalog is base:  # none of them was live in it
        return base
    for name in UNTOUCHED:
        vars(catalog)[name] = getattr(base, name)
    vars(catalog)["version"] = f"{base.version}-{sha256(orjson.dumps(items)).hexdigest()[:6]}"
    prepare(catalog)
    return catalog
