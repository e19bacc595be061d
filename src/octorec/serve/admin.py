"""Operations on what is served, on a port of their own: catalog versions, withdrawn items, checkpoints.

A version is named by its folder below the configured root; no path is taken from a request. One operation runs at a
time; loading happens beside the service, the switch between two batches. What is refused changes nothing.
"""

from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

import octorec
from octorec.errors import InputError
from octorec.serve.access import Tokens
from octorec.serve.head import HeadAsGet
from octorec.serve.operations import Operations, State
from octorec.serve.refusal import Refusal
from octorec.serve.schemas import ItemId
from octorec.serve.service import Service

Ids = Annotated[list[ItemId], Field(min_length=1, max_length=100_000)]


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


def create_admin_app(service: Service) -> FastAPI:
    """The operator's application over a service that another application starts and stops."""
    tokens = Tokens(service.config.admin_token_file)
    app = FastAPI(title="OctoRec admin", version=octorec.__version__, description=__doc__)
    app.add_middleware(HeadAsGet)
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

    @app.exception_handler(RequestValidationError)
    def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        """Without what was sent, which may be large."""
        first = error.errors()[0]
        field = ".".join(str(part)[:100] for part in first["loc"][:9])
        return JSONResponse(Refusal("invalid", f"{field}: {first['msg']}", field).body(), 422)

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
        """Go back to the catalog version before the last load; again to undo that. Withdrawn items stay so."""
        await operations.roll_back()
        return operations.state()

    @app.post("/v1/items/withdraw", dependencies=allowed, responses=problems)
    async def withdraw_items(body: Items) -> State:
        """These items are in no answer of a batch that begins after this one's reply, nor in one of a version that is
        loaded later. The process keeps them, not the folder: put them into the next catalog too."""
        await operations.withdraw([str(item) for item in body.items])
        return operations.state()

    @app.post("/v1/items/restore", dependencies=allowed, responses=problems)
    async def restore_items(body: Items) -> State:
        """Items that were withdrawn here may be recommended again."""
        await operations.restore([str(item) for item in body.items])
        return operations.state()

    @app.post("/v1/model", dependencies=allowed, responses=problems)
    async def load_model_version(body: ModelVersion) -> State:
        """Load a checkpoint beside the one that answers, and switch to it. It must read the present codebook, or that
        of `catalog`. The old one leaves memory; load it by name to go back. On a GPU batches wait while the new one's
        graphs are captured, one bucket at a time."""
        await operations.load_model(body.version, body.catalog)
        return operations.state()

    return app
