"""Over HTTP: long, empty and unknown histories are answered, seen items stay out where asked, `exclude` has a limit."""

import asyncio
from typing import Any

import httpx
import pytest

from octorec.catalog.catalog import Catalog
from octorec.engine.engine import Engine
from octorec.engine.request import Request
from tests.serve.served import administered, make_catalog, make_engine, one_process, run, served, until

CATALOG = make_catalog(counted=True)


def small(catalog: Catalog, **options: Any) -> Engine:
    return make_engine(catalog, **{"batch_sizes": (4,), "beam_widths": (16,), **options})


async def ask(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    response = await client.post("/v1/recommend", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_history_of_100_000_is_cut_and_the_answer_says_so() -> None:
    async def test() -> None:
        engine = small(CATALOG)
        history = [f"i{n % 40}" for n in range(100_000)]
        async with served(engine) as (_, client):
            answer = await ask(client, history=history, k=5)
            assert answer["notes"] == ["history has 100000 items: the newest 12 are used"]
            assert answer["items"] == engine.recommend([Request(history[-12:], k=5)])[0].items
            answer = await ask(client, history=history, k=16, exclude_seen=True)
            assert answer["notes"] == ["history has 100000 items: the newest 12 are used, and all of them are excluded"]
            assert answer["complete"]
            assert not set(history) & set(answer["items"])

    run(test())


def test_seen_items_are_excluded_by_the_request_or_the_servers_default() -> None:
    async def test() -> None:
        history = CATALOG.item_ids[:70]
        for default in (False, True):
            engine = small(CATALOG, exclude_seen=default)
            async with served(engine, exclude_seen=default) as (_, client):
                for said in (None, False, True):
                    answer = await ask(client, history=history, k=16, exclude_seen=said)
                    expected = engine.recommend([Request(history, k=16, exclude_seen=said)])[0]
                    assert answer["items"] == expected.items
                    excluded = default if said is None else said
                    assert bool(set(history) & set(answer["items"])) is not excluded
                    assert answer["source"] == "model"

    run(test())


@pytest.mark.parametrize("history", [[], ["new", "newer"]])
def test_a_history_that_tells_nothing_is_answered_by_popularity_and_marked(history: list[str]) -> None:
    async def test() -> None:
        engine = small(CATALOG, gate=True)
        async with served(engine) as (service, client):
            before = list(engine.model.batches)
            for more in ({}, {"allow": ["red"]}, {"exclude": ["i1", "i2"], "k": 16}, {"titles": True}):
                answer = await ask(client, history=history, **more)
                asked = {name: value for name, value in more.items() if name != "titles"}
                expected = engine.recommend([Request([], **asked)])[0]
                assert (answer["items"], answer["scores"]) == (expected.items, pytest.approx(expected.scores))
                assert answer["source"] == "popularity"
                assert answer["notes"][-1].endswith("answered by popularity")
                assert answer["catalog"] == engine.catalog.version
                assert ("titles" in answer) is ("titles" in more)
            assert engine.model.batches == before
            several = (await client.post("/v1/recommend", json=[{"history": history}, {"history": ["i1"]}])).json()
            assert [one["source"] for one in several["answers"]] == ["popularity", "model"]
            assert service.batcher.waiting == 0

    run(test())


def test_user_fields_are_answered_by_the_model() -> None:
    async def test() -> None:
        async with served(small(CATALOG)) as (_, client):
            assert (await ask(client, history=[], user={"age": 30}))["source"] == "model"

    run(test())


def test_without_counts_an_empty_history_is_refused_with_what_is_missing() -> None:
    async def test() -> None:
        async with served(small(make_catalog())) as (_, client):
            response = await client.post("/v1/recommend", json={"history": ["new"]})
            error = response.json()["error"]
            assert (response.status_code, error["field"]) == (422, "history")
            for part in ("1 unknown dropped, such as 'new'", "user fields", "no counts to answer by popularity"):
                assert part in error["message"]

    run(test())


def test_withdrawn_items_are_in_no_popularity_answer_until_they_are_restored() -> None:
    async def test() -> None:
        async with served(small(CATALOG)) as (service, client), administered(service) as admin:
            first = (await ask(client, history=[], k=3))["items"]
            assert (await admin.post("/v1/items/withdraw", json={"items": first})).status_code == 200
            assert not set(first) & set((await ask(client, history=[], k=16))["items"])
            assert (await admin.post("/v1/items/restore", json={"items": first})).status_code == 200
            assert (await ask(client, history=[], k=3))["items"] == first

    run(test())


@one_process
def test_a_request_whose_history_leaves_the_catalog_while_it_waits_is_answered_by_popularity() -> None:
    async def test() -> None:
        engine = small(CATALOG, gate=True, max_items=120)
        smaller = make_catalog(60, counted=True)
        async with served(engine) as (service, client):
            engine.model.shut()
            first = asyncio.create_task(ask(client, history=["i1"]))
            await until(engine.model.entered.is_set, "a batch runs")
            waiting = asyncio.create_task(ask(client, history=["i80"]))
            await until(lambda: service.batcher.waiting == 1, "one waits")
            switch = asyncio.create_task(service.batcher.between_batches(lambda: engine.replace_catalog(smaller)))
            await asyncio.sleep(0)
            engine.model.open.set()
            await switch
            assert (await first)["source"] == "model"
            answer = await waiting
            assert (answer["source"], answer["catalog"]) == ("popularity", smaller.version)
            assert answer["items"] == engine.recommend([Request([])])[0].items

    run(test())


def test_exclude_takes_its_limit_and_no_id_more() -> None:
    async def test() -> None:
        async with served(small(CATALOG, max_exclude=80), max_exclude=80) as (_, client):
            gone = [f"i{n}" for n in range(80)]
            for width in (1, 5, 16):
                answer = await ask(client, history=["i1"], exclude=gone, k=min(width, 10), beam_width=width)
                assert len(answer["items"]) == min(width, 10)
                assert not set(gone) & set(answer["items"])
            response = await client.post("/v1/recommend", json={"history": ["i1"], "exclude": [*gone, "i1"]})
            error = response.json()["error"]
            assert (response.status_code, error["field"]) == (422, "exclude")
            assert "got 81 ids; at most max_exclude = 80" in error["message"]

    run(test())


def test_the_schema_says_what_an_answer_comes_from_and_what_histories_may_be() -> None:
    async def test() -> None:
        async with served(small(CATALOG)) as (_, client):
            document = (await client.get("/openapi.json")).json()
            answer = document["components"]["schemas"]["Recommendations"]["properties"]
            assert answer["source"]["enum"] == ["model", "popularity"]
            assert "exclude_seen" in str(document["paths"]["/v1/recommend"]) + str(document["components"])

    run(test())
