"""Items are added, changed, withdrawn and restored while a server answers: in one call, all of it or nothing."""

import asyncio
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np
import pyarrow as pa

from octorec.catalog.build import build_catalog
from octorec.catalog.catalog import Catalog
from octorec.data.items import check_items
from octorec.serve.service import Service
from tests.serve.served import SIZES, administered, make_catalog, make_engine, run, served


def imported(n: int = 90) -> Catalog:
    codes = [np.random.default_rng(i).integers(0, SIZES).tolist() for i in range(n)]
    return Catalog.of_items(check_items(pa.table({"item_id": [f"i{i}" for i in range(n)], "codes": codes})), SIZES)


def embedded(n: int = 90) -> Catalog:
    vectors = np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32)
    return build_catalog(None, pa.table({"item_id": [str(i) for i in range(n)], "vector": list(vectors)}), SIZES)


class Both:
    """A server's two ports."""

    def __init__(self, service: Service, client: httpx.AsyncClient, admin: httpx.AsyncClient):
        self.service, self.client, self.admin = service, client, admin

    async def change(self, **body: Any) -> dict[str, Any]:
        response = await self.admin.post("/v1/items", json=body)
        assert response.status_code == 200, response.text
        return response.json()

    async def answer(self, history: list[Any], k: int = 16, **more: Any) -> dict[str, Any]:
        response = await self.client.post("/v1/recommend", json={"history": history, "k": k, **more})
        assert response.status_code == 200, response.text
        return response.json()

    async def everything(self) -> dict[str, list[int]]:
        """Every item that an answer may have, and its codes: the beam is as wide as there are code tuples."""
        first = self.service.serving.engine.catalog.item_ids[0]
        answer = await self.answer([first], k=210, beam_width=210)
        return dict(zip(answer["items"], answer["codes"], strict=True))


def both(catalog: Catalog, test: Any, **config: Any) -> None:
    async def within() -> None:
        engine = make_engine(catalog, max_items=120, beam_widths=(16, 210))
        async with served(engine, **config) as (service, client), administered(service) as admin:
            await test(Both(service, client, admin))

    run(within())


def test_the_next_request_sees_a_whole_change_of_an_imported_catalog() -> None:
    catalog = imported()

    async def test(server: Both) -> None:
        before = await server.everything()
        assert len(before) == 90
        upserts = [
            {"item_id": 777, "codes": [6, 4, 5], "title": "New", "sets": []},
            {"item_id": "i3", "title": "Three"},
            {"item_id": "i4", "codes": [0, 0, 0]},
        ]
        state = await server.change(upsert=upserts, withdraw=["i5", "i6"])
        counts = {"added": 1, "changed": 2, "recoded": 1, "withdrawn": 2, "restored": 0, "unchanged": 0}
        assert state["changed"] == counts
        assert (state["live_items"], state["withdrawn"]) == (89, 2)
        after = await server.everything()
        assert set(after) == set(before) - {"i5", "i6"} | {"777"}
        assert (after["777"], after["i4"]) == ([6, 4, 5], [0, 0, 0])
        answer = await server.answer([777, "i5"], titles=True)
        assert answer["catalog"] == state["catalog"]
        assert answer["notes"] == []  # the new item and the withdrawn one are known in histories
        titles = dict(zip(answer["items"], answer["titles"], strict=True))
        assert titles.get("777", "New") == "New"
        state = await server.change(restore=["i5", "i6"])
        assert state["changed"]["restored"] == 2
        restored = await server.everything()
        assert {item: restored[item] for item in ("i5", "i6")} == {item: before[item] for item in ("i5", "i6")}
        response = await server.admin.post("/v1/catalog/rollback")
        assert response.json()["catalog"] == catalog.version
        assert await server.everything() == before

    both(catalog, test)


def test_vectors_give_codes_by_the_saved_centroids() -> None:
    catalog = embedded()
    assert catalog.codebook is not None
    vectors = np.array([[1.0, -1.0, 0.5], [3.0, 3.0, 3.0]], np.float32)
    expected = catalog.codebook.assign(vectors).tolist()

    async def test(server: Both) -> None:
        upserts = [
            {"item_id": item, "vector": vector} for item, vector in zip((7, "new"), vectors.tolist(), strict=True)
        ]
        assert (await server.change(upsert=upserts))["changed"]["added"] == 1
        found = await server.everything()
        assert [found["7"], found["new"]] == expected
        assert len(found) == 91

    both(catalog, test)


def test_a_title_and_sets_change_at_once_and_other_fields_stay() -> None:
    async def test(server: Both) -> None:
        await server.change(upsert=[{"item_id": "i1", "sets": ["red"]}, {"item_id": "i2", "sets": []}])
        red = await server.answer(["i9"], allow=["red"], exclude=[])
        catalog = server.service.serving.engine.catalog
        assert catalog.sets[catalog.index["i1"]] == ["red"]
        assert catalog.sets[catalog.index["i2"]] == []
        assert catalog.titles[catalog.index["i1"]] == "Item 1 of 0"
        assert all("red" in catalog.sets[catalog.index[item]] for item in red["items"])

    both(make_catalog(), test)


def test_changes_do_the_same_twice() -> None:
    async def test(server: Both) -> None:
        body = {"upsert": [{"item_id": "i3", "title": "Three"}], "withdraw": ["i4"], "restore": ["i5"]}
        first = await server.change(**body)
        again = await server.change(**body)
        assert first["changed"] == {**dict.fromkeys(first["changed"], 0), "changed": 1, "withdrawn": 1, "unchanged": 1}
        assert again["changed"] == {**dict.fromkeys(first["changed"], 0), "unchanged": 3}
        assert {**again, "changed": 0} == {**first, "changed": 0}

    both(make_catalog(), test)


def test_items_that_the_folder_holds_withdrawn_are_restored_too(tmp_path: Path) -> None:
    live = [i not in (3, 4) for i in range(90)]
    table = imported().items
    catalog = Catalog.of_items(
        table.set_column(4, "live", [[live[int(i[1:])] for i in table["item_id"].to_pylist()]]), SIZES
    )
    imported().save(tmp_path / "catalogs" / "next")

    async def test(server: Both) -> None:
        assert "i3" not in await server.everything()
        state = await server.change(restore=["i3"], withdraw=["i8"])
        assert (state["changed"]["restored"], state["live_items"]) == (1, 88)
        found = await server.everything()
        assert "i3" in found
        assert not {"i4", "i8"} & set(found)
        response = await server.admin.post("/v1/catalog", json={"version": "next"})
        assert response.json()["live_items"] == 89  # the withdrawal outlasts the load
        assert "i8" not in await server.everything()

    both(catalog, test, catalog_root=str(tmp_path / "catalogs"))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {  # besides a good change: what the message says
    "unknown": ({"withdraw": ["nope", "i1", "no"]}, "2 unknown items: nope, no"),
    "unknown to restore": ({"restore": ["nope"]}, "restore: got 'nope'"),
    "in both": ({"withdraw": ["i2"], "restore": ["i2"]}, "name it in one of the two"),
    "twice": ({"upsert": [{"item_id": "1"}, {"item_id": 1}]}, "stands more than once"),
    "a new item without codes": ({"upsert": [{"item_id": "x"}]}, "1 new items without codes: x"),
    "codes too large": ({"upsert": [{"item_id": "i2", "codes": [0, 99, 0]}]}, "codes of 'i2'"),
    "codes too few": ({"upsert": [{"item_id": "i2", "codes": [0]}]}, "must be 3 codes"),
    "a negative code": ({"upsert": [{"item_id": "i2", "codes": [0, -1, 0]}]}, "upsert.0.codes.1"),
    "a vector": ({"upsert": [{"item_id": "i2", "vector": [0.5]}]}, "give `codes`, not vectors"),
    "too many": ({"upsert": [{"item_id": f"n{i}", "codes": [1, 1, 1]} for i in range(40)]}, "at most max_items = 120"),
    "a fraction as id": ({"withdraw": [1.5]}, "withdraw.0"),
    "an empty id": ({"upsert": [{"item_id": "", "codes": [0, 0, 0]}]}, "empty text"),
    "an unknown field": ({"upsert": [{"item_id": "i2", "name": "x"}]}, "upsert.0: there is no such field"),
    "nothing": ({}, "nothing to change"),
}


def test_an_error_names_the_field_that_the_request_has() -> None:
    async def test(server: Both) -> None:
        cases: list[tuple[str, str, int, str, str]] = [
            ("items/withdraw", '{"items": ["nope"]}', 422, "items", "got 'nope'"),
            ("items/restore", '{"items": ["nope", "no"]}', 422, "items", "2 unknown items"),
            ("items/withdraw", '{"items": [null]}', 422, "items.0", "ids are text"),
            ("items/withdraw", '{"items": ["i1"], "x": 1}', 422, "body", "there is no such field"),
            ("items/withdraw", '{"items": ["i1"], "items": ["i2"]}', 400, "body", "a key stands twice"),
            ("items", '{"withdraw": ["i1"], "withdraw": ["i2"]}', 400, "body", "a key stands twice"),
            ("items", '{"upsert": [{"item_id": "i2", "title": "a", "title": "b"}]}', 400, "body", "a key stands twice"),
            ("items", '{"upsert": [{"item_id": 1.5}]}', 422, "upsert.0.item_id", "ids are text"),
            ("items", '{"upsert": [{"title": "x"}]}', 422, "upsert.0.item_id", "is required"),
            ("items", "[]", 422, "body", "must be an object"),
            ("items", "{}", 422, "body", "body: nothing to change"),
            ("model", '{"version": "a", "catalog": ""}', 422, "catalog", "must be one of"),
        ]
        for address, body, status, field, message in cases:
            sent: dict[str, Any] = {"content": body, "headers": {"Content-Type": "application/json"}}
            response = await server.admin.post(f"/v1/{address}", **sent)
            error = response.json()["error"]
            assert (response.status_code, error["field"]) == (status, field), (body, error)
            assert message in error["message"], (body, error)
        assert (await server.admin.get("/v1/state")).json()["withdrawn"] == 0

    with TemporaryDirectory() as root:
        (Path(root) / "a").mkdir()
        both(imported(), test, catalog_root=root, model_root=root)


def test_what_is_wrong_is_named_and_nothing_is_half_done() -> None:
    async def test(server: Both) -> None:
        before = await server.everything()
        state = (await server.admin.get("/v1/state")).json()
        for name, (wrong, message) in REFUSED.items():
            good = {"upsert": [{"item_id": "i7", "title": "Seven"}], "withdraw": ["i8"]} if wrong else {}
            body = {name: [*good.get(name, []), *wrong.get(name, [])] for name in {**good, **wrong}}
            if message.startswith("upsert.0"):
                body = wrong
            if message.startswith("withdraw.0"):
                body = {**good, **wrong}
            sent = {"content": json.dumps(body), "headers": {"Content-Type": "application/json"}}
            response = await server.admin.post("/v1/items", **sent)
            assert response.status_code == 422, (name, response.text)
            assert message in response.json()["error"]["message"], (name, response.text)
            assert (await server.admin.get("/v1/state")).json() == state, name
        assert await server.everything() == before
        assert server.service.serving.engine.catalog.titles[0] == ""

    both(imported(), test)


def test_no_answer_mixes_two_versions_while_items_change() -> None:
    catalog = imported()
    random = np.random.default_rng(0)

    async def test(server: Both) -> None:
        states: dict[str, set[str]] = {catalog.version: set(catalog.item_ids)}
        answers: list[dict[str, Any]] = []

        async def ask() -> None:
            while len(states) < 7:
                answers.append(await server.answer(["i1"], k=16))

        async def change() -> None:
            while len(states) < 7:
                some = [f"i{i}" for i in random.choice(90, 8, replace=False)]
                await server.change(withdraw=some[:4], restore=some[4:])
                now = server.service.serving.engine.catalog
                states[now.version] = {item for item, live in zip(now.item_ids, now.live, strict=True) if live}

        await asyncio.gather(change(), ask(), ask())
        assert answers
        for answer in answers:
            assert set(answer["items"]) <= states[answer["catalog"]]

    both(catalog, test)
