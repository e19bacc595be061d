"""Whatever arrives on any route, as OpenAPI allows it or as bytes that are no HTTP: no crash, no 500."""

import asyncio
import logging
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

import httpx
import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error

from octorec.serve.admin import create_admin_app
from octorec.serve.app import create_app
from octorec.serve.config import ServeConfig
from octorec.serve.run import server_on
from octorec.serve.service import Service
from tests.serve.served import make_catalog, make_engine, save_checkpoint

EXAMPLES = {"POST /v1/recommend": 300}  # of other routes:
FEWER = 60
HEADS = (
    b"",
    b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\n",
    b"POST /v1/recommend HTTP/1.1\r\n",
    b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 9\r\n\r\n",
    b"GET /v2/models/\xff\x00 HTTP/1.1\r\nHost: x\r\n",
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Service, list[int]]]:
    """Both applications in a thread, on ports of their own."""
    make_catalog().save(tmp_path / "catalogs" / "one")
    save_checkpoint(tmp_path / "models" / "one", make_catalog())
    roots = {"catalog_root": str(tmp_path / "catalogs"), "model_root": str(tmp_path / "models")}
    config = ServeConfig.of(port=0, log_requests=False, body_timeout_s=0.5, **roots)
    service = Service(make_engine, "first", config)
    servers = [server_on(app(service), "127.0.0.1", 0, config) for app in (create_app, create_admin_app)]

    yield from in_a_thread(service, servers)


def in_a_thread(service: Service, servers: list[uvicorn.Server]) -> Iterator[tuple[Service, list[int]]]:
    """The servers of a service while they run, with their ports."""

    async def serve() -> None:
        await asyncio.gather(*(one.serve() for one in servers))

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    while service.state != "ready" or not all(one.started for one in servers):
        time.sleep(0.05)
    yield service, [one.servers[0].sockets[0].getsockname()[1] for one in servers]
    for one in servers:
        one.should_exit = True
    thread.join(120)
    assert not thread.is_alive()


@pytest.mark.slow
def test_no_request_and_no_bytes_break_it(server: tuple[Service, list[int]], caplog: pytest.LogCaptureFixture) -> None:
    service, ports = server
    caplog.set_level(logging.ERROR)
    for port in ports:
        schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")
        for found in schema.get_all_operations():
            print(fuzz(found.ok()))
        throw_bytes(port, 200)
    response = httpx.post(f"http://127.0.0.1:{ports[0]}/v1/recommend", json={"history": ["i1"], "k": 2})
    assert response.status_code == 200
    assert (service.accepted, service.batcher.waiting, service.not_live) == (0, 0, None)
    assert service.metrics.registry.get_sample_value("octorec_requests_total", {"outcome": "failed"}) is None
    assert not [record.getMessage() for record in caplog.records]


def fuzz(operation: schemathesis.schemas.APIOperation) -> str:
    """What a route said to generated requests, valid and not."""
    name = f"{operation.method.upper()} {operation.path}"
    said: Counter[int] = Counter()
    widths: Counter[str] = Counter()

    @settings(
        max_examples=EXAMPLES.get(name, FEWER),
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(case=operation.as_strategy())
    def ask(case: schemathesis.Case) -> None:
        bodies = case.body if isinstance(case.body, list) else [case.body]
        widths.update(type(body["beam_width"]).__name__ for body in bodies if "beam_width" in _keys(body))
        response = case.call()
        said[response.status_code] += 1
        case.validate_response(response, checks=[not_a_server_error])

    ask()
    if name == "POST /v1/recommend":
        assert {"int", "list", "str"} <= set(widths), f"beam_width is drawn as each of them: {widths}"
    return f"{name}: {dict(said)}"


def _keys(body: object) -> Collection[str]:
    return body.keys() if isinstance(body, dict) else ()


def throw_bytes(port: int, times: int) -> None:
    """Heads of requests and none, followed by noise; the connection is cut, or waits for an answer."""
    noise = random.Random(0)
    for number in range(times):
        with socket.create_connection(("127.0.0.1", port), timeout=0.02) as connection:
            try:
                connection.sendall(HEADS[number % len(HEADS)] + noise.randbytes(noise.randrange(200)))
                connection.recv(20)
            except OSError:
                pass
