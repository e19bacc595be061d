"""Health and metadata, as the Open Inference Protocol (v2) spells them; its inference calls are not offered."""

from typing import Any

from fastapi import APIRouter, HTTPException, Response
from fastapi.responses import JSONResponse

from octorec.serve.service import Service

PROBLEMS: dict[int | str, dict[str, Any]] = {503: {"description": "No, and the reason."}}


def health_routes(service: Service) -> APIRouter:
    routes = APIRouter(tags=["health"])

    @routes.get("/health", responses=PROBLEMS)
    def health() -> JSONResponse:
        """For people: whether requests are answered, and from what."""
        serving = service.batcher.serving
        versions = {"model": serving.model, "catalog": serving.engine.catalog.version} if serving else {}
        return _state(service.not_ready, state=service.state, **versions)

    @routes.get("/v2/health/live", responses=PROBLEMS)
    def live() -> JSONResponse:
        """Whether the process does its work; 503: end it. A busy one is live, one whose device is stuck is not."""
        return _state(service.not_live, live=service.not_live is None)

    @routes.get("/v2/health/ready", responses=PROBLEMS)
    def ready() -> JSONResponse:
        """Whether to send requests here: after warm-up, until SIGTERM."""
        return _state(service.not_ready, ready=service.not_ready is None)

    @routes.get("/v2/models/{name}", responses={404: {"description": "No such model."}})
    def model(name: str) -> dict[str, Any]:
        """Metadata alone: requests go to /v1/recommend, so that no tensors are named."""
        _known(name)
        serving = service.batcher.serving
        versions = [serving.model] if serving else []
        return {"name": name, "versions": versions, "platform": "octorec", "inputs": [], "outputs": []}

    @routes.get("/v2/models/{name}/ready", responses={404: {"description": "No such model."}, **PROBLEMS})
    def model_ready(name: str) -> JSONResponse:
        _known(name)
        return _state(service.not_ready, name=name, ready=service.not_ready is None)

    @routes.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    def metrics() -> Response:
        """For Prometheus; names begin with octorec_."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    def _known(name: str) -> None:
        if name != service.config.model_name:
            raise HTTPException(404, f"no model {name[:100]!r}: this server has {service.config.model_name!r}")

    return routes


def _state(reason: str | None, **about: Any) -> JSONResponse:
    return JSONResponse({**about, "reason": reason}, 200 if reason is None else 503)
