"""Changing what a service answers from: one operation at a time, loading beside it, the switch between two batches."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
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
from octorec.engine.engine import Engine
from octorec.errors import InputError
from octorec.serve.admin_schemas import State
from octorec.serve.batcher import Serving
from octorec.serve.refusal import Refusal
from octorec.serve.service import Service
from octorec.serve.versions import load_catalog, load_engine, prepare, version_folder, versions

logger = logging.getLogger(__name__)
END_FIRST = "an experiment runs on it: end it, or change its file and restart the server, which opens a new stage"
# cached properties that a withdrawal does not change; computing them again takes seconds
KEEP_ON_WITHDRAW = (
    "index",
    "id_hashes",
    "item_ids",
    "titles",
    "item_leaf",
    "set_bit",
    "popular_order",
    "n_interactions",
)


class Operations:
    """Operations change what a service answers from. Items withdrawn here stay so, whichever version is loaded later.

    Items that were added or changed here are a version of their own: the next load replaces it, a rollback undoes it.
    While an experiment runs, what is done to items is done to the catalog of every variant, and nothing is loaded.
    """

    def __init__(self, service: Service):
        self.service, self.config = service, service.config
        self.withdrawn: frozenset[str] = frozenset()
        self.previous: Catalog | None = None
        self._bases: dict[Engine, Catalog] = {}  # versions that answer, before withdrawals; those not here: as started
        self._busy = False

    @property
    def loaded(self) -> Catalog:
        return self._base(self.service.serving.engine)

    def _base(self, engine: Engine) -> Catalog:
        return self._bases.get(engine, engine.catalog)

    async def load_catalog(self, name: str) -> None:
        self._refuse_in_an_experiment("version", name)
        folder = version_folder(self.config.admin.catalog_root, "catalog_root", name)
        async with self._operation("catalog load"):
            base = await asyncio.to_thread(load_catalog, folder)
            await self._switch({self.service.serving.engine: base}, self.withdrawn)

    async def roll_back(self) -> None:
        self._refuse_in_an_experiment("catalog", "a rollback")
        async with self._operation("catalog rollback"):
            if self.previous is None:
                raise InputError("catalog", "no earlier version", "load one first")
            await self._switch({self.service.serving.engine: self.previous}, self.withdrawn)

    async def change_items(
        self, upserts: pa.Table | None, withdraw: list[str], restore: list[str], field: str | None = None
    ) -> Change:
        """Add or change items, withdraw some and restore others, all between the same two batches, or none of it.

        field: the name of `withdraw` or `restore` in errors, where a request spells it otherwise.
        """
        async with self._operation("items change"):
            refuse_both(withdraw, restore)
            before, named = self.service.serving.engine.catalog, [*withdraw, *restore]
            bases = {engine: self._base(engine) for engine in self.service.engines}
            changed = await asyncio.to_thread(self._changed, bases, upserts, withdraw, restore, field)
            await self._switch(changed, self.withdrawn.union(withdraw).difference(restore))
            named += [] if upserts is None else upserts["item_id"].to_pylist()
            return await asyncio.to_thread(compare, before, self.service.serving.engine.catalog, named)

    def _changed(
        self,
        bases: Mapping[Engine, Catalog],
        upserts: pa.Table | None,
        withdraw: list[str],
        restore: list[str],
        field: str | None,
    ) -> dict[Engine, Catalog]:
        """Make each engine's version with `upserts`, in which the items of `restore` are live."""
        made = upserted(bases, upserts)
        first, *others = made.values()
        known = {item for item in (*withdraw, *restore) if any(item in base.index for base in others)}
        first.places_of([item for item in withdraw if item not in known], field or "withdraw")
        gone = self.withdrawn.difference(first.index).union(known)
        first.places_of([item for item in restore if item not in gone], field or "restore")
        back = {id(base): _restored(base, restore) for base in made.values()}
        return {engine: back[id(base)] for engine, base in made.items()}

    def _refuse_in_an_experiment(self, field: str, value: str) -> None:
        running = self.service.running
        if running is not None and not running.over:
            raise InputError(field, value, END_FIRST)

    async def load_model(self, name: str, catalog_name: str | None) -> None:
        self._refuse_in_an_experiment("version", name)
        folder = version_folder(self.config.admin.model_root, "model_root", name)
        named = None
        if catalog_name is not None:
            named = version_folder(self.config.admin.catalog_root, "catalog_root", catalog_name, "catalog")
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
            self._bases = {engine: base}

    def state(self) -> State:
        serving = self.service.serving
        catalog = serving.engine.catalog
        return State(
            model=serving.model,
            catalog=catalog.version,
            previous_catalog=None if self.previous is None else self.previous.version,
            live_items=int(catalog.live.sum()),
            withdrawn=len(self.withdrawn),
            catalogs=versions(self.config.admin.catalog_root) if self.config.admin.catalog_root else [],
            models=versions(self.config.admin.model_root) if self.config.admin.model_root else [],
        )

    async def _switch(self, bases: Mapping[Engine, Catalog], withdrawn: frozenset[str]) -> None:
        """Let `bases` without `withdrawn` answer from the next batch on."""
        serving, before = self.service.serving, self.loaded
        left = {id(base): await asyncio.to_thread(_without, base, withdrawn) for base in bases.values()}

        def switch() -> None:
            replace_catalogs({engine: left[id(base)] for engine, base in bases.items()})
            self.service.now_serving(serving)

        await self.service.batcher.between_batches(switch)
        self._bases, self.withdrawn = {**self._bases, **bases}, withdrawn
        if self.loaded is not before:
            self.previous = before

    @asynccontextmanager
    async def _operation(self, name: str) -> AsyncIterator[None]:
        """Run one operation at a time, counted and logged; one that fails is refused with its reason."""
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


def upserted(bases: Mapping[Engine, Catalog], items: pa.Table | None) -> dict[Engine, Catalog]:
    """Make each engine's catalog with `items`; engines that share one share what is made of it."""
    if items is None:
        return dict(bases)
    first, *others = {id(base): base for base in bases.values()}.values()
    for other in others if "codes" in items.column_names else ():
        if why := difference(other, first):
            allowed = f"a variant of the experiment has a catalog of another codebook ({why}): no codes are of both"
            raise InputError("upsert: column codes", "codes", allowed)
    made = {id(first): upsert(first, items, "upsert")}
    for other in others:
        try:
            made[id(other)] = upsert(other, items, "upsert")
        except InputError as error:
            allowed = f"{error.allowed} (so says another variant's catalog; every variant's takes it, or none)"
            raise InputError(error.field, error.value, allowed) from error
    return {engine: made[id(base)] for engine, base in bases.items()}


def replace_catalogs(catalogs: Mapping[Engine, Catalog]) -> None:
    """Let other versions answer from the next call on: in every engine, or where one cannot, in none."""
    before = {engine: engine.catalog for engine in catalogs}
    if len(catalogs) > 1:
        for engine, catalog in catalogs.items():
            engine.check_catalog(catalog)
    try:
        for engine, catalog in catalogs.items():
            engine.replace_catalog(catalog)
    except Exception:
        for engine, catalog in before.items():
            if engine.catalog is not catalog:
                engine.replace_catalog(catalog)
        raise


def _restored(base: Catalog, items: list[str]) -> Catalog:
    here = [item for item in items if item in base.index]
    base = restored(base, here) if here else base
    prepare(base)
    return base


def _without(base: Catalog, withdrawn: frozenset[str]) -> Catalog:
    """Return `base` in which those of its items that are in `withdrawn` are not live, with every look-up made.

    Its version is that of `base` and 6 digits that change with what was withdrawn.
    """
    items = sorted(item for item in withdrawn if item in base.index)
    if not items:
        return base
    catalog = without(base, items)
    if catalog is base:  # none of them was live in it
        return base
    for name in KEEP_ON_WITHDRAW:
        vars(catalog)[name] = getattr(base, name)
    vars(catalog)["version"] = f"{base.version}-{sha256(orjson.dumps(items)).hexdigest()[:6]}"
    prepare(catalog)
    return catalog
