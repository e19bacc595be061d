"""Health and metadata, as the Open Inference Protocol (v2) spells them; it has its inference call over gRPC."""

from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from octorec.serve.front import Front
from octorec.serve.problems import problems
from octorec.serve.refusal import Refusal

TEXT: dict[str, Any] = {"content": {"text/plain": {"schema": {"type": "string"}}}}
SAYS_NO = problems(500, 503)
NAMED = 404, 422, 500  # FastAPI documents an error of its own shape where 422 is not said


class Health(BaseModel):
    """Health says that the server answers requests, and from which versions."""

    state: Literal["ready"] = "ready"
    model: str = Field(description="Version of the checkpoint.")
    catalog: str = Field(description="Version of the catalog.")


class Live(BaseModel):
    live: Literal[True] = True


class Ready(BaseModel):
    ready: Literal[True] = True


class ModelReady(BaseModel):
    name: str
    ready: Literal[True] = True


class ModelInput(BaseModel):
    """A ModelInput is a feature that the context module declares, for `features` of a request to /v1/recommend."""

    name: str
    datatype: Literal["FP32", "INT64"]
    shape: list[int] = Field(description="Of one request; empty for a single number.")
    required: bool
    allowed: str = Field(description="What a request may give, in words.")


class ModelMetadata(BaseModel):
    """ModelMetadata is as in the Open Inference Protocol; its inference call is answered over gRPC."""

    name: str
    versions: list[str] = Field(description="The checkpoint that answers; none while it is loaded.")
    platform: Literal["octorec"] = "octorec"
    inputs: list[ModelInput] = Field(description="The model's features; none while it is loaded.")
    max_tokens: int | None = Field(default=None, description="Of models that read tokens: the longest prompt.")
    domains: dict[str, str] = Field(default={}, description="Of a model with several domains: catalogs' versions.")
    outputs: list[str] = Field(default=[], description="Always empty.")


def health_routes(service: Front) -> APIRouter:
    """Make the routes of health, metadata and metrics. What is not well is a 503 whose message says why."""
    routes = APIRouter(tags=["health"])

    @routes.get("/health", responses=SAYS_NO)
    async def health() -> Health:
        """Say, for people, whether requests are answered, and from what."""
        _refuse_unless_ready(service)
        serving = service.serving
        return Health(model=serving.model, catalog=serving.engine.catalog.version)

    @routes.get("/v2/health/live", responses=SAYS_NO)
    async def server_live() -> Live:
        """Say whether the process does its work; 503: end it. A busy one is live, one whose device is stuck is not."""
        _refuse_unless_live(service)
        return Live()

    @routes.get("/v2/health/ready", responses=SAYS_NO)
    async def server_ready() -> Ready:
        """Say whether to send requests here: after warm-up, until SIGTERM."""
        _refuse_unless_ready(service)
        return Ready()

    @routes.get("/v2/models/{name}", responses=problems(*NAMED))
    async def model_metadata(name: str) -> ModelMetadata:
        """Say what is served under this name."""
        _refuse_unknown(service, name)
        serving = service.line.serving
        if serving is None:
            return ModelMetadata(name=name, versions=[], inputs=[])
        engine = serving.engine
        inputs = [_input(*feature) for feature in engine.features.items()]
        domains = {domain: one.catalog.version for domain, one in engine.domains.items()}
        longest = None if engine.prompts is None else engine.longest
        versions = [serving.model]
        return ModelMetadata(name=name, versions=versions, inputs=inputs, max_tokens=longest, domains=domains)

    @routes.get("/v2/models/{name}/ready", responses=problems(*NAMED, 503))
    async def model_ready(name: str) -> ModelReady:
        """Say whether to send requests for this model here."""
        _refuse_unknown(service, name)
        _refuse_unless_ready(service)
        return ModelReady(name=name)

    @routes.get("/metrics", response_class=Response, responses={200: TEXT, **problems(500)})
    async def metrics() -> Response:
        """Return the metrics for Prometheus; names begin with octorec_."""
        return Response(await service.metrics_text(), media_type="text/plain; version=0.0.4")

    return routes


def _input(name: str, feature: Any) -> ModelInput:
    datatype: Literal["FP32", "INT64"] = "INT64" if feature.dtype == "int64" else "FP32"
    required = feature.blank is None
    return ModelInput(
        name=name, datatype=datatype, shape=list(feature.shape), required=required, allowed=feature.allowed
    )


def _refuse_unless_live(service: Front) -> None:
    if service.not_live:
        raise Refusal("not_live", service.not_live)


def _refuse_unless_ready(service: Front) -> None:
    _refuse_unless_live(service)
    if service.state == "loading":
        raise Refusal("not_ready", "the server is still loading")
    if service.not_ready:
        raise Refusal("draining", "the server is shutting down")


def _refuse_unknown(service: Front, name: str) -> None:
    if name != service.config.http.model_name:
        known = service.config.http.model_name
        raise Refusal("not_found", f"no model {name[:100]!r}: this server has {known!r}", "name")
