"""Operators may always withdraw; what is loaded is bounded; and what empties a server has to be asked for."""

import asyncio
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from octorec.serve import operations
from tests.serve.served import administered, make_catalog, make_engine, run, save_checkpoint, served, until

IDS = [f"i{number}" for number in range(90)]


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, Any]:
    """Settings of a server with versions to load."""
    catalogs, models = tmp_path / "catalogs", tmp_path / "models"
    make_catalog().save(catalogs / "one")
    make_catalog(95, seed=2).save(catalogs / "two")
    save_checkpoint(models / "second", make_catalog(), seed=1)
    return {"catalog_root": str(catalogs), "model_root": str(models)}


def hang(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Let loads of catalogs hang until the event."""
    release, load = threading.Event(), operations.load_catalog

    def hanging(folder: Path) -> Any:
        release.wait(60)
        return load(folder)

    monkeypatch.setattr(operations, "load_catalog", hanging)
    return release


async def ok(admin: httpx.AsyncClient, path: str, **body: Any) -> dict[str, Any]:
    response = await admin.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


async def refused(admin: httpx.AsyncClient, path: str, status: int, **body: Any) -> str:
    response = await admin.post(path, json=body)
    assert response.status_code == status, response.text
    return response.json()["error"]["message"]


def test_items_are_withdrawn_while_a_load_hangs_and_stay_so_in_what_it_loads(
    roots: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with served(make_engine(max_items=120), **roots) as (service, _), administered(service) as admin:
            await ok(admin, "/v1/catalog", version="two")
            release = hang(monkeypatch)
            loading = asyncio.create_task(admin.post("/v1/catalog", json={"version": "one"}))
            await asyncio.sleep(0.1)
            assert "another load" in await refused(admin, "/v1/catalog", 409, version="two")
            assert (await ok(admin, "/v1/items/withdraw", items=["i1", "i2"]))["live_items"] == 93
            assert (await ok(admin, "/v1/items/restore", items=["i2"]))["live_items"] == 94
            await ok(admin, "/v1/catalog/rollback")
            await ok(admin, "/v1/catalog/rollback")
            assert not loading.done()
            release.set()
            assert (await loading).json()["live_items"] == 89
            assert not service.serving.engine.catalog.live[service.serving.engine.catalog.index["i1"]]

    run(test())


def test_what_becomes_of_items_while_a_model_is_loaded_is_so_in_it(
    roots: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    release, load = threading.Event(), operations.load_engine

    def hanging(*given: Any) -> Any:
        loaded = load(*given)
        release.wait(60)
        return loaded

    monkeypatch.setattr(operations, "load_engine", hanging)

    async def test() -> None:
        options = {"batch_sizes": (1, 32), "beam_widths": (16, 32), "default_beam_width": 16, "max_items": 120}
        engine = make_engine(max_items=120)
        async with served(engine, **options, **roots) as (service, _), administered(service) as admin:
            loading = asyncio.create_task(admin.post("/v1/model", json={"version": "second"}))
            await asyncio.sleep(0.1)
            await ok(admin, "/v1/items/withdraw", items=["i1"])
            release.set()
            state = (await loading).json()
            assert (state["model"], state["live_items"]) == ("second", 89)

    run(test())


def test_a_load_that_takes_too_long_is_given_up_and_others_follow(
    roots: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        options = {"load_timeout_s": 0.3, **roots}
        async with served(make_engine(max_items=120), **options) as (service, _), administered(service) as admin:
            with monkeypatch.context() as patch:
                release = hang(patch)
                start = time.monotonic()
                assert "load_timeout_s = 0.3" in await refused(admin, "/v1/catalog", 422, version="two")
                assert time.monotonic() - start < 5
                await ok(admin, "/v1/items/withdraw", items=["i1"])
            service.config.admin.__dict__["load_timeout_s"] = 60.0
            assert (await ok(admin, "/v1/catalog", version="two"))["live_items"] == 94
            release.set()

    run(test())


@pytest.mark.slow
def test_loads_that_hang_are_bounded_in_number(roots: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        options = {"load_timeout_s": 0.05, **roots}
        async with served(make_engine(max_items=120), **options) as (service, _), administered(service) as admin:
            release = hang(monkeypatch)
            statuses = []
            for _ in range(6):
                statuses.append((await admin.post("/v1/catalog", json={"version": "two"})).status_code)
            assert statuses == [422] * 4 + [409] * 2
            await ok(admin, "/v1/items/withdraw", items=["i1"])
            release.set()
            await until(lambda: operations.hanging() == 0, "they have come back")

    run(test())


def test_only_plain_files_of_a_bounded_size_are_opened(roots: dict[str, Any]) -> None:
    root = Path(roots["catalog_root"])
    for name in ("pipe", "device"):
        shutil.copytree(root / "two", root / name)
        (root / name / "items.parquet").unlink()
    os.mkfifo(root / "pipe" / "items.parquet")
    (root / "device" / "items.parquet").symlink_to("/dev/zero")
    shutil.copytree(root / "two", root / "large")
    with (root / "large" / "more").open("wb") as file:
        file.truncate(2**21)
    shutil.copytree(root / "two", root / "ring")
    (root / "ring" / "again").symlink_to(root / "ring")

    async def test() -> None:
        options = {"max_load_bytes": 2**20, **roots}
        async with served(make_engine(max_items=120), **options) as (service, _), administered(service) as admin:
            for name in ("pipe", "device"):
                said = await refused(admin, "/v1/catalog", 422, version=name)
                assert "items.parquet" in said
                assert "is a pipe or device" in said
            assert "max_load_bytes = 1048576" in await refused(admin, "/v1/catalog", 422, version="large")
            assert (await admin.post("/v1/catalog", json={"version": "ring"})).status_code in (200, 422)
            assert (await ok(admin, "/v1/catalog", version="two"))["live_items"] == 95

    run(test())


def test_the_same_version_twice_keeps_what_a_rollback_goes_back_to(roots: dict[str, Any]) -> None:
    async def test() -> None:
        async with served(make_engine(max_items=120), **roots) as (service, _), administered(service) as admin:
            first = (await ok(admin, "/v1/items/withdraw", items=["i1"]))["catalog"]
            for _ in range(3):
                state = await ok(admin, "/v1/catalog", version="two")
            assert state["previous_catalog"] == make_catalog().version
            await ok(admin, "/v1/items", upsert=[{"item_id": "i3", "title": "Item 3 of 2"}])  # as it is already
            assert (await ok(admin, "/v1/catalog/rollback"))["catalog"] == first

    run(test())


def test_what_leaves_no_live_item_is_asked_for(roots: dict[str, Any]) -> None:
    empty = make_catalog(95, seed=2)
    from octorec.catalog.build import withdraw

    withdraw(empty, list(empty.item_ids)).save(Path(roots["catalog_root"]) / "none")

    async def test() -> None:
        async with served(make_engine(max_items=120), **roots) as (service, client), administered(service) as admin:
            for path, body in (
                ("/v1/items/withdraw", {"items": IDS}),
                ("/v1/items", {"withdraw": IDS}),
                ("/v1/catalog", {"version": "none"}),
            ):
                assert "no item would be live" in await refused(admin, path, 422, **body)
                assert service.serving.engine.catalog.live.any()
            assert (await ok(admin, "/v1/items/withdraw", items=IDS, force=True))["live_items"] == 0
            response = await client.post("/v1/recommend", json={"history": ["i1"], "k": 3})
            assert (response.status_code, response.json()["items"]) == (200, [])
            assert (await ok(admin, "/v1/items/restore", items=IDS))["live_items"] == 90
            assert (await ok(admin, "/v1/catalog", version="none", force=True))["live_items"] == 0
            assert (await ok(admin, "/v1/catalog/rollback"))["live_items"] == 90
            assert "no item" in await refused(admin, "/v1/catalog/rollback", 422)
            assert (await ok(admin, "/v1/catalog/rollback", force=True))["live_items"] == 0
            assert (await admin.post("/v1/items/restore", json={"items": ["i1"], "force": "yes"})).status_code == 422

    run(test())
