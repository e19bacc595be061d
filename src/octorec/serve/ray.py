"""`octorec.serve.ray:app` for `serve run` and `serve deploy`: the server in replicas of Ray Serve.

A replica is one process with the service of `octorec serve` inside. Ray's entrance has the ports and the connections;
Ray starts replicas, ends them, and asks each whether it is well.
"""

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import fields
from typing import Any

from ray import serve
from ray.serve import Application
from starlette.routing import Router
from starlette.types import ASGIApp

from octorec.errors import InputError, check_known
from octorec.serve.app import create_app
from octorec.serve.config import ServeConfig
from octorec.serve.logs import log_as_json
from octorec.serve.ray_config import DEPLOYMENT, RayOptions, of_deployment, refuse_single
from octorec.serve.ray_metrics import RayMetrics
from octorec.serve.replica import Started, started
from octorec.settings import settings_of

logger = logging.getLogger(__name__)


class Replica:
    """A Replica is one server of several. It is made only once it can answer."""

    async def __init__(  # type: ignore[misc]  # Ray awaits it
        self, checkpoint: str, settings: Mapping[str, Any], manifest: str | None
    ):
        lines = log_as_json()
        name = serve.get_replica_context().replica_id.unique_id
        self.own: Started = await started(checkpoint, ServeConfig.of(**settings), manifest, name)
        self.own.service.metrics.watch_log(lines.lost)
        self.metrics = RayMetrics(self.own.service.metrics.registry, name)
        self.metrics.start()

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Return what answers; Ray ends its lifespan once the requests that it sent have their answers."""
        own, metrics = self.own, self.metrics

        @asynccontextmanager
        async def lifespan(_: Router) -> AsyncIterator[None]:
            yield
            metrics.stop()
            await own.stop()

        return Router(default=create_app(own.service), redirect_slashes=False, lifespan=lifespan)

    async def check_health(self) -> None:
        """Raise RuntimeError where the process should be ended; Ray starts another in its place."""
        if why := self.own.service.not_live:
            raise RuntimeError(why)


def app(args: dict[str, Any]) -> Application:
    """Make the application from `args`: `checkpoint`, `manifest`, and any setting of `octorec serve` by its name.

    `octorec ray config` writes them, and the deployment's options, into one file.
    """
    known = [field.name for field in fields(RayOptions)]
    check_known("args", args, ["checkpoint", *known, *settings_of(ServeConfig)])
    if "checkpoint" not in args:
        raise InputError("args: checkpoint", None, "is required")
    options = RayOptions(**{name: args[name] for name in known if name in args})
    settings = {name: value for name, value in args.items() if name not in ("checkpoint", *known)}
    config = ServeConfig.of(**settings)
    refuse_single(config)
    deployment: Any = serve.deployment(serve.ingress()(Replica), name=DEPLOYMENT, **of_deployment(config, options))
    bound: Application = deployment.bind(args["checkpoint"], settings, options.manifest)
    return bound
