"""No web page gets at the admin port through the browser of somebody who may: Host and Origin are looked at first."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from octorec.serve.refusal import Refusal


class OwnPagesOnly:
    """OwnPagesOnly is middleware. It refuses a request that names a host which this server does not have (a name that
    a web page had point to this machine), and one that another page than the server's own makes.

    names: hosts of this server, besides localhost and all addresses, which no page can have point elsewhere.
    """

    def __init__(self, app: ASGIApp, names: tuple[str, ...]):
        self.app, self.names = app, {"localhost", *(name.lower() for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refused(Headers(scope=scope)) if scope["type"] == "http" else None
        if refusal is None:
            await self.app(scope, receive, send)
        else:
            await JSONResponse(refusal.body(), refusal.status)(scope, receive, send)

    def _refused(self, headers: Headers) -> Refusal | None:
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            return Refusal("forbidden", "host: is no name of this server; admin_names may add one", "host")
        if origins and origins not in ([f"http://{hosts[0]}"], [f"https://{hosts[0]}"]):
            return Refusal("forbidden", "origin: other pages may not ask", "origin")
        return None

    def _is_own(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return name in self.names or bool(ip_address(name))
        except ValueError:
            return False
