"""A request is refused before its body is read where it has no token or there is no place for it."""

from collections.abc import Mapping

from starlette.requests import Request

from octorec.serve.access import decoded, read_body
from octorec.serve.clients import Clients
from octorec.serve.front import Front
from octorec.serve.refusal import Refusal
from octorec.serve.throttle import Throttle, address_of
from octorec.serve.tokens import Tokens

ASKED_AGAIN = ("queue_full", "overloaded")  # outcomes that a client may try to better at once


class Door:
    """A Door lets requests for answers in."""

    def __init__(self, service: Front):
        self.service, self.options = service, service.config.http
        self.tokens, self.clients = Tokens(self.options.token_file), Clients(self.options)
        self.throttle = Throttle()

    async def enter(self, http: Request) -> tuple[str, object]:
        """Return the client whose request it is, and the decoded body; a Refusal as soon as it is known."""
        client = await self.client_of(http)
        raw = decoded(await read_body(http, self.options.max_body_bytes, self.options.body_timeout_s))
        if not isinstance(raw, list):  # of a list each is refused by itself
            try:
                self.refuse_late(client, raw)
            except Refusal as refusal:
                await self.held(client, refusal)
                raise
        return client, raw

    async def client_of(self, http: Request) -> str:
        """Return the client whose request it is; a Refusal where it has no token or there is no place for it."""
        client = self.clients.name(http, await self.holder_of(http))
        try:
            self.service.refuse_early(client)
        except Refusal as refusal:
            await self.held(client, refusal)
            raise
        return client

    async def holder_of(self, http: Request) -> str:
        """Return a name of the token's holder, as `Tokens.check`."""
        try:
            return self.tokens.check(http)
        except Refusal:
            await self.throttle.hold(address_of(http))
            raise

    async def held(self, client: str, refusal: Refusal) -> None:
        """Return when a refusal may be sent to its client."""
        if refusal.outcome in ASKED_AGAIN:
            await self.throttle.hold(client)

    def refuse_late(self, client: str, raw: object) -> None:
        """Refuse a decoded request that cannot be in time, before it is checked."""
        asked = raw.get("deadline_ms") if isinstance(raw, Mapping) else None
        deadline_ms = asked if isinstance(asked, int | float) else self.service.config.batch.default_deadline_ms
        self.service.refuse_early(client, deadline_ms)
