"""The application. It has no port and no signals of its own, so that uvicorn, a test or Ray Serve can hold it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.routing import Route

import octorec
from octorec.serve.head import HeadAsGet
from octorec.serve.health import health_routes
from octorec.serve.recommend import Recommender
from octorec.serve.schemas import Answers, Problem, Recommendations, RecommendRequest
from octorec.serve.service import Service

PROBLEMS: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "The bearer token is missing or wrong."},
    408: {"model": Problem, "description": "The body did not arrive in time."},
    413: {"model": Problem, "description": "The body is too large."},
    422: {"model": Problem, "description": "A field is wrong; the body names it."},
    500: {"model": Problem, "description": "The engine failed on this request."},
    503: {"model": Problem, "description": "The queue is full, or the server starts or ends. Retry-After says when."},
    504: {"model": Problem, "description": "The deadline passed."},
}


def create_app(service: Service) -> FastAPI:
    """The public application over `service`, which it starts and stops with its own lifespan."""
    recommender = Recommender(service)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()
        await recommender.logged()

    app = FastAPI(title="OctoRec", version=octorec.__version__, description=__doc__, lifespan=lifespan)
    app.add_middleware(HeadAsGet)
    app.include_router(health_routes(service))
    one = RecommendRequest.model_json_schema()
    schema = {"anyOf": [one, {"type": "array", "items": one, "minItems": 1, "maxItems": service.config.max_list}]}

    @app.post(
        "/v1/recommend",
        tags=["recommend"],
        response_class=Response,
        responses={200: {"model": Recommendations | Answers}, **PROBLEMS},
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}},
    )
    async def recommend(request: Request) -> Response:
        """Recommend items to one user, or to each of a list of users.

        A list is answered with status 200 and `answers` in its order; where one of them failed, its `error` stands in
        its place with the status that it would have had alone.
        """
        return await recommender(request)

    # answers before the route above, which is for OpenAPI: FastAPI's solver of dependencies costs a request 0.2 ms
    app.router.routes.insert(0, Route("/v1/recommend", recommend, methods=["POST"]))
    return app
