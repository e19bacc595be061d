"""A request is refused before its body is read where it has no token or there is no place for it."""

from collections.abc import Mapping

from starlette.requests import Request

from octorec.serve.access import decoded, read_body
from octorec.serve.clients import Clients
from octorec.serve.front import Front
from octorec.serve.tokens import Tokens


class Door:
    """A Door lets requests for answers in."""

    def __init__(self, service: Front):
        self.service, self.options = service, service.config.http
        self.tokens, self.clients = Tokens(self.options.token_file), Clients(self.options)

    async def enter(self, http: Request) -> tuple[str, object]:
        """Return the client whose request it is, and the decoded body; a Refusal as soon as it is known."""
        client = self.client_of(http)
        return client, decoded(await read_body(http, self.options.max_body_bytes, self.options.body_timeout_s))

    def client_of(self, http: Request) -> str:
        """Return the client whose request it is; a Refusal where it has no token or there is no place for it."""
        client = self.clients.name(http, self.tokens.check(http))
        self.service.refuse_early(client)
        return client

    def refuse_late(self, client: str, raw: object) -> None:
        """Refuse a decoded request that cannot be in time, before it is checked."""
        asked = raw.get("deadline_ms") if isinstance(raw, Mapping) else None
        deadline_ms = asked if isinstance(asked, int | float) else self.service.config.batch.default_deadline_ms
        self.service.refuse_early(client, deadline_ms)
