"""Both applications have in common: pages and schema that document them, errors of one shape, HEAD."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI, Security
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline

import octorec
from octorec.serve.head import HeadAsGet
from octorec.serve.problems import answer_errors

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def documented_app(title: str, description: str, lifespan: Lifespan | None = None) -> FastAPI:
    """Return an application without routes of its own. Its `/docs` needs no other host than the server.

    A route's name is its operation id in `/openapi.json`, and so the name of a generated client's method. `/redoc` is
    not offered: its script asks another host for a picture.
    """
    app = FastAPIOffline(
        redoc_url=None,
        title=title,
        version=octorec.__version__,
        description=description,
        lifespan=lifespan,
        redirect_slashes=False,
        swagger_ui_parameters={"validatorUrl": None},  # else the page may ask swagger.io
        generate_unique_id_function=lambda route: route.name,
    )
    app.add_middleware(HeadAsGet)
    answer_errors(app)
    return app


def token_scheme(token_file: str | None) -> list[Any]:
    """Return the dependencies that tell OpenAPI of a bearer token where one is asked for; they check nothing."""
    return [] if token_file is None else [Security(HTTPBearer(auto_error=False))]
