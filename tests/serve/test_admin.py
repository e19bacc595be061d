"""Catalogs and checkpoints come and go under load: each answer is wholly of the version that it states."""

import asyncio
import gc
import json
import re
import time
import weakref
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
import torch
from safetensors.torch import load_file, save_file

from octorec.bench.client import Client
from octorec.bench.config import BenchConfig
from octorec.bench.over_http import OverHttp, address, connections
from octorec.bench.result import quantiles
from octorec.bench.run import bench
from octorec.catalog.catalog import Catalog
from octorec.engine.engine import Engine, EngineConfig
from octorec.engine.load import load
from octorec.engine.request import Request
from octorec.serve.service import Service
from tests.serve.served import administered, listening, make_catalog, make_engine, run, save_checkpoint, served, until

ASKED = [Request([f"i{n}", f"i{2 * n}"], k=10, exclude=["i5"]) for n in range(12)]


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, str]:
    """Settings of a server with two good catalogs, two good checkpoints and every kind of bad one."""
    catalogs, models = tmp_path / "catalogs", tmp_path / "models"
    good = make_catalog()
    for name, catalog in (("one", good), ("two", make_catalog(95, seed=2)), ("foreign", make_catalog(codebook=1))):
        catalog.save(catalogs / name)
    good.save(catalogs / "truncated")
    _truncate(catalogs / "truncated" / "items.parquet")
    make_catalog(200, seed=3).save(catalogs / "too-large")
    (catalogs / "empty").mkdir()
    save_checkpoint(models / "second", good, seed=1)
    save_checkpoint(models / "foreign", make_catalog(codebook=1))
    for name in ("truncated", "nan"):
        save_checkpoint(models / name, good)
    _truncate(models / "truncated" / "model-00001-of-00001.safetensors")
    _poison(models / "nan" / "model-00001-of-00001.safetensors")
    (tmp_path / "secret").mkdir()
    return {"catalog_root": str(catalogs), "model_root": str(models)}


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _poison(path: Path) -> None:
    tensors = load_file(path)
    tensors["blocks.1.ffn.experts.0.down_proj.weight"][3, 5] = torch.nan
    save_file(tensors, path, metadata={"format": "pt"})


class Load:
    """Clients that ask without a pause until `stop`; every answer is kept with its request."""

    def __init__(self, client: httpx.AsyncClient, clients: int = 4):
        self.answers: list[tuple[Request, dict[str, Any]]] = []
        self.errors: list[httpx.Response] = []
        self._on = True
        self._tasks = [asyncio.create_task(self._ask(client, number)) for number in range(clients)]

    async def _ask(self, client: httpx.AsyncClient, number: int) -> None:
        while self._on:
            request = ASKED[number % len(ASKED)]
            body = {"history": request.history, "k": request.k, "exclude": request.exclude, "titles": True}
            response = await client.post("/v1/recommend", json=body)
            if response.status_code == 200:
                self.answers.append((request, response.json()))
            else:
                self.errors.append(response)
            number += 1
            await asyncio.sleep(0.001)

    async def stop(self) -> None:
        self._on = False
        await asyncio.gather(*self._tasks)


class Offline:
    """What each stated version answers, from an engine of its own."""

    def __init__(self) -> None:
        self.engines: dict[tuple[str, str], Engine] = {}
        self._known: dict[Any, Any] = {}

    def add(self, model: str, engine: Engine, catalog: Catalog) -> None:
        config = EngineConfig(**{**vars(engine.config), "max_items": 200})
        self.engines[model, catalog.version] = Engine(engine.model, catalog, config)

    def check(self, request: Request, answer: dict[str, Any]) -> None:
        version = answer["model"], answer["catalog"]
        key = (version, request.history)
        if key not in self._known:
            self._known[key] = self.engines[version].recommend([request])[0]
        expected = self._known[key]
        assert answer["items"] == expected.items
        assert answer["titles"] == expected.titles
        np.testing.assert_allclose(answer["scores"], expected.scores, rtol=1e-5)


async def post(admin: httpx.AsyncClient, path: str, **body: Any) -> dict[str, Any]:
    response = await admin.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


class Keeping(OverHttp):
    """A way that keeps every answer beside its request."""

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.answers: list[tuple[bytes, bytes]] = []
        self.catalog = ""  # of the last answer

    async def post(self, body: bytes) -> tuple[str, bytes]:
        outcome, content = await super().post(body)
        if outcome == "200":
            self.answers.append((body, content))
            self.catalog = orjson.loads(content)["catalog"]
        return outcome, content


@pytest.mark.parametrize("rounds", [4, pytest.param(67, marks=pytest.mark.slow)], ids=["short", "whole"])
def test_a_catalog_storm_at_80_percent_load(rounds: int, roots: dict[str, str], tmp_path: Path) -> None:
    """Poisson arrivals over real sockets, and a load and a rollback a round."""
    engine = make_engine(max_items=120)
    offline = Offline()
    versions = [make_catalog(), make_catalog(95, seed=2)]
    for catalog in versions:
        offline.add("first", engine, catalog)
    bodies = [orjson.dumps({"history": r.history, "k": r.k, "exclude": r.exclude, "titles": True}) for r in ASKED]
    asked = tmp_path / "asked.jsonl"
    asked.write_bytes(b"\n".join(bodies))
    full = {"request_rate": "inf", "max_concurrency": 32, "duration_s": 0.5 if rounds == 4 else 2.0, "warm_up_s": 0.2}

    async def test() -> None:
        async with listening(engine, max_queued_requests=10**5, default_deadline_ms=600_000, **roots) as (
            service,
            port,
        ):
            url = f"http://127.0.0.1:{port}"
            (most,) = await bench(url, BenchConfig(requests=str(asked), **full), lambda *_: None)
            rate = 0.8 * most["requests_per_s"]
            config = BenchConfig(requests=str(asked), duration_s=1000, timeout_s=600)
            async with connections(config) as session, administered(service) as admin:
                way = Keeping(session, address(url))
                client = Client(way, bodies, config)
                loading = asyncio.create_task(client.load(rate, time.perf_counter(), lambda *_: None))
                for number in range(rounds):
                    state = await post(admin, "/v1/catalog", version=("two", "one")[number % 2])
                    assert state["catalog"] == versions[(number + 1) % 2].version
                    await until(lambda: way.catalog == state["catalog"], "it answers")  # noqa: B023
                    state = await post(admin, "/v1/catalog/rollback")
                    assert state["catalog"] == versions[number % 2].version
                    state = await post(admin, "/v1/catalog/rollback")
                    await until(lambda: way.catalog == state["catalog"], "it answers again")  # noqa: B023
                client.end()
                samples = await loading
            assert {sample.outcome for sample in samples} == {"200"}
            assert len(way.answers) == len(samples)
            answers = [(ASKED[bodies.index(body)], json.loads(content)) for body, content in way.answers]
            for request, answer in answers:
                offline.check(request, answer)
            assert {answer["catalog"] for _, answer in answers} == {version.version for version in versions}
            latency = quantiles(sample.ms for sample in samples)
            print(f"{3 * rounds} switches and rollbacks at {rate:.0f}/s: {len(answers)} answers, each whole, {latency}")

    run(test())


def test_items_may_be_withdrawn_by_integer_ids(roots: dict[str, str]) -> None:
    engine = make_engine(make_catalog(ids=[str(number) for number in range(90)]))

    async def test() -> None:
        async with served(engine, **roots) as (service, _), administered(service) as admin:
            assert (await post(admin, "/v1/items/withdraw", items=[3, "4"]))["live_items"] == 88
            assert (await post(admin, "/v1/items/restore", items=["3", 4]))["live_items"] == 90
            for wrong in ([True], [3.0], [None], [["3"]]):
                assert (await admin.post("/v1/items/withdraw", json={"items": wrong})).status_code == 422

    run(test())


def test_withdrawn_items_are_gone_from_the_next_batch_and_from_later_versions(roots: dict[str, str]) -> None:
    engine = make_engine(max_items=120)

    async def test() -> None:
        async with served(engine, **roots) as (service, client), administered(service) as admin:

            async def items() -> list[str]:
                body = {"history": ["i1"], "k": 10}
                return (await client.post("/v1/recommend", json=body)).json()["items"]

            before = await items()
            gone = before[:3]
            state = await post(admin, "/v1/items/withdraw", items=gone)
            assert (state["withdrawn"], state["live_items"]) == (3, 87)
            version = engine.catalog.version
            assert re.fullmatch(rf"{make_catalog().version}-[0-9a-f]{{6}}", version)
            assert not set(gone) & set(await items())
            assert (await post(admin, "/v1/catalog", version="two"))["live_items"] == 92
            assert not set(gone) & set(await items())
            assert (await post(admin, "/v1/catalog/rollback"))["catalog"] == version
            assert not set(gone) & set(await items())
            await post(admin, "/v1/items/restore", items=gone)
            assert await items() == before
            for path in ("withdraw", "restore"):
                response = await admin.post(f"/v1/items/{path}", json={"items": ["unknown"]})
                assert response.status_code == 422
                assert "unknown" in response.json()["error"]["message"]

    run(test())


def test_a_checkpoint_is_loaded_beside_the_old_one(roots: dict[str, str]) -> None:
    engine = make_engine(max_items=120)
    second = load(
        Path(roots["model_root"]) / "second", batch_sizes=(1, 32), beam_widths=(16, 32), default_beam_width=16
    )
    offline = Offline()
    offline.add("first", engine, engine.catalog)
    offline.add("second", second, second.catalog)
    offline.add("second", second, make_catalog(95, seed=2))
    options = {"batch_sizes": (1, 32), "beam_widths": (16, 32), "default_beam_width": 16, "max_items": 120, **roots}

    async def test() -> None:
        async with served(engine, **options) as (service, client), administered(service) as admin:
            load = Load(client)
            await until(lambda: load.answers, "the first answers")
            assert (await post(admin, "/v1/model", version="second"))["model"] == "second"
            await until(lambda: load.answers[-1][1]["model"] == "second", "it answers")
            replaced = weakref.ref(service.serving.engine)
            state = await post(admin, "/v1/model", version="second", catalog="two")
            assert state["previous_catalog"] == engine.catalog.version
            await until(lambda: load.answers[-1][1]["catalog"] == state["catalog"], "the other catalog answers")
            await load.stop()
            assert not load.errors
            gc.collect()
            assert replaced() is None  # its memory is free again
            for request, answer in load.answers:
                offline.check(request, answer)
            assert len({(answer["model"], answer["catalog"]) for _, answer in load.answers}) == 3
            assert (await client.get("/v2/models/octorec")).json()["versions"] == ["second"]

    run(test())


BAD = [  # path, version, what the reason says
    ("/v1/catalog", "truncated", "items.parquet"),
    ("/v1/catalog", "foreign", "fingerprint"),
    ("/v1/catalog", "too-large", "at most max_items = 120"),
    ("/v1/catalog", "empty", "must be a folder that holds catalog.json; this one is empty"),
    ("/v1/catalog", "nothing", "must be one of empty, foreign"),
    ("/v1/catalog", "../secret", "must be one of empty, foreign"),
    ("/v1/catalog", "/etc", "must be one of empty, foreign"),
    ("/v1/catalog", "", "must be one of empty, foreign"),
    ("/v1/model", "truncated", "is truncated or no safetensors file"),
    ("/v1/model", "nan", "every weight must be finite"),
    ("/v1/model", "foreign", "codebook_fingerprint"),
    ("/v1/model", "..", "must be one of foreign, nan"),
]


def test_a_bad_version_is_refused_with_its_reason_and_the_old_one_answers(roots: dict[str, str]) -> None:
    engine = make_engine(max_items=120)
    offline = Offline()
    offline.add("first", engine, engine.catalog)

    async def test() -> None:
        async with served(engine, max_items=120, **roots) as (service, client), administered(service) as admin:
            load = Load(client)
            for path, version, reason in BAD:
                response = await admin.post(path, json={"version": version})
                assert response.status_code == 422, (path, version, response.text)
                assert reason in response.json()["error"]["message"], (path, version)
            assert (await admin.post("/v1/catalog/rollback")).status_code == 422
            for body in ({"name": "one"}, {"version": ["x" * 10**6]}, {"version": "one", "\x9b\u202e" * 10**5: 1}, 3):
                response = await admin.post("/v1/catalog", json=body)
                assert response.status_code == 422
                assert response.json()["error"]["type"] == "invalid"
                assert len(response.content) < 2000
            await load.stop()
            assert not load.errors
            for request, answer in load.answers:
                assert answer["model"] == "first"
                offline.check(request, answer)
            print(f"{len(BAD)} bad versions refused, {len(load.answers)} answers meanwhile, 0 errors")

    run(test())


def test_one_operation_at_a_time_and_tokens(roots: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("operator\n")
    token = {"Authorization": "Bearer operator"}
    options = {"admin_token_file": str(tmp_path / "tokens"), **roots}

    async def test() -> None:
        async with served(make_engine(max_items=120), **options) as (service, client), administered(service) as admin:
            assert (await admin.get("/v1/state")).status_code == 401
            assert (await admin.post("/v1/catalog", json={"version": "two"})).status_code == 401
            assert (await client.post("/v1/catalog", json={"version": "two"})).status_code == 404  # not on this port
            body = {"version": "two"}
            both = await asyncio.gather(*(admin.post("/v1/catalog", json=body, headers=token) for _ in range(2)))
            assert sorted(response.status_code for response in both) == [200, 409]
            state = (await admin.get("/v1/state", headers=token)).json()
            assert state["catalogs"] == ["empty", "foreign", "one", "too-large", "truncated", "two"]
            assert operations(service) == {("catalog load", "ok"): 1}

    run(test())


def operations(service: Service) -> dict[tuple[str, str], float]:
    samples = [sample for metric in service.metrics.operations.collect() for sample in metric.samples]
    return {(s.labels["operation"], s.labels["outcome"]): s.value for s in samples if s.name.endswith("_total")}
