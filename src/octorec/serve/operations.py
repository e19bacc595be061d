"""Changing what a service answers from: loading beside it, the switch between two batches."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from hashlib import sha256
from typing import Any, TypeVar

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
from octorec.serve.admin_schemas import Refresh, State
from octorec.serve.in_place import InPlace, Read
from octorec.serve.loads import MOST_HANGING, beside, hanging, within
from octorec.serve.pending import Serving
from octorec.serve.refusal import Refusal
from octorec.serve.service import Service
from octorec.serve.versions import check_files, load_catalog, load_engine, prepare, version_folder, versions

Made = TypeVar("Made")
logger = logging.getLogger(__name__)
LISTED_S = 2.0  # for the names of versions
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

    They may be withdrawn at any time, also while something is loaded. Items that were added or changed here are a
    version of their own: the next load replaces it, a rollback undoes it. While an experiment runs, what is done to
    items is done to the catalog of every variant, and nothing is loaded.
    """

    def __init__(self, service: Service):
        self.service, self.config = service, service.config
        self.withdrawn: frozenset[str] = frozenset()
        self.previous: Catalog | None = None
        self._bases: dict[Engine, Catalog] = {}  # versions that answer, before withdrawals; those not here: as started
        self._loading = False
        self._changing = asyncio.Lock()
        self.in_place = InPlace(service, self._changing)

    @property
    def loaded(self) -> Catalog:
        return self._base(self.service.serving.engine)

    def _base(self, engine: Engine) -> Catalog:
        return self._bases.get(engine, engine.catalog)

    async def load_catalog(self, name: str, force: bool = False) -> None:
        self._refuse_in_an_experiment("version", name)
        async with self._load("catalog load"):
            base = await self._within(partial(self._read_catalog, name, "version"), name)
            async with self._changing:
                await self._switch({self.service.serving.engine: base}, self.withdrawn, force)

    async def roll_back(self, force: bool = False) -> None:
        self._refuse_in_an_experiment("catalog", "a rollback")
        async with self._change("catalog rollback"):
            if self.previous is None:
                raise InputError("catalog", "no earlier version", "load one first")
            await self._switch({self.service.serving.engine: self.previous}, self.withdrawn, force)

    async def change_items(
        self,
        upserts: pa.Table | None,
        withdraw: list[str],
        restore: list[str],
        field: str | None = None,
        force: bool = False,
    ) -> Change:
        """Add or change items, withdraw some and restore others, all between the same two batches, or none of it.

        field: the name of `withdraw` or `restore` in errors, where a request spells it otherwise. force: also where no
        item is live after it.
        """
        async with self._change("items change"):
            refuse_both(withdraw, restore)
            before, named = self.service.serving.engine.catalog, [*withdraw, *restore]
            bases = {engine: self._base(engine) for engine in self.service.engines}
            changed = await asyncio.to_thread(self._changed, bases, upserts, withdraw, restore, field)
            await self._switch(changed, self.withdrawn.union(withdraw).difference(restore), force)
            named += [] if upserts is None else upserts["item_id"].to_pylist()
            return await asyncio.to_thread(compare, before, self.service.serving.engine.catalog, named)

    async def withdraw_only(self, items: frozenset[str]) -> None:
        """Withdraw these items and no others, also those that no catalog here knows yet.

        Items that a catalog's own folder withdraws stay so. Refused where no item would be live.
        """
        async with self._change("items change"):
            await self._switch({engine: self._base(engine) for engine in self.service.engines}, items, False)

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
        async with self._load("model load"):
            named = None
            if catalog_name is not None:
                named = await self._within(partial(self._read_catalog, catalog_name, "catalog"), catalog_name)
            engine = await self._within(partial(self._read_model, name, named or self.loaded), name)
            await self.service.warm_up(engine)
            async with self._changing:
                await self._switch_model(Serving(engine, name), named)

    async def _switch_model(self, serving: Serving, named: Catalog | None) -> None:
        """Let another engine answer from the next batch on, with what items have become while it was loaded."""
        engine, before = serving.engine, self.loaded
        base = named or before
        catalog = await asyncio.to_thread(_without, base, self.withdrawn)

        catalog = engine.catalog if catalog.version == engine.catalog.version else catalog
        await self.service.announce(serving, catalog)

        def switch() -> None:
            if catalog is not engine.catalog:
                engine.replace_catalog(catalog)
            self.service.now_serving(serving)

        await self.service.batcher.between_batches(switch)
        if base.version != before.version:  # None: no version that this model could answer from
            self.previous = before if await asyncio.to_thread(difference, before, base) is None else None
        self._bases = {engine: base}
        self.in_place.forget()

    async def refresh_model(self, name: str, force: bool = False) -> None:
        """Let a checkpoint's weights answer from the next batch on in the memory of those that do, where alike."""
        self._refuse_in_an_experiment("version", name)
        if workers := self.config.http.http_workers:  # which were told of one engine and its version
            raise InputError("in_place", True, f"needs all in one process: this server has {workers} HTTP workers")
        async with self._load("model refresh"):
            read = await self._within(partial(self._read_in_place, name), name)
            await self.in_place.put(read, force)

    async def roll_back_model(self) -> None:
        """Let the weights before the newest refresh answer again."""
        self._refuse_in_an_experiment("model", "a rollback")
        async with self._load("model rollback"):
            await self.in_place.roll_back()

    def _read_in_place(self, name: str) -> Read:
        folder = version_folder(self.config.admin.model_root, "model_root", name)
        check_files(folder, self.config.admin.max_load_bytes, "version")
        return self.in_place.read(folder, name)

    def _read_catalog(self, name: str, field: str) -> Catalog:
        folder = version_folder(self.config.admin.catalog_root, "catalog_root", name, field)
        check_files(folder, self.config.admin.max_load_bytes, field)
        return load_catalog(folder)

    def _read_model(self, name: str, base: Catalog) -> Engine:
        folder = version_folder(self.config.admin.model_root, "model_root", name)
        check_files(folder, self.config.admin.max_load_bytes, "version")
        return load_engine(folder, _without(base, self.withdrawn), self.config)

    async def _within(self, work: Callable[[], Made], name: str) -> Made:
        return await within(self.config.admin.load_timeout_s, work, "version", name, "load_timeout_s")

    def now(self) -> dict[str, Any]:
        """Return what answers now, as `State` names it."""
        serving = self.service.serving
        catalog = serving.engine.catalog
        return {
            "model": serving.model,
            "catalog": catalog.version,
            "previous_catalog": None if self.previous is None else self.previous.version,
            "live_items": int(catalog.live.sum()),
            "withdrawn": len(self.withdrawn),
            "previous_model": self.in_place.previous,
        }

    async def state(self) -> State:
        roots = self.config.admin.catalog_root, self.config.admin.model_root
        catalogs, models = [await _names(root) for root in roots]
        newest = self.in_place.newest
        refresh = None if newest is None else Refresh(**newest.to_dict())
        return State(**self.now(), refresh=refresh, catalogs=catalogs, models=models)

    async def _switch(self, bases: Mapping[Engine, Catalog], withdrawn: frozenset[str], force: bool) -> None:
        """Let `bases` without `withdrawn` answer from the next batch on. force: also where no item is live in one."""
        serving, before = self.service.serving, self.loaded
        left = {id(base): await asyncio.to_thread(_without, base, withdrawn) for base in bases.values()}
        if not force and not all(catalog.live.any() for catalog in left.values()):
            raise InputError("force", force, "no item would be live: load another, restore some, or say true")

        await self.service.announce(serving, left.get(id(bases.get(serving.engine)), serving.engine.catalog))

        def switch() -> None:
            replace_catalogs({engine: left[id(base)] for engine, base in bases.items()})
            self.service.now_serving(serving)

        await self.service.batcher.between_batches(switch)
        self._bases, self.withdrawn = {**self._bases, **bases}, withdrawn
        if self.loaded.version != before.version:
            self.previous = before

    @asynccontextmanager
    async def _load(self, name: str) -> AsyncIterator[None]:
        """Run one load at a time; what is done to items goes on beside it."""
        if self._loading:
            raise Refusal("busy", "another load is running")
        self._loading = True
        try:
            async with self._operation(name):
                yield
        finally:
            self._loading = False

    @asynccontextmanager
    async def _change(self, name: str) -> AsyncIterator[None]:
        """Run one change at a time, in the order in which they came; each waits for those before it alone."""
        async with self._changing, self._operation(name):
            yield

    @asynccontextmanager
    async def _operation(self, name: str) -> AsyncIterator[None]:
        """Count and log what is run; where it fails, it is refused with its reason."""
        if self.service.state != "ready":
            raise Refusal("busy", "the server is not ready")
        outcome, reason = "failed", None
        try:
            yield
            outcome = "ok"
        except InputError as error:
            outcome, reason = "refused", str(error)
            raise
        except Refusal as refusal:
            outcome, reason = "refused", refusal.message
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            logger.exception(f"{name} failed")
            raise Refusal("failed", reason) from error
        finally:
            self.service.metrics.operations.labels(name, outcome).inc()
            logger.info(name, extra={"outcome": outcome, "reason": reason, **self.now()})


async def _names(root: str | None) -> list[str]:
    """Return the names of the versions below a root; none where it does not say them in time."""
    if root is None or hanging() >= MOST_HANGING:
        return []
    try:
        async with asyncio.timeout(LISTED_S):
            return await beside(partial(versions, root))
    except TimeoutError:
        logger.error("the versions cannot be listed", extra={"root": root})
        return []


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
