"""`grpc.health.v1`: whether to send calls here, as /v2/health/ready says it."""

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from octorec.serve.oip_messages import SERVICE
from octorec.serve.service import Service

LOOK_EVERY_S = 0.25  # on behalf of who watches
MOST_WATCHES = 100
KNOWN = ("", SERVICE)
STATUSES = health_pb2.HealthCheckResponse.ServingStatus


class Health(health_pb2_grpc.HealthServicer):
    """A Health reads the server's state at each call, so that it cannot be out of date."""

    def __init__(self, service: Service):
        self.service, self._watches = service, 0

    async def Check(self, request: Any, context: Any) -> Any:
        """Say how a service is, by its name or of the whole server."""
        if request.service not in KNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return health_pb2.HealthCheckResponse(status=self._status(request.service))

    async def Watch(self, request: Any, context: Any) -> None:
        """Say how a service is now, and whenever that changes."""
        if self._watches >= MOST_WATCHES:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{MOST_WATCHES} watch already")
        self._watches += 1
        last = None
        try:
            while not self.service.way_out.given_up:
                if (status := self._status(request.service)) != last:
                    await context.write(health_pb2.HealthCheckResponse(status=status))
                    last = status
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            self._watches -= 1

    def _status(self, name: str) -> Any:
        if name not in KNOWN:
            return STATUSES.SERVICE_UNKNOWN
        return STATUSES.NOT_SERVING if self.service.not_ready else STATUSES.SERVING
