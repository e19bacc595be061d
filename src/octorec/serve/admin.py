"""Operations on what is served, on a port of their own: catalog versions, withdrawn items, checkpoints.

A version is named by its folder below the configured root; no path is taken from a request. One thing is loaded at a
time, beside the service; items are changed meanwhile. Every switch falls between two batches. What is refused changes
nothing.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI

from octorec.serve.admin_schemas import (
    CatalogVersion,
    Forced,
    ItemChanges,
    ItemCounts,
    Items,
    ItemsState,
    ModelVersion,
    State,
    text_ids,
    upsert_table,
)
from octorec.serve.browsers import OwnPagesOnly
from octorec.serve.documented import documented_app, token_scheme
from octorec.serve.experiment_admin import experiment_routes
from octorec.serve.guarded import guarded_route
from octorec.serve.operations import Operations
from octorec.serve.problems import problems
from octorec.serve.refusal import Refusal
from octorec.serve.service import Service
from octorec.serve.tokens import Tokens
from octorec.serve.way_out import AnsweredOnTheWayOut

ABOUT = "Changes what is served: catalog versions, items, checkpoints. Every error has the shape of `Problem`."
MOST_BYTES = 2**24  # bytes of a body
REFUSED = 400, 401, 403, 408, 409, 413, 415, 422, 500


def create_admin_app(service: Service) -> FastAPI:
    """Make the operator's application over a service that another application starts and stops."""
    config = service.config
    app = documented_app("OctoRec admin", ABOUT)
    app.add_middleware(AnsweredOnTheWayOut, way_out=service.way_out, metrics=service.metrics)
    app.add_middleware(OwnPagesOnly, names=(config.admin.admin_host, *(config.admin.admin_names or ())))
    app.router.route_class = guarded_route(
        Tokens(config.admin.admin_token_file), MOST_BYTES, config.http.body_timeout_s
    )
    operations = Operations(service)
    token = token_scheme(config.admin.admin_token_file)
    changing: Any = {"tags": ["operations"], "dependencies": token, "responses": problems(*REFUSED)}

    async def changed(
        force: bool,
        upserts: Any = None,
        withdraw: Sequence[str] = (),
        restore: Sequence[str] = (),
        field: str | None = None,
    ) -> ItemsState:
        change = await operations.change_items(upserts, list(withdraw), list(restore), field, force)
        return ItemsState(**(await operations.state()).model_dump(), changed=ItemCounts(**asdict(change)))

    @app.get("/v1/state", tags=["operations"], dependencies=token, responses=problems(401, 403, 409, 500))
    async def get_state() -> State:
        """Return what answers now, and what may be loaded."""
        if service.batcher.serving is None:
            raise Refusal("busy", "the server is not ready")
        return await operations.state()

    @app.post("/v1/catalog", **changing)
    async def load_catalog(body: CatalogVersion) -> State:
        """Load a catalog version and answer from it."""
        await operations.load_catalog(body.version, body.force)
        return await operations.state()

    @app.post("/v1/catalog/rollback", **changing)
    async def roll_back_catalog(body: Forced | None = None) -> State:
        """Go back to the catalog version before the last load; again to undo that. Withdrawn items stay so."""
        await operations.roll_back(body is not None and body.force)
        return await operations.state()

    @app.post("/v1/items", **changing)
    async def change_items(body: ItemChanges) -> ItemsState:
        """Add items or change them, withdraw some and restore others: all of it between the same two batches, or, where
        one thing is refused, none. The process keeps it, not the folder: give the same to `octorec catalog upsert`. A
        load replaces what was upserted, and a rollback undoes it; withdrawals outlast both."""
        return await changed(body.force, upsert_table(body.upsert), text_ids(body.withdraw), text_ids(body.restore))

    @app.post("/v1/items/withdraw", **changing)
    async def withdraw_items(body: Items) -> ItemsState:
        """These items are in no answer of a batch that begins after this one's reply, nor in one of a version that is
        loaded later. The process keeps them, not the folder: put them into the next catalog too."""
        return await changed(body.force, withdraw=text_ids(body.items), field="items")

    @app.post("/v1/items/restore", **changing)
    async def restore_items(body: Items) -> ItemsState:
        """Restore items that were withdrawn: they may be recommended again, with the codes that they had."""
        return await changed(body.force, restore=text_ids(body.items), field="items")

    @app.post("/v1/model", **changing)
    async def load_model(body: ModelVersion) -> State:
        """Load a checkpoint beside the one that answers, and switch to it. It must read the present codebook, or that
        of `catalog`. The old one leaves memory; load it by name to go back. On a GPU batches wait while the new one's
        graphs are captured, one bucket at a time.

        `in_place` copies a checkpoint of the same shape into the engine's memory instead, between two batches: nothing
        is captured. It is refused where its answers to recent requests differ by more than the limits."""
        if body.in_place:
            await operations.refresh_model(body.version, body.force)
        else:
            await operations.load_model(body.version, body.catalog)
        return await operations.state()

    @app.post("/v1/model/rollback", **changing)
    async def roll_back_model() -> State:
        """Copy the weights before the last refresh in place back; again to undo that."""
        await operations.roll_back_model()
        return await operations.state()

    experiment_routes(app, service, token)
    return app
