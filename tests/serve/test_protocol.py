"""Connections are bounded in bytes, lines, time and number, and health answers whatever a client does with its own."""

import asyncio
import socket
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import httpx
import pytest

from benchmarks.attack_answers import GOOD, UPGRADE, post
from benchmarks.attack_cases import CASES, CHUNKED, FLOODS, GET, POST, Case
from benchmarks.attackers import Thrown, ask, status, throw
from octorec.serve.connections import Connections, affordable, look_for_descriptors
from octorec.serve.metrics import Metrics
from octorec.serve.protocol import HEAD_BYTES, HEAD_LINES, PIPELINED
from tests.serve.served import listening, make_engine, run, until

SOON_S = 5.0
TOLD = {"body_after_401": "404", "pipeline": "closed"}  # others of the public port: 431


async def thrown(case: Case, port: int, seconds: float = SOON_S) -> Thrown:
    return await asyncio.to_thread(throw, case, port, seconds)


async def asked(port: int, request: bytes) -> bytes:
    return await asyncio.to_thread(ask, port, request, SOON_S)


@pytest.mark.slow
def test_what_has_no_end_is_ended() -> None:
    async def test() -> None:
        async with listening(make_engine()) as (_, port):
            for case in FLOODS:
                if not case.admin:
                    found = await thrown(case, port)
                    assert found.still_open == 0, case
                    assert set(found.said) == {TOLD.get(case.name, "431")}, (case, found)
            assert status(await asked(port, post())) == "200"

    run(test())


@pytest.mark.slow
def test_a_head_may_have_its_bytes_and_lines_and_no_more() -> None:
    def head(lines: int, longest: int) -> bytes:
        more = b"".join(b"X-%d: b\r\n" % number for number in range(lines - 2))
        return b"GET /health HTTP/1.1\r\nHost: x\r\n" + more + b"Long: " + b"x" * longest + b"\r\n\r\n"

    async def test() -> None:
        async with listening(make_engine()) as (_, port):
            assert status(await asked(port, head(HEAD_LINES, 10))) == "200"
            assert status(await asked(port, head(HEAD_LINES + 1, 10))) == "431"
            assert status(await asked(port, head(3, HEAD_BYTES - 200))) == "200"
            assert status(await asked(port, head(3, HEAD_BYTES))) == "431"
            refused = await asked(port, head(HEAD_LINES + 1, 10))
            assert b'"type":"head_too_large"' in refused
            assert b"connection: close" in refused
            large = GOOD + b" " * 300_000
            parts = b"".join(b"10\r\n" + large[at : at + 16] + b"\r\n" for at in range(0, 300_000, 16))
            assert status(await asked(port, CHUNKED + parts + b"0\r\nX-Trailer: a\r\n\r\n")) == "200"

    run(test())


def test_a_trailer_is_no_header() -> None:
    async def test() -> None:
        async with listening(make_engine()) as (_, port):
            body = b"%x\r\n" % len(GOOD) + GOOD + b"\r\n0\r\nX-Request-ID: from-a-trailer\r\nX-A: b\r\n\r\n"
            answer = await asked(port, CHUNKED + body)
            assert status(answer) == "200"
            assert b"from-a-trailer" not in answer

    run(test())


SLOW = ("silent", "slow_heads", "slow_blanks", "slow_bodies", "slow_trailers", "slow_404")


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_what_is_slow_is_ended_in_time(name: str) -> None:
    case = replace(CASES[name], connections=20, every_s=0.05)
    told = {"silent": "closed", "slow_404": "404"}.get(name, "408")

    async def test() -> None:
        limits = {"head_timeout_s": 0.2, "body_timeout_s": 0.2}
        async with listening(make_engine(), **limits) as (service, port):
            found = await thrown(case, port)
            assert (found.said, found.still_open) == (Counter({told: 20}), 0)
            assert found.last_s < 4
            assert service.accepted == 0

    run(test())


@pytest.mark.slow
def test_a_client_that_reads_nothing_is_cut_off() -> None:
    async def test() -> None:
        async with listening(make_engine(), answer_timeout_s=0.3) as (_, port):
            found = await thrown(replace(CASES["unread"], connections=3), port)
            assert found.still_open == 0

    run(test())


@pytest.mark.slow
def test_a_slow_reader_gets_all_of_a_large_page() -> None:
    async def test() -> None:
        async with listening(make_engine()) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            page = b"GET /static-offline-docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            writer.write(page)
            await asyncio.sleep(0.3)
            said = await reader.read()
            writer.close()
            head, _, body = said.partition(b"\r\n\r\n")
            assert f"content-length: {len(body)}".encode() in head

    run(test())


@pytest.mark.slow
def test_requests_that_are_sent_ahead_are_answered_in_order() -> None:
    async def test() -> None:
        async with listening(make_engine()) as (_, port):
            ids = [f"r{number}" for number in range(PIPELINED)]
            requests = [post(headers=f"X-Request-ID: {name}\r\n") for name in ids]
            last = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
            said = await asked_to_the_end(port, b"".join(requests) + last)
            found = [line.split(": ")[1] for line in said.decode().split("\r\n") if line.startswith("x-request-id: ")]
            assert found == ids
            assert said.count(b"HTTP/1.1 404") == 1

    run(test())


def test_bytes_behind_a_request_are_no_answer_to_it() -> None:
    async def test() -> None:
        async with listening(make_engine()) as (_, port):
            for behind in (b"\x00\x01\x02 noise\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200):
                said = await asked_to_the_end(port, post() + behind)
                assert status(said) == "200"
                assert said.count(b"HTTP/1.1 ") == 1

    run(test())


async def asked_to_the_end(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(20):
        said = await reader.read()
    writer.close()
    return said


@pytest.mark.slow
def test_an_upgrade_that_nobody_speaks_is_ignored() -> None:
    chunks = b"4\r\n" + GOOD[:4] + b"\r\n%x\r\n" % (len(GOOD) - 4) + GOOD[4:] + b"\r\n0\r\n\r\n"

    async def test() -> None:
        async with listening(make_engine()) as (_, port):
            for request in (
                post(headers=UPGRADE),
                POST + b"Transfer-Encoding: chunked\r\n" + UPGRADE.encode() + b"\r\n" + chunks,
                b"GET /health HTTP/1.1\r\nHost: x\r\n" + UPGRADE.encode() + b"\r\n",
            ):
                assert status(await asked(port, request)) == "200"
                three = await asked_to_the_end(port, request * 2 + _closing(request))
                assert three.count(b"HTTP/1.1 200") == 3
                slowly = await in_pieces(port, _closing(request))
                assert status(slowly) == "200"

    run(test())


def _closing(request: bytes) -> bytes:
    return request.replace(b"Connection: Upgrade", b"Connection: close, Upgrade")


async def in_pieces(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for at in range(0, len(request), 9):
        writer.write(request[at : at + 9])
        await asyncio.sleep(0)
        await writer.drain()
    async with asyncio.timeout(20):
        said = await reader.read()
    writer.close()
    return said


@pytest.mark.slow
def test_a_refusal_arrives_while_the_body_is_still_sent() -> None:
    large = b"x" * 2**20

    async def test() -> None:
        async with listening(make_engine(), max_body_bytes=1000) as (_, port):
            for _ in range(20):
                for request, told in ((post(large), "413"), (post(large, path="/nothing"), "404")):
                    said = await asked(port, request)
                    assert status(said) == told
                    assert b"connection: close" in said.lower()

    run(test())


def test_clients_that_are_gone_before_their_refusal_are_no_error(caplog: pytest.LogCaptureFixture) -> None:
    head = b"HEAD /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"

    async def test() -> None:
        async with listening(make_engine()) as (_, port):
            for steps in range(20):  # of the event loop: after one of them the request is read and not answered yet
                with socket.create_connection(("127.0.0.1", port)) as client:
                    client.sendall(head)
                    for _ in range(steps):
                        await asyncio.sleep(0)
            assert status(await asked(port, post())) == "200"

    run(test())
    assert not [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.slow
def test_of_too_many_connections_those_go_that_wait_longest() -> None:
    async def test() -> None:
        async with (
            listening(make_engine(), max_connections=12) as (_, port),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
        ):
            assert (await client.get("/health")).status_code == 200
            held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(30)]
            assert (await client.get("/health")).status_code == 200
            gone = 0
            for reader, _ in held:
                try:
                    async with asyncio.timeout(0.05):
                        gone += await reader.read() == b""
                except (TimeoutError, ConnectionError) as error:
                    gone += isinstance(error, ConnectionError)
            assert 18 <= gone <= 20
            for _, writer in held:
                writer.close()

    run(test())


class Held:
    """In the place of a connection."""

    dropped = False

    def drop(self) -> None:
        self.dropped = True


def test_who_has_to_go() -> None:
    metrics = Metrics()
    all_of_them = Connections(3, metrics)
    idle, busy, new, one, two, three = (Held() for _ in range(6))
    for connection in (idle, busy, new):
        all_of_them.opened(connection)
    all_of_them.has_request(idle)
    all_of_them.is_idle(idle)
    all_of_them.has_request(busy)
    all_of_them.opened(one)
    assert new.dropped
    all_of_them.has_request(one)
    all_of_them.opened(two)
    assert idle.dropped
    all_of_them.has_request(two)
    all_of_them.opened(three)  # all others are answered just now
    assert three.dropped
    assert not any(connection.dropped for connection in (busy, one, two))
    assert metrics.registry.get_sample_value("octorec_connections_ended_total", {"why": "limit"}) == 3
    assert metrics.registry.get_sample_value("octorec_connections") == 3


def test_few_descriptors_make_few_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [(1024, 4096)]
    monkeypatch.setattr("resource.getrlimit", lambda _: limits[-1])
    monkeypatch.setattr("resource.setrlimit", lambda _, pair: limits.append(pair))
    assert affordable(1000) == 1000
    assert limits[-1] == (1128, 4096)
    limits.append((256, 256))
    assert affordable(1000) == 128
    limits.append((20, 20))
    assert affordable(1000) == 10


def test_descriptors_that_run_out_are_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics()

    def none_left(_: int) -> int:
        raise OSError(24, "Too many open files")

    assert look_for_descriptors(metrics)
    monkeypatch.setattr("os.dup", none_left)
    assert not look_for_descriptors(metrics)
    assert metrics.registry.get_sample_value("octorec_no_descriptors_total") == 1
    assert "no descriptor is left" in caplog.text


@pytest.mark.slow
def test_health_is_quick_while_connections_are_held() -> None:
    async def test() -> None:
        async with listening(make_engine(), max_connections=50) as (service, port):
            case = replace(CASES["slow_heads"], connections=200, every_s=0.2)
            attack = asyncio.create_task(thrown(case, port, 1.0))
            await asyncio.sleep(0.3)
            worst = 0.0
            for _ in range(20):
                start = time.monotonic()
                said = await asked(port, b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert status(said) == "200"
                worst = max(worst, time.monotonic() - start)
            assert worst < 1
            metric: Any = service.metrics.registry.get_sample_value
            assert metric("octorec_connections") <= 50
            await attack
            await until(lambda: metric("octorec_connections") == 0, "all are closed", 5)

    run(test())
