"""Both clients ask a real server; a scripted one refuses, fails and hangs up, to see what is asked again."""

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octorec.client import (
    Answer,
    AsyncClient,
    Client,
    DeadlinePassed,
    Failed,
    Options,
    Refused,
    ServerError,
    Unauthorized,
    Unavailable,
)
from octorec.client.answers import answer_of
from octorec.serve.schemas import Recommendations, RecommendRequest
from tests.serve.served import listening, make_engine, run

ANSWER = {
    "items": ["a"], "scores": [-1.0], "codes": [[1, 2, 3]], "complete": True, "exact": True, "bound": None,
    "near_tie": False, "beam_width": 16, "source": "model", "notes": [], "model": "m", "catalog": "c", "timings": {},
    "request_id": "r",
}  # fmt: skip
Calls = list[tuple[str, Any, dict[str, str]]]


def problem(status: int, outcome: str, field: str | None = None) -> dict[str, Any]:
    error = {"status": status, "type": outcome, "field": field, "message": f"{outcome} it is"}
    return {"error": error, "request_id": "r"}


@contextmanager
def scripted(*replies: Any) -> Iterator[tuple[str, Calls]]:
    """A server that gives these replies in turn, the last for ever: (status, headers, body), or None to hang up."""
    calls: Calls = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"]))
            calls.append((self.path, json.loads(raw), dict(self.headers)))
            reply = replies[min(len(calls), len(replies)) - 1]
            if reply is None:
                self.close_connection = True
                return
            status, headers, body = reply
            body = body(calls[-1][1]) if callable(body) else body
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(raw))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", calls
    finally:
        server.shutdown()
        server.server_close()


def both(url: str, ask: Callable[[Any], Any], **settings: Any) -> list[Any]:
    """What each client returns or raises."""

    async def as_async() -> Any:
        async with AsyncClient(url, **settings) as client:
            return await ask(client)

    def caught(work: Callable[[], Any]) -> Any:
        try:
            return work()
        except ServerError as error:
            return error

    with Client(url, **settings) as client:
        return [caught(lambda: ask(client)), caught(lambda: asyncio.run(as_async()))]


def test_the_server_answers_both_alike() -> None:
    async def test() -> None:
        async with listening(make_engine()) as (_, port):
            url = f"http://127.0.0.1:{port}"

            def ask(client: Any) -> Any:
                return client.recommend(["i1", "i2"], k=3, titles=True, exclude=("i5",), beam_width=np.int64(16))

            found = await asyncio.to_thread(both, url, ask)
            assert all(isinstance(one, Answer) for one in found)
            assert found[0].items == found[1].items
            assert len(found[0].items) == len(found[0].titles) == 3
            assert found[0].model == "first"
            assert not found[0].more
            [wrong, _] = await asyncio.to_thread(both, url, lambda client: client.recommend(["i1", 1.5], k=3))
            assert (type(wrong), wrong.status, wrong.field) == (Refused, 422, "history.1")
            several = [{"history": ["i1"], "k": 2}, {"history": ["i1"], "k": 10**6}, {"history": ["i2"], "k": 1}]
            for answers in await asyncio.to_thread(both, url, lambda client: client.recommend_many(several)):
                assert [type(one) for one in answers] == [Answer, Refused, Answer]
                assert answers[1].field == "k"
                assert [len(answers[0].items), len(answers[2].items)] == [2, 1]
            assert (await asyncio.to_thread(both, url, lambda client: client.health()))[0]["model"] == "first"

    run(test())


def test_lists_longer_than_a_body_holds_are_sent_in_parts() -> None:
    async def test() -> None:
        async with listening(make_engine()) as (_, port), AsyncClient(f"http://127.0.0.1:{port}") as client:
            answers = await client.recommend_many([{"history": [f"i{n % 90}"], "k": 1} for n in range(130)])
            alone = await client.recommend(["i7"], k=1)
            assert len(answers) == 130
            assert all(isinstance(one, Answer) for one in answers)
            assert [answers[7].items, answers[97].items] == [alone.items, alone.items]  # type: ignore[union-attr]
            assert await client.recommend_many([]) == []

    run(test())


def test_what_was_refused_for_room_is_asked_again_after_the_time_that_the_server_says() -> None:
    busy = (503, {"Retry-After": "1"}, problem(503, "queue_full"))
    with scripted(busy, (200, {}, ANSWER)) as (url, calls), Client(url, timeout_s=20) as client:
        start = time.monotonic()
        assert client.recommend(["1"]).items == ["a"]
        assert time.monotonic() - start >= 1
        (_, first, _), (_, second, _) = calls
        assert first["deadline_ms"] <= 20_000
        assert second["deadline_ms"] <= first["deadline_ms"] - 1000


def test_a_server_that_stays_busy_is_given_up_before_the_time_is_over() -> None:
    with scripted((503, {"Retry-After": "9"}, problem(503, "draining"))) as (url, calls):
        start = time.monotonic()
        for found in both(url, lambda client: client.recommend(["1"]), timeout_s=5.0):
            assert (type(found), found.outcome, found.status, found.request_id) == (Unavailable, "draining", 503, "r")
        assert time.monotonic() - start < 5
        assert len(calls) == 2


@pytest.mark.parametrize(
    ("status", "outcome", "kind"),
    [(422, "invalid", Refused), (401, "unauthorized", Unauthorized), (504, "deadline", DeadlinePassed),
     (500, "failed", Failed), (503, "not_live", Unavailable)],
)  # fmt: skip
def test_what_will_not_change_is_asked_once(status: int, outcome: str, kind: type[ServerError]) -> None:
    with scripted((status, {}, problem(status, outcome, "k"))) as (url, calls):
        for found in both(url, lambda client: client.recommend(["1"]), timeout_s=5.0):
            assert (type(found), found.status, found.outcome, found.field) == (kind, status, outcome, "k")
            assert str(found) == f"{outcome}: {outcome} it is (request r)"
        assert len(calls) == 2


def test_a_connection_that_was_cut_is_tried_again() -> None:
    with scripted(None, None, (200, {}, ANSWER)) as (url, calls), Client(url, timeout_s=20) as client:
        assert client.recommend(["1"]).items == ["a"]
        assert len(calls) == 3


def test_nobody_there_and_nobody_in_time_are_told_apart() -> None:
    with scripted((200, {}, ANSWER)) as (url, _):
        pass
    for found in both(url, lambda client: client.recommend(["1"]), timeout_s=0.5):
        assert (type(found), found.outcome) == (Unavailable, "unreachable")
    with scripted((200, {}, lambda _: time.sleep(1.5) or ANSWER)) as (url, _):
        for found in both(url, lambda client: client.recommend(["1"]), timeout_s=0.3):
            assert (type(found), found.outcome) == (DeadlinePassed, "timeout")


def test_of_a_list_only_what_had_no_room_is_asked_again() -> None:
    def first(body: list[Any]) -> Any:
        return {"answers": [ANSWER, problem(503, "queue_full"), problem(422, "invalid", "k")]}

    def second(body: list[Any]) -> Any:
        assert [one["history"] for one in body] == [["2"]]
        return {"answers": [{**ANSWER, "items": ["b"]}]}

    several: Sequence[Any] = [{"history": [str(n)]} for n in (1, 2, 3)]
    with scripted((200, {}, first), (200, {}, second)) as (url, calls), Client(url, timeout_s=20) as client:
        found = client.recommend_many(several)
        assert isinstance(found[0], Answer)
        assert isinstance(found[1], Answer)
        assert found[1].items == ["b"]
        assert isinstance(found[2], Refused)
        assert len(calls) == 2


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"items": []}', b"3", b'{"answers": 3}'])
def test_what_is_no_answer_is_an_error_that_says_so(body: bytes) -> None:
    with scripted((200, {}, body)) as (url, _), Client(url, timeout_s=1) as client:
        with pytest.raises(Failed, match="answer"):
            client.recommend(["1"])
        assert all(isinstance(one, ServerError) for one in client.recommend_many([{"history": ["1"]}]))
    with scripted((404, {}, body)) as (url, _), Client(url) as client, pytest.raises(Refused, match="no server of"):
        client.recommend(["1"])


def test_the_token_goes_along_and_a_newer_servers_fields_are_kept() -> None:
    with scripted((200, {}, {**ANSWER, "newer": 1})) as (url, calls), Client(url + "/", token="secret") as client:
        assert client.recommend(["1"]).more == {"newer": 1}
        assert calls[0][2]["Authorization"] == "Bearer secret"
        assert calls[0][0] == "/v1/recommend"


@pytest.mark.parametrize(("given", "name"), [({"url": "localhost:8080"}, "url"), ({"timeout_s": 0}, "timeout_s")])
def test_settings_that_cannot_be_are_refused(given: dict[str, Any], name: str) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(ValueError, match=name):
            kind(**{"url": "http://localhost:1", **given})


def test_its_fields_are_those_of_the_server() -> None:
    assert set(Options.__annotations__) | {"history", "deadline_ms"} == set(RecommendRequest.model_fields)
    assert {one.name for one in fields(Answer)} - {"more"} == set(Recommendations.model_fields)
    assert answer_of(ANSWER).exact


def test_it_needs_no_torch(tmp_path: Path) -> None:
    blocked = "import sys; sys.modules['torch'] = sys.modules['numpy'] = None; "
    code = blocked + "from octorec.client import Client; Client('http://localhost:1').close(); print('there')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "there\n"
