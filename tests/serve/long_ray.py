"""What holds over several replicas of Ray Serve on two nodes: `make test-long`, on an idle machine."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import torch
from ray.cluster_utils import Cluster
from safetensors.torch import load_file, save_file

from benchmarks.overload_model import save_demo_size
from octorec.catalog.build import withdraw
from octorec.catalog.catalog import Catalog
from octorec.serve.manifest import begin_manifest, change_manifest, read_followed, read_manifest
from tests.serve.clustered import (
    QUESTIONS,
    Deployed,
    cluster,
    deployed,
    expected,
    require_right,
    under_load,
)  # fmt: skip

pytestmark = pytest.mark.timeout(580)
CLIENTS = 6
BOUND_S = 10.0  # for what all replicas must agree on


@pytest.fixture
def nodes() -> Iterator[Cluster]:
    with cluster(2, 2) as found:
        yield found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for seed, name in enumerate(("one", "two")):
        save_demo_size(tmp_path / "models" / name, seed)
    shutil.rmtree(tmp_path / "models/two/catalog")
    shutil.copytree(tmp_path / "models/one/catalog", tmp_path / "models/two/catalog")
    shutil.copytree(tmp_path / "models/two", tmp_path / "models/nan")
    weights = next((tmp_path / "models/nan").glob("*.safetensors"))
    save_file({name: torch.full_like(one, torch.nan) for name, one in load_file(weights).items()}, weights)
    catalog = Catalog.load(tmp_path / "models/one/catalog")
    shutil.copytree(tmp_path / "models/one/catalog", tmp_path / "catalogs/first")
    withdraw(catalog, [f"i{n}" for n in range(0, 1682, 2)]).save(tmp_path / "catalogs/odd")
    begin_manifest(str(tmp_path / "manifest.json"))
    return tmp_path


def start(root: Path, replicas: int, **settings: Any) -> Deployed:
    roots = {"model_root": str(root / "models"), "catalog_root": str(root / "catalogs")}
    return deployed(root / "models/one", replicas, manifest=str(root / "manifest.json"), **roots, **settings)


def want(root: Path, **changes: Any) -> None:
    change_manifest(str(root / "manifest.json"), lambda _: changes)


def all_done(root: Path, replicas: int) -> bool:
    wanted, said = read_manifest(str(root / "manifest.json")), read_followed(str(root / "manifest.json"))
    return [one.generation for one in said] == [wanted.generation] * replicas


def test_catalog_and_model_change_under_load_over_three_replicas(nodes: Cluster, root: Path) -> None:
    versions = [
        expected(root / "models/one", QUESTIONS),
        expected(root / "models/one", QUESTIONS, root / "catalogs/odd"),
        expected(root / "models/two", QUESTIONS, root / "catalogs/odd"),
    ]
    assert len({one["items"][0] for one in versions}) == 3
    found = start(root, 3)
    with under_load(found.url, QUESTIONS, CLIENTS) as seen:
        time.sleep(2)
        for changes in ({"catalog": "odd"}, {"model": "two"}):
            want(root, **changes)
            took = found.until(lambda: all_done(root, 3), f"{changes} everywhere")
            print(f"{changes}: everywhere within {took:.1f} s")
            time.sleep(1)
        last = len(seen.answers)
        time.sleep(2)
    require_right(seen, *versions)
    assert seen.failed == []
    assert {(model, catalog) for _, model, catalog, _ in seen.answers} == {
        (one["model"], one["catalog"]) for one in versions
    }
    assert {(model, catalog) for _, model, catalog, _ in seen.answers[last + CLIENTS :]} == {
        ("two", versions[2]["catalog"])
    }


def test_a_withdrawn_item_is_gone_everywhere_within_the_bound_and_after_a_restart(nodes: Cluster, root: Path) -> None:
    found, first = start(root, 3), expected(root / "models/one", QUESTIONS)["items"]
    gone = first[0][0]
    asked = [number for number, items in enumerate(first) if gone in items]
    with under_load(found.url, [QUESTIONS[number] for number in asked], CLIENTS) as seen:
        time.sleep(2)
        want(root, withdrawn=frozenset({gone}))
        began, before = time.monotonic(), len(seen.answers)
        time.sleep(BOUND_S)
        after = len(seen.answers)
        killed = found.pids()[0]
        os.kill(killed, signal.SIGKILL)
        found.until(lambda: killed not in found.pids() and len(found.pids()) == 3, "another takes its place")
        time.sleep(3)
    had = [number for number, (_, _, _, items) in enumerate(seen.answers) if gone in items]
    assert had
    assert before <= max(had) < after, time.monotonic() - began
    assert len(seen.answers) > after + 100
    assert len(seen.failed) <= CLIENTS, seen.failed


def test_a_checkpoint_that_is_broken_changes_nothing(nodes: Cluster, root: Path) -> None:
    found = start(root, 2)
    with under_load(found.url, QUESTIONS, CLIENTS) as seen:
        want(root, model="nan")

        def said() -> bool:
            faults = [one.fault or "" for one in read_followed(str(root / "manifest.json"))]
            return len(faults) == 2 and all("NaN" in fault for fault in faults)

        found.until(said, "both say why")
        time.sleep(2)
    require_right(seen, expected(root / "models/one", QUESTIONS))
    assert seen.failed == []


def test_a_roll_of_ray_to_a_broken_checkpoint_leaves_the_old_ones_answering(nodes: Cluster, root: Path) -> None:
    found = start(root, 2)
    found.content["applications"][0]["args"]["checkpoint"] = str(root / "models/nan")
    with under_load(found.url, QUESTIONS, CLIENTS) as seen:
        found.deploy()
        found.until(lambda: "NaN" in str(found.status()), "the status says why", 240)
        time.sleep(5)
    require_right(seen, expected(root / "models/one", QUESTIONS))
    assert seen.failed == []


def test_a_node_is_lost(nodes: Cluster, root: Path) -> None:
    found = start(root, 3)
    with under_load(found.url, QUESTIONS, CLIENTS) as seen:
        time.sleep(2)
        nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=False)
        time.sleep(1)
        nodes.add_node(num_cpus=2, object_store_memory=80 * 2**20)
        found.until(lambda: found.running() == 3 and len(found.pids()) == 3, "three replicas again", 180)
        lost = len(seen.failed)
        time.sleep(3)
    require_right(seen, expected(root / "models/one", QUESTIONS))
    assert len(seen.failed) == lost  # all is well again
    assert lost <= 2 * CLIENTS, seen.failed


def test_replicas_come_and_go_with_the_load_and_lose_no_request(nodes: Cluster, root: Path) -> None:
    found = deployed(root / "models/one", 1, 3, scaling={"upscale_delay_s": 2, "downscale_delay_s": 4})
    with under_load(found.url, QUESTIONS, 2) as seen:
        for _ in range(2):
            with under_load(found.url, QUESTIONS, 40) as many:
                found.until(lambda: found.running() == 3, "up", 180)
            found.until(lambda: found.running() == 1, "down", 180)
            require_right(many, expected(root / "models/one", QUESTIONS))
            assert many.failed == []
    require_right(seen, expected(root / "models/one", QUESTIONS))
    assert seen.failed == []


def test_batches_fill_as_in_a_bare_replica(nodes: Cluster, root: Path) -> None:
    found = deployed(root / "models/one", 1, batch_sizes=(1, 8, 32))
    with under_load(found.url, QUESTIONS, 64) as seen:
        time.sleep(10)
    assert seen.failed == []

    async def fill() -> float:
        async with aiohttp.ClientSession() as session, session.get(f"{found.url}/metrics") as response:
            lines = (await response.text()).splitlines()
        value = {line.split()[0]: float(line.split()[1]) for line in lines if line.startswith("octorec_batch_fill")}
        return value["octorec_batch_fill_ratio_sum"] / value["octorec_batch_fill_ratio_count"]

    filled = asyncio.run(fill())
    print(f"batches are {filled:.0%} full")
    assert filled > 0.5
