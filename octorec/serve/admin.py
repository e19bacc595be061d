"""Operations on what is served, on a port of their own: catalog versions, withdrawn items, checkpoints.

A version is named by its folder below the configured root; no path is taken from a request. One operation runs at a
time; loading happens beside the service, the switch between two batches. What is refused changes nothing.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

import octorec
from octorec.catalog.build import restore, withdraw
from octorec.catalog.catalog import Catalog
from octorec.errors import InputError
from octorec.serve.access import Tokens
from octorec.serve.batcher import Serving
from octorec.serve.refusal import Refusal
from octorec.serve.service import Service
from octorec.serve.versions import load_catalog, load_engine, prepare, version_folder, versions

logger = logging.getLogger(__name__)
Ids = Annotated[list[str], Field(min_length=1, max_length=100_000)]


class CatalogVersion(BaseModel):
    model_config = ConfigDict(extra="forbid")
    version: str = Field(description="Name of a folder below catalog_root.")


class ModelVersion(BaseModel):
    model_config = ConfigDict(extra="forbid")
    version: str = Field(description="Name of a folder below model_root.")
    catalog: str | None = Field(None, description="Folder below catalog_root to switch to with it; else the present.")


class Items(BaseModel):
    model_config = ConfigDict(extra="forbid")
    items: Ids


class State(BaseModel):
    model: str
    catalog: str = Field(description="Version by content, as answers state it.")
    previous_catalog: str | None = Field(description="What a rollback goes back to.")
    live_items: int
    catalogs: list[str] = Field(description="Names that may be loaded.")
    models: list[str]


class Operations:
    """Changes what a service answers from."""

    def __init__(self, service: Service):
        self.service, self.config = service, service.config
        self.previous: Catalog | None = None
        self._busy = False

    async def load_catalog(self, name: str) -> None:
        folder = version_folder(self.config.catalog_root, "catalog_root", name)
        async with self._operation("catalog load"):
            await self._switch_catalog(await asyncio.to_thread(load_catalog, folder))

    async def roll_back(self) -> None:
        async with self._operation("catalog rollback"):
            if self.previous is None:
                raise InputError("catalog", "no earlier version", "load one first")
            await self._switch_catalog(self.previous)

    async def change_live(self, change: Callable[[Catalog, list[str]], Catalog], items: list[str]) -> None:
        async with self._operation(f"items {change.__name__}"):
            catalog = await asyncio.to_thread(_changed, self.service.serving.engine.catalog, change, items)
            await self._switch_catalog(catalog)

    async def load_model(self, name: str, catalog: str | None) -> None:
        folder = version_folder(self.config.model_root, "model_root", name)
        other = None if catalog is None else version_folder(self.config.catalog_root, "catalog_root", catalog)
        async with self._operation("model load"):
            items = (
                self.service.serving.engine.catalog if other is None else await asyncio.to_thread(load_catalog, other)
            )
            engine = await asyncio.to_thread(load_engine, folder, items, self.config)
            await self.service.warm_up(engine)
            before = self.service.serving.engine.catalog
            serving = Serving(engine, name)
            await self.service.batcher.between_batches(lambda: self.service.now_serving(serving))
            self.previous = before if before.fingerprint == items.fingerprint and before is not items else None

    def state(self) -> State:
        serving = self.service.serving
        catalog = serving.engine.catalog
        return State(
            model=serving.model,
            catalog=catalog.version,
            previous_catalog=None if self.previous is None else self.previous.version,
            live_items=int(catalog.live.sum()),
            catalogs=versions(self.config.catalog_root) if self.config.catalog_root else [],
            models=versions(self.config.model_root) if self.config.model_root else [],
        )

    async def _switch_catalog(self, catalog: Catalog) -> None:
        serving = self.service.serving
        before = serving.engine.catalog

        def switch() -> None:
            serving.engine.replace_catalog(catalog)
            self.service.now_serving(serving)

        await self.service.batcher.between_batches(switch)
        self.previous = before

    @asynccontextmanager
    async def _operation(self, name: str) -> AsyncIterator[None]:
        """One at a time, counted and logged; what goes wrong in it is a refusal with its reason."""
        if self._busy or self.service.state != "ready":
            raise Refusal("busy", "another operation is running" if self._busy else "the server is not ready")
        self._busy, outcome = True, "failed"
        try:
            yield
            outcome = "ok"
        except InputError:
            outcome = "refused"
            raise
        finally:
            self._busy = False
            self.service.metrics.operations.labels(name, outcome).inc()
            logger.info(name, extra={"outcome": outcome, **self.state().model_dump()})


def _changed(catalog: Catalog, change: Callable[[Catalog, list[str]], Catalog], items: list[str]) -> Catalog:
    new = change(catalog, items)
    for name in ("index", "item_ids", "titles", "item_leaf", "set_bit"):  # the same in both: 10 million take seconds
        vars(new)[name] = getattr(catalog, name)
    prepare(new)
    return new


def create_admin_app(service: Service) -> FastAPI:
    """The operator's application over a service that another application starts and stops."""
    tokens = Tokens(service.config.admin_token_file)
    app = FastAPI(title="OctoRec admin", version=octorec.__version__, description=__doc__)
    operations = Operations(service)
    allowed = [Depends(tokens.check)]
    problems: dict[int | str, dict[str, Any]] = {
        401: {"description": "The bearer token is missing or wrong."},
        409: {"description": "Another operation is running, or the server is not ready."},
        422: {"description": "Refused, with the reason; the old version goes on."},
    }

    @app.exception_handler(InputError)
    def refused(_: Request, error: InputError) -> JSONResponse:
        return JSONResponse(Refusal("invalid", str(error), error.field).body(), 422)

    @app.exception_handler(Refusal)
    def refusal(_: Request, error: Refusal) -> JSONResponse:
        return JSONResponse(error.body(), error.status, error.headers)

    @app.get("/v1/state", dependencies=allowed, responses=problems)
    async def state() -> State:
        if service.batcher.serving is None:
            raise Refusal("busy", "the server is not ready")
        return operations.state()

    @app.post("/v1/catalog", dependencies=allowed, responses=problems)
    async def load_catalog_version(body: CatalogVersion) -> State:
        """Load a catalog version and answer from it."""
        await operations.load_catalog(body.version)
        return operations.state()

    @app.post("/v1/catalog/rollback", dependencies=allowed, responses=problems)
    async def roll_back() -> State:
        """Go back to the catalog before the last change; again to undo that."""
        await operations.roll_back()
        return operations.state()

    @app.post("/v1/items/withdraw", dependencies=allowed, responses=problems)
    async def withdraw_items(body: Items) -> State:
        """These items are in no answer of a batch that begins after this one's reply."""
        await operations.change_live(withdraw, body.items)
        return operations.state()

    @app.post("/v1/items/restore", dependencies=allowed, responses=problems)
    async def restore_items(body: Items) -> State:
        """Withdrawn items may be recommended again."""
        await operations.change_live(restore, body.items)
        return operations.state()

    @app.post("/v1/model", dependencies=allowed, responses=problems)
    async def load_model_version(body: ModelVersion) -> State:
        """Load a checkpoint beside the one that answers, and switch to it. It must read the present codebook, or that
        of `catalog`. The old one leaves memory; load it by name to go back."""
        await operations.load_model(body.version, body.catalog)
        return operations.state()

    return app
