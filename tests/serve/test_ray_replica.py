"""What a replica tells Ray: whether it is well, and its metrics."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram

from octorec.serve.replica import Started
from tests.serve.served import make_engine, run, served, until


def test_a_busy_replica_is_well_and_one_whose_device_is_stuck_is_not() -> None:
    ray, engine = pytest.importorskip("octorec.serve.ray"), make_engine(gate=True)

    async def test() -> None:
        async with served(engine, stuck_after_s=0.3) as (service, client):
            replica = ray.Replica.__new__(ray.Replica)
            replica.own = Started(service, None)
            asked = [asyncio.create_task(client.post("/v1/recommend", json={"history": ["i1"]})) for _ in range(40)]
            await replica.check_health()
            engine.model.shut()
            late = asyncio.create_task(client.post("/v1/recommend", json={"history": ["i2"]}))
            await until(lambda: service.not_live is not None, "it is stuck")
            with pytest.raises(RuntimeError, match="has not come back"):
                await replica.check_health()
            engine.model.open.set()
            assert {one.status_code for one in await asyncio.gather(*asked, late)} == {200}

    run(test())


def test_every_number_is_handed_over_with_its_labels() -> None:
    samples = pytest.importorskip("octorec.serve.ray_metrics").samples
    registry = CollectorRegistry()
    Counter("requests", "x", ["outcome"], namespace="octorec", registry=registry).labels("ok").inc(3)
    Histogram("seconds", "x", namespace="octorec", registry=registry, buckets=(1.0,)).observe(0.5)
    assert list(samples(registry)) == [
        ("octorec_requests_total", {"outcome": "ok"}, 3.0),
        ("octorec_seconds_bucket", {"le": "1.0"}, 1.0),
        ("octorec_seconds_bucket", {"le": "+Inf"}, 1.0),
        ("octorec_seconds_count", {}, 1.0),
        ("octorec_seconds_sum", {}, 0.5),
    ]
