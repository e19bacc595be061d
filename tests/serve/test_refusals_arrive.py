"""A refusal before the body is read reaches its client, and the connection ends within a bound."""

import asyncio
import time
from typing import Any

import pytest

from octorec.serve import protocol
from octorec.serve.service import Service
from tests.serve.served import Gate, listening, make_engine, run, until

MILLION = b'{"history": ["' + b"x" * 1_000_000 + b'"]}'


async def exchange(port: int, expect: bool, slow: bool = False) -> bytes:
    """Send a head and a body of 1 MB as a client does that reads after it has sent; return all that came back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = ["POST /v1/recommend HTTP/1.1", "Host: x", f"Content-Length: {len(MILLION)}"]
    lines += ["Expect: 100-continue"] if expect else []
    writer.write("\r\n".join([*lines, "", ""]).encode())
    try:
        if expect:
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 100"):
                return head + await reader.read()
        for at in range(0, len(MILLION), 2**16):
            writer.write(MILLION[at : at + 2**16])
            await writer.drain()
        return await reader.read()
    except ConnectionError:
        return b"reset"
    finally:
        writer.close()


def holds(service: Service, port: int) -> Any:
    return asyncio.create_task(ask(port))


async def ask(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = b'{"history": ["i1"], "k": 3, "deadline_ms": 600000}'
    writer.write(b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return head


async def drip(writer: asyncio.StreamWriter) -> None:
    for _ in range(1000):
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def pour(writer: asyncio.StreamWriter) -> None:
    for _ in range(1000):
        writer.write(b"x" * 2**16)
        await writer.drain()


@pytest.mark.parametrize("expect", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["body", "expect"])
def test_100_of_100_refusals_of_bodies_of_1_mb_arrive(expect: bool) -> None:
    engine = make_engine(gate=True)
    assert isinstance(engine.model, Gate)
    gate = engine.model

    async def test() -> None:
        async with listening(engine, max_queued_requests=1) as (service, port):
            gate.shut()
            held = holds(service, port)
            await until(gate.entered.is_set, "the device is held")
            waits = holds(service, port)
            await until(lambda: service.batcher.waiting == 1, "the queue is full")
            said = [
                answer
                for _ in range(10)
                for answer in await asyncio.gather(*(exchange(port, expect) for _ in range(10)))
            ]
            for answer in said:
                head = answer.lower()
                assert head.startswith(b"http/1.1 503"), answer[:200]
                assert b"retry-after: " in head
                assert b"connection: close" in head
                assert b"queue_full" in head
            gate.open.set()
            assert b" 200 " in await held
            assert b" 200 " in await waits
            assert b"keep" not in (await ask(port)).lower()

    run(test())


@pytest.mark.slow
def test_a_client_that_goes_on_sending_is_cut_off_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "LINGER_S", 0.3)

    async def test() -> None:
        async with listening(make_engine(), max_body_bytes=100) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 413")
            start = time.monotonic()
            with pytest.raises(ConnectionError):
                await drip(writer)
            assert time.monotonic() - start < 10
            writer.close()

    run(test())


@pytest.mark.slow
def test_what_a_lingering_connection_reads_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "LINGER_BYTES", 2**20)

    async def test() -> None:
        async with listening(make_engine(), max_body_bytes=100) as (_, port):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
            with pytest.raises(ConnectionError):
                await pour(writer)
            writer.close()

    run(test())


def test_an_answer_after_the_whole_body_keeps_the_connection() -> None:
    async def test() -> None:
        async with listening(make_engine()) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for body, status in ((b"{", 400), (b'{"history": ["i1"], "k": 3}', 200), (b'{"k": 0}', 422)):
                writer.write(b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                assert head.startswith(b"http/1.1 %d" % status)
                assert b"connection: close" not in head
                length = int(head.partition(b"content-length: ")[2].partition(b"\r")[0])
                await reader.readexactly(length)
            writer.close()

    run(test())
