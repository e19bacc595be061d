"""Weights are exchanged under load: each answer is wholly of the version that it states, and none is lost."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from safetensors.torch import load_file, save_file

from octorec.engine.engine import Engine
from octorec.engine.load import load
from octorec.engine.request import Request
from octorec.errors import InputError
from octorec.serve import comparing, in_place
from octorec.serve.config import ServeConfig
from octorec.serve.service import Service
from tests.engine.refreshed import addresses, shuffled
from tests.serve.served import administered, make_catalog, make_engine, run, save_checkpoint, served, until
from tests.serve.test_admin import Load, Offline, post
from tests.serve.test_admin import operations as counted

OPTIONS = {"batch_sizes": (1, 32), "beam_widths": (16, 32), "default_beam_width": 16, "max_items": 120}
FEW = {"refresh_requests": 4, **OPTIONS}


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "SHARE", 0.5)


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, str]:
    """Settings of a server with checkpoints that are near the first, the same but for noise, and far from it."""
    models = tmp_path / "models"
    save_checkpoint(models / "first", make_catalog())
    near(models / "first", models / "near", 0.01)
    shuffled(models / "first", models / "far", 1)
    near(models / "first", models / "nan", torch.nan)
    save_checkpoint(models / "other-catalog", make_catalog(codebook=1))
    for name, catalog in (("one", make_catalog()), ("two", make_catalog(95, seed=2))):
        catalog.save(tmp_path / "catalogs" / name)
    return {"model_root": str(models), "catalog_root": str(tmp_path / "catalogs")}


def near(folder: Path, out: Path, noise: float) -> None:
    """Copy a checkpoint whose weights are a little different: by `noise` of each."""
    shuffled(folder, out, 0)
    (path,), (own,) = out.glob("*.safetensors"), folder.glob("*.safetensors")
    generator = torch.Generator().manual_seed(0)
    moved = {
        name: tensor * (1 + noise * torch.randn(tensor.shape, generator=generator))
        for name, tensor in load_file(own).items()
    }
    save_file(moved, path, metadata={"format": "pt"})


@pytest.fixture(params=["beside", "not beside"])
def room(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether the device has room for two sets of weights: a CPU always says so."""
    if request.param == "not beside":
        monkeypatch.setattr(in_place, "fits_beside", lambda *given: False)
    return str(request.param)


@asynccontextmanager
async def operated(
    engine: Engine, **settings: Any
) -> AsyncIterator[tuple[Service, httpx.AsyncClient, httpx.AsyncClient]]:
    """A server with a client of it and one of its admin port."""
    async with served(engine, **settings) as (service, client), administered(service) as admin:
        yield service, client, admin


def of_root(roots: dict[str, str], name: str = "first") -> Engine:
    return load(Path(roots["model_root"]) / name, make_catalog(), **OPTIONS)


async def refused(admin: Any, status: int = 422, **body: Any) -> str:
    response = await admin.post("/v1/model", json={"in_place": True, **body})
    assert response.status_code == status, response.text
    return str(response.json()["error"]["message"])


async def refresh(admin: Any, version: str, **more: Any) -> dict[str, Any]:
    return await post(admin, "/v1/model", version=version, in_place=True, **more)


@pytest.mark.slow
def test_weights_are_exchanged_and_come_back_under_load(roots: dict[str, str], room: str) -> None:
    engine = of_root(roots)
    offline, where = Offline(), addresses(engine)
    for name in ("first", "near"):
        offline.add(name, of_root(roots, name), make_catalog())

    async def test() -> None:
        async with operated(engine, **FEW, **roots) as (service, client, admin):
            load = Load(client)
            await until(lambda: len(load.answers) > 10, "enough was answered")
            state = await refresh(admin, "near")
            assert (state["model"], state["previous_model"]) == ("near", "first")
            found = state["refresh"]
            assert (found["model"], found["requests"]) == ("near", 4)
            assert found["overlap"] > 0.8
            assert 0 < found["mean_drift"] < 0.2
            assert 0 < found["paused_s"] < 5
            await until(lambda: load.answers[-1][1]["model"] == "near", "it answers")
            state = await post(admin, "/v1/model/rollback")
            assert (state["model"], state["previous_model"]) == ("first", "near")
            assert state["refresh"]["overlap"] is None
            await until(lambda: load.answers[-1][1]["model"] == "first", "the first answers again")
            assert (await post(admin, "/v1/model/rollback"))["model"] == "near"
            await until(lambda: load.answers[-1][1]["model"] == "near", "it answers again")
            await load.stop()
            assert not load.errors
            for request, answer in load.answers:
                offline.check(request, answer)
            assert service.serving.engine is engine
            assert (await client.get("/v2/models/octorec")).json()["versions"] == ["near"]
            assert counted(service) == {("model refresh", "ok"): 1, ("model rollback", "ok"): 2}
            text = service.metrics.text().decode()
            for name in ("overlap", "drift", "pause_seconds"):
                assert f"octorec_refresh_{name} " in text
        assert addresses(engine) == where

    run(test())


@pytest.mark.slow
def test_weights_that_do_not_answer_alike_are_refused_with_the_numbers(roots: dict[str, str], room: str) -> None:
    engine = of_root(roots)
    offline = Offline()
    for name in ("first", "far"):
        offline.add(name, of_root(roots, name), make_catalog())

    async def test() -> None:
        options: dict[str, Any] = {**FEW, "refresh_min_overlap": 0.9, "refresh_max_drift": 0.01}
        async with operated(engine, **options, **roots) as (service, client, admin):
            assert "only 0 of refresh_requests = 4 requests were answered" in await refused(admin, version="far")
            load = Load(client)
            await until(lambda: len(load.answers) > 10, "enough was answered")
            said = await refused(admin, version="far")
            assert "answers to 4 recent requests share" in said
            assert "(refresh_min_overlap = 90%)" in said
            assert "(refresh_max_drift = 0.01): load another, or say force" in said
            assert (await admin.get("/v1/state")).json()["previous_model"] is None
            await load.stop()
            assert {answer["model"] for _, answer in load.answers} == {"first"}
            assert (await post(admin, "/v1/model", version="far", in_place=True, force=True))["model"] == "far"
            body = {"history": ["i1", "i2"], "k": 10, "titles": True, "exclude": ["i5"]}
            answer = (await client.post("/v1/recommend", json=body)).json()
            load.answers.append((Request(["i1", "i2"], k=10, exclude=["i5"]), answer))
            assert load.answers[-1][1]["model"] == "far"
            for request, answer in load.answers:
                offline.check(request, answer)
            assert counted(service) == {("model refresh", "refused"): 2, ("model refresh", "ok"): 1}

    run(test())


BAD = [
    ("nan", "every weight must be finite"),
    ("other-catalog", "codebook_fingerprint"),
    ("nothing", "must be one of far, first"),
    ("../models/first", "must be one of far, first"),
]


def test_what_cannot_be_loaded_is_refused_and_nothing_changes(roots: dict[str, str], room: str) -> None:
    engine = of_root(roots)

    async def test() -> None:
        async with operated(engine, **OPTIONS, refresh_requests=0, **roots) as (_, client, admin):
            for version, reason in BAD:
                assert reason in await refused(admin, version=version)
            assert "no earlier weights" in (await admin.post("/v1/model/rollback")).text
            assert "the catalog stays" in await refused(admin, version="near", catalog="two")
            for body in ({"version": "near", "force": True}, {"version": "near", "in_place": "yes"}):
                assert (await admin.post("/v1/model", json=body)).status_code == 422
            assert (await refresh(admin, "near"))["refresh"]["requests"] == 0
            assert (await client.post("/v1/recommend", json={"history": ["i1"]})).json()["model"] == "near"

    run(test())


@pytest.mark.slow
def test_limits_of_bytes_and_time_hold(roots: dict[str, str], room: str) -> None:
    async def test() -> None:
        async with operated(of_root(roots), **FEW, max_load_bytes=5000, **roots) as (service, _, admin):
            assert "max_load_bytes = 5000" in await refused(admin, version="near")
        async with operated(of_root(roots), **FEW, load_timeout_s=1.5, **roots) as (service, client, admin):
            for number in range(10):
                body = {"history": [f"i{number}"]}
                assert (await client.post("/v1/recommend", json=body)).status_code == 200
            asked, slow = service.batcher.between_batches, asyncio.Event()

            async def slowly(ask: Any) -> Any:
                await asyncio.wait_for(slow.wait(), 60)
                return await asked(ask)

            service.batcher.between_batches = slowly  # type: ignore[method-assign]
            assert "was not compared within load_timeout_s = 1.5 s" in await refused(admin, version="near")

    run(test())


@pytest.mark.slow
def test_items_are_withdrawn_while_weights_are_compared_and_stay_so(roots: dict[str, str]) -> None:
    async def test() -> None:
        async with operated(of_root(roots), **FEW, **roots) as (_, client, admin):
            load = Load(client, 2)
            await until(lambda: len(load.answers) > 10, "enough was answered")
            refreshing = asyncio.create_task(refresh(admin, "near"))
            for number in range(6):
                state = await post(admin, "/v1/items/withdraw", items=[f"i{number + 20}"])
                assert state["withdrawn"] == number + 1
                await asyncio.sleep(0.02)
            assert (await refreshing)["model"] == "near"
            await post(admin, "/v1/items/withdraw", items=["i30"])
            state = (await admin.get("/v1/state")).json()
            assert (state["model"], state["live_items"]) == ("near", 83)
            await load.stop()
            assert not load.errors

    run(test())


def test_requests_that_have_no_item_to_compare_by_are_no_agreement(roots: dict[str, str]) -> None:
    found = comparing.Comparing(Service(lambda: of_root(roots), "first", ServeConfig.of(**roots)))
    with pytest.raises(InputError, match="none of 3 recent requests has an item to compare by"):
        found.check("near", 3, None, force=False)
    found.check("near", 3, None, force=True)
    found.check("near", 0, None, force=False)


def test_one_load_at_a_time(roots: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    release, read = threading.Event(), in_place.read_weights

    def slowly(*given: Any) -> Any:
        release.wait(30)
        return read(*given)

    monkeypatch.setattr(in_place, "read_weights", slowly)

    async def test() -> None:
        async with operated(of_root(roots), **OPTIONS, refresh_requests=0, **roots) as (_, _, admin):
            refreshing = asyncio.create_task(refresh(admin, "near"))
            await until(service_is_loading, "it reads")
            assert "another load" in await refused(admin, 409, version="near")
            assert (await admin.post("/v1/catalog", json={"version": "two"})).status_code == 409
            release.set()
            assert (await refreshing)["model"] == "near"

    run(test())


def service_is_loading() -> bool:
    return any(thread.name == "load" for thread in threading.enumerate())


@pytest.mark.slow
def test_a_server_that_drains_exchanges_nothing(roots: dict[str, str], room: str) -> None:
    async def test() -> None:
        async with operated(of_root(roots), **FEW, **roots) as (service, client, admin):
            for number in range(10):
                assert (await client.post("/v1/recommend", json={"history": [f"i{number}"]})).status_code == 200
            refreshing = asyncio.create_task(admin.post("/v1/model", json={"version": "near", "in_place": True}))
            await until(service_is_loading, "it reads")
            service.drain()
            assert (await refreshing).status_code in (409, 503)
            assert service.serving.model == "first"

    run(test())


@pytest.mark.slow
def test_a_checkpoint_that_is_loaded_beside_ends_what_a_rollback_goes_back_to(roots: dict[str, str]) -> None:
    async def test() -> None:
        async with operated(of_root(roots), **OPTIONS, refresh_requests=0, **roots) as (_, _, admin):
            await refresh(admin, "near")
            assert (await post(admin, "/v1/model", version="far"))["previous_model"] is None
            assert (await admin.post("/v1/model/rollback")).status_code == 422
            assert (await refresh(admin, "first"))["previous_model"] == "far"

    run(test())


@pytest.mark.slow
def test_long_requests_are_not_remembered_nor_any_without_a_root(roots: dict[str, str]) -> None:
    async def test() -> None:
        for more, remembered in ((roots, 1), ({}, 0)):
            async with served(of_root(roots), **FEW, **more) as (service, client):
                for history in (["i1"], ["i1"] * 5000):
                    assert (await client.post("/v1/recommend", json={"history": history})).status_code == 200
                assert len(service.recent.all()) == remembered

    run(test())


def test_other_requests_than_the_models_say_nothing_of_weights() -> None:
    async def test() -> None:
        engine = make_engine(make_catalog(counted=True))
        async with served(engine, model_root="/", refresh_requests=8) as (service, client):
            assert (await client.post("/v1/recommend", json={"history": []})).json()["source"] == "popularity"
            assert not service.recent.all()

    run(test())
