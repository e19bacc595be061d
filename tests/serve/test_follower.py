"""A replica does what the manifest says, refuses what it cannot do as a whole, and says why where all can read it."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from octorec.errors import InputError
from octorec.serve.config import ServeConfig
from octorec.serve.encode import encode_answer, with_timings
from octorec.serve.follower import Follower
from octorec.serve.manifest import Followed, Manifest, change_manifest, read_followed, say_followed, write_manifest
from octorec.serve.replica import started
from octorec.serve.schemas import RecommendRequest
from tests.serve.served import make_catalog, run, save_checkpoint, until
from tests.serve.tried import file_with

SMALL: dict[str, Any] = {"batch_sizes": (1,), "beam_widths": (16,), "default_beam_width": 16}


class Replica:
    """A replica of the folders below `root`, started from their manifest."""

    def __init__(self, root: Path, follower: Follower):
        self.root, self.follower, self.service = root, follower, follower.service

    async def items(self, k: int = 10) -> list[str]:
        asked = RecommendRequest(history=["i1", "i2"], k=k)
        found, _ = await self.service.answer(asked, "r", lambda ranked, _: encode_answer(ranked, "", False, "r"))
        items: list[str] = orjson.loads(with_timings(found, {}))["items"]
        return items

    async def want(self, **changes: Any) -> None:
        change_manifest(str(self.root / "manifest.json"), lambda _: changes)
        await self.follower.look()

    async def loaded(self) -> Followed:
        """What it says once no load runs."""
        await until(lambda: not self.follower.is_loading, "it has loaded")
        await self.follower.look()
        return read_followed(str(self.root / "manifest.json"))[0]

    @property
    def model(self) -> str:
        return self.service.serving.model


def folders(root: Path) -> None:
    save_checkpoint(root / "models/one", make_catalog())
    save_checkpoint(root / "models/two", make_catalog(), seed=1)
    save_checkpoint(root / "models/nan", make_catalog(), seed=2)
    weights = next((root / "models/nan").glob("*.safetensors"))
    save_file({name: torch.full_like(one, torch.nan) for name, one in load_file(weights).items()}, weights)
    make_catalog(seed=3).save(root / "catalogs/next")
    make_catalog(codebook=1).save(root / "catalogs/other")
    write_manifest(str(root / "manifest.json"), Manifest())


@asynccontextmanager
async def replica(root: Path, name: str = "a", **settings: Any) -> AsyncIterator[Replica]:
    roots = {"model_root": str(root / "models"), "catalog_root": str(root / "catalogs")}
    config = ServeConfig.of(**SMALL, **roots, **settings)
    found = await started(str(root / "models/one"), config, str(root / "manifest.json"), name)
    assert found.follower is not None
    found.follower.look_every_s = 3600  # the tests look
    try:
        yield Replica(root, found.follower)
    finally:
        await found.stop()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folders(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_items_are_withdrawn_and_come_back(root: Path) -> None:
    async def test() -> None:
        async with replica(root) as one:
            first = await one.items()
            await one.want(withdrawn=frozenset({first[0], "of the next catalog"}))
            assert first[0] not in await one.items()
            assert (await one.loaded()).withdrawn == 2
            async with replica(root, "b") as again:  # from its first answer on
                assert await again.items() == await one.items()
            await one.want(withdrawn=frozenset({first[1]}))
            found = await one.items()
            assert first[0] in found
            assert first[1] not in found
            await one.want(withdrawn=frozenset(f"i{n}" for n in range(90)))  # of all
            assert await one.items() == found
            assert "no item would be live" in ((await one.loaded()).fault or "")

    run(test())


def test_versions_are_followed_also_by_a_replica_that_starts_later(root: Path) -> None:
    async def test() -> None:
        async with replica(root) as one:
            before, version = await one.items(), one.service.serving.engine.catalog.version
            await one.want(model="two")
            said = await one.loaded()
            assert (one.model, said.model, said.generation, said.fault) == ("two", "two", 1, None)
            after = await one.items()
            assert after != before
            await one.want(model="two", catalog="next", withdrawn=frozenset({"i5"}))
            said = await one.loaded()
            assert (said.generation, said.fault) == (2, None)
            assert one.service.serving.engine.catalog.version != version
            async with replica(root, "b") as later:
                assert (later.model, later.follower.catalog) == ("two", "next")
                assert await later.items() == await one.items()
                assert later.service.serving.engine.catalog.version == one.service.serving.engine.catalog.version
            await one.want(model=None)
            assert "name a version" in ((await one.loaded()).fault or "")
            assert one.model == "two"

    run(test())


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({"model": "nan"}, "NaN"),
        ({"model": "nope"}, "must be one of nan, one, two"),
        ({"catalog": "other"}, "codebook"),
        ({"experiment": "/nope.yaml"}, "deploy again"),
    ],
)
def test_what_cannot_be_followed_changes_nothing_and_is_said(wanted: dict[str, Any], why: str, root: Path) -> None:
    async def test() -> None:
        async with replica(root) as one:
            before, loads = await one.items(), 0
            await one.want(**wanted, withdrawn=frozenset({before[0]}))
            said = await one.loaded()
            assert why in (said.fault or "")
            assert (said.model, said.withdrawn) == ("one", 1)
            assert before[0] not in await one.items()  # withdrawn all the same
            for _ in range(3):
                await one.follower.look()  # a load that was refused is not tried again
                loads += one.follower.is_loading
            assert loads == 0
            if "experiment" not in wanted:
                async with replica(root, "b") as later:  # begins with its own
                    assert await later.items() == await one.items()
                    assert why in ((await later.loaded()).fault or "")
                await one.want(model="two", catalog=None)
                said = await one.loaded()
                assert (said.model, said.fault) == ("two", None)

    run(test())


def test_a_manifest_that_cannot_be_read_changes_nothing_but_starts_nobody(root: Path) -> None:
    async def test() -> None:
        async with replica(root) as one:
            await one.want(withdrawn=frozenset({"i5"}))
            (root / "manifest.json").write_text('{"generation": 2, "wi')
            await one.follower.look()
            assert one.follower.operations.withdrawn == {"i5"}
            assert "is no JSON" in ((await one.loaded()).fault or "")
            with pytest.raises(InputError, match="is no JSON"):
                await started(str(root / "models/one"), one.service.config, str(root / "manifest.json"), "b")
            (root / "manifest.json").unlink()
            with pytest.raises(InputError, match="is missing"):
                await started(str(root / "models/one"), one.service.config, str(root / "manifest.json"), "b")

    run(test())


def test_items_are_withdrawn_while_a_model_loads(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with replica(root) as one:
            first, hold = (await one.items())[0], asyncio.Event()
            warm_up = one.service.warm_up

            async def held(engine: Any) -> None:
                await hold.wait()
                await warm_up(engine)

            monkeypatch.setattr(one.service, "warm_up", held)
            await one.want(model="two")
            await asyncio.sleep(0)
            await one.want(model="two", withdrawn=frozenset({first}))
            assert one.follower.is_loading
            assert first not in await one.items()
            assert one.model == "one"
            hold.set()
            assert (await one.loaded()).model == "two"
            assert first not in await one.items()

    run(test())


def test_a_replica_that_ended_is_not_listed(root: Path) -> None:
    async def test() -> None:
        async with replica(root) as one:
            await one.follower.look()
            assert [said.replica for said in read_followed(str(root / "manifest.json"))] == ["a"]
            assert replace(one.follower.wanted) == Manifest()
        assert read_followed(str(root / "manifest.json")) == []

    run(test())


def test_what_a_replica_was_about_to_say_is_not_written_after_its_end(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended = threading.Event(), threading.Event()

    def slow(path: str, said: Followed) -> None:
        begun.set()
        time.sleep(0.2)
        say_followed(path, said)
        ended.set()

    async def test() -> None:
        monkeypatch.setattr("octorec.serve.follower.say_followed", slow)
        async with replica(root):
            await until(begun.is_set, "it writes")
        await until(ended.is_set, "it has written")
        assert read_followed(str(root / "manifest.json")) == []

    run(test())


@pytest.mark.slow
def test_an_experiment_begins_in_every_replica_and_its_file_is_read_again(root: Path) -> None:
    def write(ramp: str) -> None:
        variants = {"control": {"share": "1/2"}, "fp8": {"share": "1/2", "checkpoint": str(root / "models/two")}}
        (root / "e.yaml").write_text(yaml.safe_dump(file_with(variants=variants, ramp=ramp)))

    async def test() -> None:
        write("1/2")
        change_manifest(str(root / "manifest.json"), lambda _: {"experiment": str(root / "e.yaml")})
        folder = str(root / "experiments")
        async with replica(root, experiment_root=folder) as one, replica(root, "b", experiment_root=folder) as two:
            for each in (one, two):
                assert each.service.running is not None
                assert {name: said.serving.model for name, said in each.service.running.answering.items()} == {
                    "control": "one",
                    "fp8": "two",
                }
            write("1")
            await one.want(model="two", withdrawn=frozenset({"i7"}))
            await two.follower.look()
            for each in (one, two):
                running = each.service.running
                assert running is not None
                await until(lambda running=running: running.state.assigns.ramp == 1, "the ramp is the file's")
                catalogs = [engine.catalog for engine in each.service.engines]
                assert len(catalogs) == 2
                assert not any(one.live[one.places_of(["i7"], "item")].any() for one in catalogs)
                await until(lambda each=each: not each.follower.is_loading, "the load was refused")
                await each.follower.look()
                assert each.model == "one"
            faults = {said.replica: said.fault or "" for said in read_followed(str(root / "manifest.json"))}
            assert set(faults) == {"a", "b"}
            assert all("an experiment runs" in fault for fault in faults.values())

    (root / "experiments").mkdir()
    run(test())
