"""The application. It has no port and no signals of its own, so that uvicorn, a test or Ray Serve can hold it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI
from pydantic import Field

from octorec.serve.about import about_routes
from octorec.serve.asking import Asking
from octorec.serve.direct import Direct
from octorec.serve.documented import documented_app, token_scheme
from octorec.serve.explain import explain_routes
from octorec.serve.front import Front
from octorec.serve.health import health_routes
from octorec.serve.openai import openai_routes
from octorec.serve.openai_schemas import ChatRequest, CompletionRequest
from octorec.serve.outcomes import outcome_routes
from octorec.serve.page import page_route
from octorec.serve.problems import problems
from octorec.serve.recommend import Recommender
from octorec.serve.schemas import Answers, Recommendations, RecommendRequest
from octorec.serve.sglang import sglang_routes
from octorec.serve.sglang_schemas import GenerateRequest
from octorec.serve.way_out import AnsweredOnTheWayOut

BODIES = (RecommendRequest, CompletionRequest, ChatRequest, GenerateRequest)
FIELDS = {name for body in BODIES for name in body.model_fields}
ABOUT = (
    "Recommends items to users, and says how the server is. Every error has the shape of `Problem`, or of "
    "`OpenAIProblem` at addresses of other servers' clients."
)


def create_app(service: Front) -> FastAPI:
    """Make the public application over `service`, which it starts and stops with its own lifespan."""
    asking = Asking(service, FIELDS)
    recommender = Recommender(asking)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()
        await asking.logged()

    app = documented_app("OctoRec", ABOUT, lifespan)
    app.include_router(health_routes(service))
    Several = Annotated[list[RecommendRequest], Field(min_length=1, max_length=service.config.http.max_list)]

    @app.post(
        "/v1/recommend",
        tags=["recommend"],
        dependencies=token_scheme(service.config.http.token_file),
        responses=problems(400, 401, 408, 413, 415, 422, 500, 503, 504),
    )
    async def recommend(body: RecommendRequest | Several) -> Recommendations | Answers:  # type: ignore[valid-type]
        """Recommend items to one user, or to each of a list of users.

        A list is answered with status 200 and `answers` in its order; where one of them failed, its `error` stands in
        its place with the status that it would have had alone. The body is JSON, whatever its content type says.
        """
        raise AssertionError("answered before; this route is for OpenAPI")

    others = openai_routes(app, asking) | sglang_routes(app, asking)
    outcome_routes(app, service)
    if service.config.http.page:
        page_route(app)
        about_routes(app, asking)
        others |= explain_routes(app, asking)
    app.add_middleware(Direct, addresses={"/v1/recommend": recommender, **others}, spans=service.spans)
    app.add_middleware(AnsweredOnTheWayOut, way_out=service.way_out, metrics=service.metrics)  # around the former
    return app
