"""The way out of a process has one limit: what is left gets 503, is counted, and the exit code says it."""

import asyncio
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.overload_device import command
from benchmarks.overload_load import requests
from benchmarks.wire import Answer, Wire, counted
from octorec.serve.service import Service
from tests.serve.served import (
    Gate,
    Process,
    listening,
    make_catalog,
    make_engine,
    one_process,
    run,
    save_checkpoint,
    until,
)

ITEMS = [f"i{number}" for number in range(90)]
HANGS = """
import time
import octorec.serve.{module} as module
module.{name} = lambda *given, **more: time.sleep(600)
from octorec.cli.app import main
main()
"""
SLACK_S = 3.0  # of a busy machine, for the process to be seen to have ended


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "model", make_catalog())
    return tmp_path / "model"


@one_process
def test_what_is_left_near_the_limit_is_refused_and_counted() -> None:
    """Requests on the device, in the queue and with half a body: each gets 503, none a bare 500."""
    engine = make_engine(gate=True)
    assert isinstance(engine.model, Gate)
    gate = engine.model

    async def test() -> None:
        async with listening(engine, drain_timeout_s=60) as (service, port):
            gate.shut()
            wire = Wire(port)
            sent = requests(ITEMS, 8, 5, k=3)
            asked = [asyncio.create_task(wire.ask(sent[0]))]
            await until(gate.entered.is_set, "the device is held")
            asked += [asyncio.create_task(wire.ask(one)) for one in sent[1:]]
            await until(lambda: service.batcher.waiting == 7, "seven wait")
            half = asyncio.create_task(wire.ask(sent[0][:-5]))
            await until(lambda: len(service.way_out) == 9, "one is still sending")
            service.drain()
            await service.give_up()
            answers = [*await asyncio.gather(*asked), await half]
            check_refused(answers)
            assert service.way_out.unanswered == 9
            assert metric(service, "draining") == 9
            gate.open.set()

    run(test())


def check_refused(answers: list[Answer]) -> None:
    assert counted(answers) == {"503": len(answers)}
    for answer in answers:
        assert answer.retry_after
        assert b'"draining"' in answer.body


def metric(service: Service, outcome: str) -> Any:
    return service.metrics.registry.get_sample_value("octorec_requests_total", {"outcome": outcome})


@pytest.mark.slow
def test_the_process_ends_within_its_limit_with_1_where_requests_are_left(checkpoint: Path) -> None:
    limit_s = 4.0
    program = command(sys.executable, str(checkpoint))[1:3]
    flags = ("--beam-widths", "16", "--default-beam-width", "16", "--batch-sizes", "1,4", "--no-log-requests")
    flags += ("--max-queued-requests", "256")
    server = Process(checkpoint, *flags, "--drain-timeout-s", str(limit_s), program=program)
    port = server.line("listening")["port"]
    server.line("ready")

    async def test() -> tuple[list[Answer], float]:
        wire = Wire(port)
        asked = [asyncio.create_task(wire.ask(one)) for one in requests(ITEMS, 200, 5)]
        await asyncio.sleep(1.5)
        server.process.send_signal(signal.SIGTERM)
        start = time.monotonic()
        return await asyncio.gather(*asked), start

    answers, start = asyncio.run(test())
    assert server.end() == 1
    assert time.monotonic() - start < limit_s + SLACK_S
    found = counted(answers)
    print(f"{found}, {time.monotonic() - start:.1f} s")
    assert set(found) == {"200", "503"}
    assert found["200"] >= 20
    check_refused([answer for answer in answers if answer.status == "503"])


@pytest.mark.slow
@pytest.mark.parametrize("module", ["run", "operations", "in_place"])
def test_sigterm_during_a_load_that_hangs_ends_within_the_limit_and_leaves_nothing(
    module: str, checkpoint: Path, tmp_path: Path
) -> None:
    make_catalog(95, seed=2).save(tmp_path / "catalogs" / "two")
    save_checkpoint(tmp_path / "models" / "two", make_catalog(), seed=1)
    name = {"run": "load_engine", "operations": "load_catalog", "in_place": "read_weights"}[module]
    flags = ["--drain-timeout-s", "2", "--batch-sizes", "1", "--beam-widths", "16", "--default-beam-width", "16"]
    flags += ["--admin-port", str(free_port()), "--catalog-root", str(tmp_path / "catalogs")]
    flags += ["--model-root", str(tmp_path / "models")]
    before = sorted(tmp_path.rglob("*"))
    server = Process(checkpoint, *flags, program=("-c", HANGS.format(module=module, name=name)))
    server.line("listening")
    if module != "run":
        server.line("ready")
        asyncio.run(begin_load(int(flags[flags.index("--admin-port") + 1]), module == "in_place"))
    start = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert server.end() == (0 if module == "run" else 1)  # the operator's request was left
    assert time.monotonic() - start < 2 + SLACK_S
    assert sorted(tmp_path.rglob("*")) == before


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def begin_load(port: int, in_place: bool) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    body = b'{"version": "two", "in_place": true}' if in_place else b'{"version": "two"}'
    path = "/v1/model" if in_place else "/v1/catalog"
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()
    await asyncio.sleep(0.5)
    writer.close()
