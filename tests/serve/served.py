"""A tiny real engine behind the application, in this process, with a gate in front of its device."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families

from octorec.catalog.catalog import Catalog
from octorec.catalog.codebook import Codebook
from octorec.engine.engine import Engine, EngineConfig
from octorec.models.model import Inputs, Logits
from octorec.models.onerec import OneRecV2, initialize
from octorec.models.presets import preset
from octorec.models.user import UserField
from octorec.models.weights import save
from octorec.serve.admin import create_admin_app
from octorec.serve.app import create_app
from octorec.serve.config import ServeConfig
from octorec.serve.connections import Connections
from octorec.serve.metrics import Metrics
from octorec.serve.run import listen, server_on
from octorec.serve.service import Service
from octorec.serve.workers.counts import merged
from octorec.serve.workers.run import CrewService

WORKERS = int(os.environ.get("OCTOREC_TEST_HTTP_WORKERS", "0"))  # with which `make test-long` runs what can be
WORKER_FLAGS = ("--http-workers", str(WORKERS)) if WORKERS else ()  # of a server that a test starts as a shell does
one_process = pytest.mark.skipif(WORKERS > 0, reason="it changes the inside of one process, or asks without a socket")
UNLIMITED = httpx.Limits(max_connections=None, max_keepalive_connections=None)
SIZES = (7, 5, 6)
N_ITEMS = 90
FIELDS = (UserField("age", "number", mean=30, std=10), UserField("plan", "category", ("free", "paid")))


def make_catalog(
    n: int = N_ITEMS, seed: int = 0, codebook: int = 0, ids: Sequence[str] | None = None, counted: bool = False
) -> Catalog:
    """`n` items of random codes. Versions of one `codebook` may follow one another. counted: with interactions."""
    generator = np.random.default_rng(seed)
    centroids = tuple(np.full((size, 2), codebook, np.float32) for size in SIZES)
    codes = np.stack([generator.integers(0, size, n) for size in SIZES], 1)
    sets = [[name for name in ("red", "blue") if generator.random() < 0.4] for _ in range(n)]
    columns = {
        "item_id": [f"i{number}" for number in range(n)] if ids is None else ids,
        "title": [f"Item {number} of {seed}" for number in range(n)],
        "codes": pa.array(codes.tolist(), pa.list_(pa.int32())),
        "sets": pa.array(sets, pa.list_(pa.string())),
    }
    if counted:
        columns["interactions"] = pa.array(generator.integers(0, 30, n), pa.int64())
    return Catalog.of_items(pa.table(columns), SIZES, Codebook(centroids))


def make_model(catalog: Catalog, seed: int = 0, fields: tuple[UserField, ...] = FIELDS) -> OneRecV2:
    model = OneRecV2(preset("tiny", d_expert=128, codebook_fingerprint=catalog.fingerprint, user_fields=fields))
    initialize(model, seed=seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model.eval()


def save_checkpoint(folder: Path, catalog: Catalog, seed: int = 0) -> None:
    """A checkpoint folder with its catalog inside, as `octorec train` leaves one."""
    folder.mkdir(parents=True)
    save(make_model(catalog, seed), folder, torch.float32)
    catalog.save(folder / "catalog")


class Gate:
    """A model that waits while the gate is shut, fails on batches that hold the poisoned item, counts its batches."""

    def __init__(self, model: OneRecV2):
        self.model = model
        self.open, self.entered = threading.Event(), threading.Event()
        self.open.set()
        self._until = 0.0
        self.poison: tuple[int, ...] | None = None
        self.batches: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)  # whatever does not run on the device

    def prefill(self, inputs: Inputs) -> Any:
        self.entered.set()
        while not self.open.wait(0.01):
            assert time.monotonic() < self._until, "the gate stayed shut"
            self.entered.set()  # also where it was shut just as this batch came
        self.batches.append(len(inputs["lengths"]))
        if self.poison is not None and list(self.poison) in newest(inputs).tolist():
            raise RuntimeError("the device met the poisoned item")
        return self.model.prefill(inputs)

    def decode(self, step: int, codes: Any, parents: Any, state: Any) -> Logits:
        return self.model.decode(step, codes, parents, state)

    def shut(self) -> None:
        self._until = time.monotonic() + 120
        self.entered.clear()
        self.open.clear()


def newest(inputs: Inputs) -> torch.Tensor:
    """The codes [B, levels] of each request's newest item."""
    return inputs["codes"][torch.arange(len(inputs["lengths"])), inputs["lengths"] - 1]


def make_engine(catalog: Catalog | None = None, gate: bool = False, **options: Any) -> Engine:
    catalog = catalog or make_catalog()
    model = make_model(catalog)
    config = {"batch_sizes": (1, 32), "beam_widths": (16, 32), "default_beam_width": 16, **options}
    engine_config = EngineConfig(max_context=12, **config)
    return Engine(Gate(model) if gate else model, catalog, engine_config)


@asynccontextmanager
async def served(engine: Engine, **config: Any) -> AsyncIterator[tuple[Service, httpx.AsyncClient]]:
    """The application with its lifespan, ready, and a client of it."""
    if WORKERS:
        async with (
            with_workers(engine, **config) as (crew, port),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, limits=UNLIMITED) as client,
        ):
            yield crew, client
        return
    service = Service(lambda: engine, "first", ServeConfig.of(**config))
    app = create_app(service)
    async with app.router.lifespan_context(app):
        await service.loaded
        if service.error is not None:
            raise service.error
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as client:
            yield service, client


class AllMetrics:
    """The metrics of an engine process, whose registry has what all of its workers count."""

    def __init__(self, metrics: Metrics, folder: Path):
        self._metrics, self._folder, self.registry = metrics, folder, self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._metrics, name)

    def text(self) -> bytes:
        return merged(str(self._folder), list(self._metrics.registry.collect()))

    def get_sample_value(self, name: str, labels: dict[str, str] | None = None) -> float | None:
        for family in text_string_to_metric_families(self.text().decode()):
            for sample in family.samples:
                if (sample.name, sample.labels) == (name, labels or {}):
                    return sample.value
        return None


@asynccontextmanager
async def with_workers(engine: Engine, **settings: Any) -> AsyncIterator[tuple[CrewService, int]]:
    """An engine process, which is this one, with its workers ready on a free port."""
    sockets = listen("127.0.0.1", 0, "host")
    service = CrewService(lambda: engine, "first", ServeConfig.of(http_workers=WORKERS, **settings))
    service.open(sockets)
    try:
        await service.start()
        await service.loaded
        if service.error is not None:
            raise service.error
        crew = service.crew
        await until(lambda: len(crew.workers) == WORKERS and all(one.opened for one in crew.workers.values()), "ready")
        await asyncio.sleep(0.2)  # they hear of it
        service.metrics = AllMetrics(service.metrics, crew.files.metrics)  # type: ignore[assignment]
        yield service, sockets[0].getsockname()[1]
    finally:
        service.crew.ending = True
        try:
            await service.stop()
        finally:
            await service.crew.close()
        for one in sockets:
            one.close()


@asynccontextmanager
async def administered(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the admin application over a service that `served` started."""
    transport = httpx.ASGITransport(create_admin_app(service))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as client:
        yield client


async def until(condition: Any, what: str, timeout_s: float = 60) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.002)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


@asynccontextmanager
async def listening(engine: Engine, **settings: Any) -> AsyncIterator[tuple[Service, int]]:
    """The application on a free port of this machine."""
    if WORKERS:
        async with with_workers(engine, log_requests=False, **settings) as found:
            yield found
        return
    config = ServeConfig.of(port=0, log_requests=False, **settings)
    service = Service(lambda: engine, "first", config)
    open_ones = Connections(config.http.max_connections, service.metrics)
    server = server_on(create_app(service), config.http.host, 0, config, open_ones)
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started and service.state == "ready", "it listens")
    yield service, server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await serving


class Process:
    """`octorec serve` as a shell starts it."""

    def __init__(self, checkpoint: Path, *flags: str, program: Sequence[str] = ("-m", "octorec")):
        command = [sys.executable, *program, "serve", str(checkpoint), "--port", "0", *WORKER_FLAGS, *flags]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        self.lines: list[dict[str, Any]] = []

    def line(self, message: str) -> dict[str, Any]:
        """The next log line with this message."""
        assert self.process.stderr
        for text in self.process.stderr:
            self.lines.append(json.loads(text))
            if self.lines[-1]["message"] == message:
                return self.lines[-1]
        raise AssertionError(f"ended without {message!r}: {self.lines[-3:]}")

    def end(self) -> int:
        try:
            return self.process.wait(120)
        finally:
            self.process.kill()
