"""The server from loading to draining, and what happens to clients that leave, over real sockets."""

import asyncio
import json
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from octorec.cli import app as cli
from octorec.engine.engine import Engine
from octorec.engine.request import Request
from octorec.errors import InputError
from octorec.serve.app import create_app
from octorec.serve.config import ServeConfig
from octorec.serve.service import SWITCH_S, Service
from tests.serve.served import (
    Gate,
    Process,
    listening,
    make_catalog,
    make_engine,
    one_process,
    run,
    save_checkpoint,
    served,
    until,
)

GOOD = {"history": ["i1"], "k": 3}


def gate(engine: Engine) -> Gate:
    assert isinstance(engine.model, Gate)
    return engine.model


async def send(port: int, body: dict[str, Any]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    content = json.dumps(body).encode()
    head = f"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
    writer.write(head.encode() + content)
    await writer.drain()
    return reader, writer


async def received(reader: asyncio.StreamReader) -> dict[str, Any]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    assert head.startswith(b"HTTP/1.1 200"), head
    assert length
    return json.loads(await reader.readexactly(int(length.group(1))))


def test_clients_that_hang_up_free_their_places_and_disturb_nobody() -> None:
    """32 run, 468 wait, with 32 neighbours among them that stay; all others leave."""
    engine = make_engine(gate=True, batch_sizes=(32,), beam_widths=(16,))
    staying = [Request([f"i{n}", f"i{n + 40}"], k=8) for n in range(32)]

    async def test() -> None:
        async with listening(engine, max_queued_requests=500) as (service, port):
            gate(engine).shut()
            first = [await send(port, GOOD)]
            await until(gate(engine).entered.is_set, "the device is held")
            leaving = [await send(port, {"history": [f"i{n % 90}"], "k": 3}) for n in range(31)]
            stay = []
            for number in range(468):
                if number % 15 == 0:
                    request = staying[number // 15]
                    stay.append(await send(port, {"history": request.history, "k": request.k}))
                else:
                    leaving.append(await send(port, {"history": [f"i{number % 90}"], "k": 3}))
            await until(lambda: service.batcher.waiting == 499, "499 wait")
            for _, writer in first + leaving:
                writer.transport.abort()
            await until(lambda: service.batcher.waiting == len(stay), "whoever waited has left")
            gate(engine).batches.clear()
            gate(engine).open.set()
            answers = [await received(reader) for reader, _ in stay]
            await until(lambda: service.accepted == 0, "no place is taken")
            assert len(gate(engine).batches) == 2  # the held one, and one of all that stayed
            assert service.batcher.running == 0
            cancelled = service.metrics.registry.get_sample_value("octorec_requests_total", {"outcome": "cancelled"})
            assert cancelled == 500 - len(stay)
            for request, answer in zip(staying, answers, strict=False):
                expected = engine.recommend([request])[0]
                assert answer["items"] == expected.items
                assert np.array_equal(np.float32(answer["scores"]), np.float32(expected.scores))
            for _, writer in stay:
                writer.close()
            print(f"{cancelled:.0f} hung up, {len(stay)} neighbours bit-equal, in 1 batch after the held one")

    run(test())


def test_a_body_that_does_not_come_is_408_and_one_that_is_cut_off_does_no_harm() -> None:
    async def test() -> None:
        head = b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\n{"
        async with listening(make_engine(), body_timeout_s=0.2) as (service, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head)
            assert (await reader.readline()).startswith(b"HTTP/1.1 408")
            assert ended(service, "timeout") == 1
            writer.close()
        async with listening(make_engine(), body_timeout_s=600) as (service, port):
            _, cut = await asyncio.open_connection("127.0.0.1", port)
            cut.write(head)
            await cut.drain()
            cut.transport.abort()
            await until(lambda: ended(service, "cancelled") == 1, "the cut one is counted")
            reader, writer = await send(port, GOOD)
            assert len((await received(reader))["items"]) == 3
            writer.close()

    run(test())


def ended(service: Service, outcome: str) -> float | None:
    """How many requests have ended so."""
    return service.metrics.registry.get_sample_value("octorec_requests_total", {"outcome": outcome})


def test_whoever_starts_a_service_gets_its_settings_of_the_process() -> None:
    sys.setswitchinterval(0.005)

    async def test() -> None:
        async with served(make_engine()):
            assert sys.getswitchinterval() == pytest.approx(SWITCH_S)

    run(test())


def test_ready_comes_after_warm_up_and_requests_before_it_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    engine = make_engine(gate=True)
    gate(engine).shut()

    async def test() -> None:
        service = Service(lambda: engine, "first", ServeConfig())
        app = create_app(service)
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                await until(gate(engine).entered.is_set, "it warms up")
                assert [await status(client, path) for path in HEALTH] == [503, 200, 503, 503]
                refused = await client.post("/v1/recommend", json=GOOD)
                assert refused.status_code == 503
                assert refused.json()["error"]["type"] == "not_ready"
                gate(engine).open.set()
                await service.loaded
                assert gate(engine).batches == [32, 32, 1, 1]  # every bucket
                lines = [line for line in caplog.records if line.message == "bucket"]  # and what it costs
                made = [(bucket.size, bucket.widths[0]) for bucket in engine.buckets()]
                assert [(line.batch_size, line.beam_width) for line in lines] == made  # type: ignore[attr-defined]
                assert all(line.batch_ms > 0 for line in lines)  # type: ignore[attr-defined]
                assert [await status(client, path) for path in HEALTH] == [200] * 4
                assert (await client.post("/v1/recommend", json=GOOD)).status_code == 200
                assert (await client.get("/v2/models/other/ready")).status_code == 404

    run(test())


HEALTH = ("/health", "/v2/health/live", "/v2/health/ready", "/v2/models/octorec/ready")


async def status(client: httpx.AsyncClient, path: str) -> int:
    return (await client.get(path)).status_code


class Clock:
    """The server's clock, which a test puts forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


@one_process
def test_a_stuck_device_is_not_live_and_a_busy_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, clock = make_engine(gate=True), Clock()
    patient = {**GOOD, "deadline_ms": 3_600_000}
    for module in ("batcher", "front"):
        monkeypatch.setattr(f"octorec.serve.{module}.time", clock)

    async def test() -> None:
        async with served(engine, stuck_after_s=100.0) as (service, client):
            assert service.batcher.stuck_after_s == 100.0  # warm-up was quicker than a fifth of that

            done = asyncio.Event()

            async def busy() -> None:
                while not done.is_set():
                    assert (await client.post("/v1/recommend", json=patient)).status_code == 200

            async def held(seconds: float) -> int:
                """The device takes so long for a batch; whether it is live then."""
                gate(engine).shut()
                await until(gate(engine).entered.is_set, "the device is held")
                clock.ahead += seconds
                live = await status(client, "/v2/health/live")
                batches = len(gate(engine).batches)
                gate(engine).open.set()
                await until(lambda: len(gate(engine).batches) > batches, "the held one has run")
                return live

            asking = [asyncio.create_task(busy()) for _ in range(8)]
            assert [await held(60) for _ in range(4)] == [200] * 4
            done.set()
            await asyncio.gather(*asking)
            stuck = asyncio.create_task(client.post("/v1/recommend", json=patient))
            assert await held(101) == 503
            assert (await stuck).status_code == 200
            assert [await status(client, f"/v2/health/{what}") for what in ("live", "ready")] == [200, 200]

    run(test())


def test_a_device_that_fails_on_everything_is_not_live() -> None:
    engine = make_engine(gate=True)
    catalog = engine.catalog
    device_probe = tuple(catalog.codes[0].tolist())

    async def test() -> None:
        async with served(engine) as (_, client):
            gate(engine).poison = device_probe
            failed = await client.post("/v1/recommend", json={"history": [catalog.item_ids[0]], "k": 3})
            assert failed.status_code == 500
            response = await client.get("/v2/health/live")
            assert response.status_code == 503
            error = response.json()["error"]
            assert (error["type"], error["status"]) == ("not_live", 503)
            assert "fails on every request" in error["message"]
            assert "retry-after" not in response.headers
            gate(engine).poison = None
            assert (await client.post("/v1/recommend", json=GOOD)).status_code == 200
            assert await status(client, "/v2/health/live") == 200

    run(test())


def test_the_event_loop_does_not_wait_for_the_device() -> None:
    engine = make_engine(gate=True)

    async def test() -> None:
        async with served(engine) as (_, client):
            gate(engine).shut()
            held = asyncio.create_task(client.post("/v1/recommend", json=GOOD))
            await until(gate(engine).entered.is_set, "the device is held")
            assert {await status(client, "/metrics") for _ in range(50)} == {200}  # the device is held until here
            gate(engine).open.set()
            assert (await held).status_code == 200

    run(test())


def test_what_cannot_be_loaded_fails_with_its_reason() -> None:
    def engine() -> Engine:
        raise InputError("checkpoint", "x", "is none")

    async def test() -> None:
        service = Service(engine, "first", ServeConfig())
        await service.start()
        await service.loaded
        assert service.state == "failed"
        assert "is none" in str(service.not_live)
        await service.stop()
        too_many = Service(lambda: make_engine(), "first", ServeConfig.of(max_batch_size=64))
        await too_many.start()
        await too_many.loaded
        assert "max_batch_size: got 64; at most the engine's largest batch size 32" in str(too_many.error)

    run(test())


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "model", make_catalog())
    return tmp_path / "model"


@pytest.mark.slow
def test_sigterm_under_load_answers_what_was_accepted(checkpoint: Path) -> None:
    server = Process(checkpoint, "--batch-sizes", "1,32", "--beam-widths", "16,128", "--max-queued-requests", "2000",
                     "--no-log-requests")  # fmt: skip
    url = f"http://127.0.0.1:{server.line('listening')['port']}"
    server.line("ready")
    body = {"history": ["i1", "i2"], "k": 50, "beam_width": 128}
    statuses: list[int] = []

    async def test() -> None:
        limits = httpx.Limits(max_connections=300)
        async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:

            async def one() -> None:
                response = await client.post("/v1/recommend", json=body)
                statuses.append(response.status_code)
                if response.status_code == 200:
                    assert len(response.json()["items"]) == 50
                else:
                    assert response.json()["error"]["type"] == "draining"  # it came after SIGTERM

            asked = [asyncio.create_task(one()) for _ in range(300)]
            while await gauge(client, "octorec_num_requests_waiting") < 100:
                await asyncio.sleep(0.005)
            server.process.send_signal(signal.SIGTERM)
            at = time.monotonic()
            while (await client.get("/v2/health/ready")).status_code == 200:  # until the signal was heard
                await asyncio.sleep(0.001)
            refused = await client.post("/v1/recommend", json=body)
            assert (refused.status_code, refused.json()["error"]["type"]) == (503, "draining")
            await asyncio.gather(*asked)
            print(
                f"{statuses.count(200)} answered, {statuses.count(503)} refused, {time.monotonic() - at:.2f} s to end"
            )

    asyncio.run(test())
    assert server.end() == 0
    accepted = server.line("draining")["accepted"]
    assert statuses.count(200) >= accepted >= 100
    assert len(statuses) == 300


async def gauge(client: httpx.AsyncClient, name: str) -> float:
    text = (await client.get("/metrics")).text
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    return float(found.group(1)) if found else 0.0


@pytest.mark.slow
def test_a_second_signal_ends_at_once(checkpoint: Path) -> None:
    server = Process(checkpoint, "--batch-sizes", "1", "--beam-widths", "128", "--drain-delay-s", "20")
    server.line("ready")
    server.process.send_signal(signal.SIGTERM)
    server.line("draining")
    server.process.send_signal(signal.SIGTERM)
    assert server.end() == 1  # 0 after the 20 seconds


@pytest.mark.slow
def test_a_checkpoint_that_is_none_ends_with_one_line_and_2(tmp_path: Path) -> None:
    server = Process(tmp_path)
    assert server.process.stderr
    last = server.process.stderr.read().splitlines()[-1]
    assert server.end() == 2
    assert last.startswith("error: checkpoint: got"), last


def test_the_help_of_serve_names_paths_that_are_answered() -> None:
    async def check() -> None:
        paths = re.findall(r"/[\w/]+(?=[,.])", str(cli.serve.__doc__))
        assert len(paths) == 4
        async with served(make_engine()) as (_, client):
            for path in paths:
                assert (await client.get(path)).status_code in (200, 405), path

    run(check())
