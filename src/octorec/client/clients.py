"""One client blocks, the other is for asyncio. Both keep connections open, and many callers may share one."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self, TypeVar, Unpack

import httpx

from octorec.client.answers import Answer
from octorec.client.asked import Asked, Options, as_asked
from octorec.client.errors import ServerError
from octorec.client.exchange import Lost, Reply, Send, Talk, Wait, ask, recommend, recommend_many

TIMEOUT_S = 30.0
Result = TypeVar("Result")


class _Settings:
    """A _Settings has where a server is, and for how long a call may ask it."""

    def __init__(self, url: str, token: str | None = None, timeout_s: float = TIMEOUT_S):
        """Take the server's address, such as http://127.0.0.1:8080.

        token: that the server asks for, if it does. timeout_s: for all tries of a call; the server is told what is
        left.
        """
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"url: got {url!r}; must begin with http:// or https://")
        if not 0 < timeout_s <= 3600:
            raise ValueError(f"timeout_s: got {timeout_s!r}; must be above 0, at most 3600 seconds")
        self.url, self.timeout_s = url.rstrip("/"), timeout_s
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def _left(self, timeout_s: float | None) -> float:
        if timeout_s is not None and not 0 < timeout_s <= 3600:
            raise ValueError(f"timeout_s: got {timeout_s!r}; must be above 0, at most 3600 seconds")
        return self.timeout_s if timeout_s is None else timeout_s


class Client(_Settings):
    """A Client asks a server, and waits. Threads may share it.

    Recommending changes nothing, so what was refused for lack of room (503), and what a lost connection left open, is
    asked again within `timeout_s`, after the time that the server says.
    """

    def __init__(self, url: str, token: str | None = None, timeout_s: float = TIMEOUT_S):
        super().__init__(url, token, timeout_s)
        self._http = httpx.Client(base_url=self.url, headers=self._headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the client: its connections are closed."""
        self._http.close()

    def recommend(
        self, history: Sequence[str] | None = None, *, timeout_s: float | None = None, **options: Unpack[Options]
    ) -> Answer:
        """Return the best items for a history, oldest item first; a ServerError where there is no answer."""
        return self._run(recommend(as_asked(history, options), self._left(timeout_s)))

    def recommend_many(self, several: Sequence[Asked], *, timeout_s: float | None = None) -> list[Answer | ServerError]:
        """Return of each request its answer, or the error that ended it."""
        return self._run(recommend_many(several, self._left(timeout_s)))

    def health(self) -> Mapping[str, Any]:
        """Return the versions that answer; a ServerError where the server does not answer requests."""
        found: Mapping[str, Any] = self._run(ask("/health", self.timeout_s))
        return found

    def _run(self, talk: Talk[Result]) -> Result:
        got: Any = None
        while True:
            try:
                step = talk.send(got)
            except StopIteration as end:
                result: Result = end.value
                return result
            if isinstance(step, Wait):
                time.sleep(step.seconds)
                got = None
            else:
                got = self._reply(step)

    def _reply(self, step: Send) -> Reply | Lost:
        try:
            return _read(self._http.send(_request(self._http, step)))
        except httpx.TransportError as error:
            return _lost(error)


class AsyncClient(_Settings):
    """An AsyncClient asks a server without blocking the event loop; else it is as `Client`."""

    def __init__(self, url: str, token: str | None = None, timeout_s: float = TIMEOUT_S):
        super().__init__(url, token, timeout_s)
        self._http = httpx.AsyncClient(base_url=self.url, headers=self._headers)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the client: its connections are closed."""
        await self._http.aclose()

    async def recommend(
        self, history: Sequence[str] | None = None, *, timeout_s: float | None = None, **options: Unpack[Options]
    ) -> Answer:
        """Return the best items for a history, oldest item first; a ServerError where there is no answer."""
        return await self._run(recommend(as_asked(history, options), self._left(timeout_s)))

    async def recommend_many(
        self, several: Sequence[Asked], *, timeout_s: float | None = None
    ) -> list[Answer | ServerError]:
        """Return of each request its answer, or the error that ended it."""
        return await self._run(recommend_many(several, self._left(timeout_s)))

    async def health(self) -> Mapping[str, Any]:
        """Return the versions that answer; a ServerError where the server does not answer requests."""
        found: Mapping[str, Any] = await self._run(ask("/health", self.timeout_s))
        return found

    async def _run(self, talk: Talk[Result]) -> Result:
        got: Any = None
        while True:
            try:
                step = talk.send(got)
            except StopIteration as end:
                result: Result = end.value
                return result
            if isinstance(step, Wait):
                await asyncio.sleep(step.seconds)
                got = None
            else:
                got = await self._reply(step)

    async def _reply(self, step: Send) -> Reply | Lost:
        try:
            return _read(await self._http.send(_request(self._http, step)))
        except httpx.TransportError as error:
            return _lost(error)


def _request(http: httpx.Client | httpx.AsyncClient, step: Send) -> httpx.Request:
    method = "GET" if step.body is None else "POST"
    return http.build_request(method, step.path, json=step.body, timeout=step.timeout_s)


def _read(response: httpx.Response) -> Reply:
    given = response.headers.get("retry-after", "")
    try:
        raw = response.json()
    except ValueError:
        raw = None
    return Reply(response.status_code, float(given) if given.isdecimal() else None, raw)


def _lost(error: httpx.TransportError) -> Lost:
    said = str(error) or type(error).__name__
    return Lost(said, isinstance(error, httpx.TimeoutException))
