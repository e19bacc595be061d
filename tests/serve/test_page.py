"""The page and the addresses that it asks, without a browser."""

import asyncio
import json
import re
import threading
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from octorec.catalog.catalog import Catalog
from octorec.engine.request import Request
from octorec.errors import InputError
from octorec.serve import titles as titles_module
from octorec.serve.config import ServeConfig
from octorec.serve.examples import read_examples, with_examples
from octorec.serve.explain import Explainer
from octorec.serve.page import SCRIPTS, WEB, made_page
from octorec.serve.refusal import Refusal
from octorec.serve.titles import MOST_WAITING, Titles, TitleSearch
from octorec.serve.workers.mapped import open_mapped, write, write_hashes
from tests.serve.served import SIZES, make_catalog, make_engine, one_process, run, save_checkpoint, served

NAMES = ["Amélie", "Die Große Stille", "STAR WARS", "Star Trek", "A Star Is Born", "Łódź by night", "", "50%_off"]
ASKED = {"history": ["i1"], "k": 3, "titles": True}


def titled(names: list[str], counts: list[int] | None = None) -> Catalog:
    columns: dict[str, Any] = {"item_id": [f"i{n}" for n in range(len(names))], "title": names}
    columns["codes"] = pa.array([[n % 7, n % 5, n % 6] for n in range(len(names))], pa.list_(pa.int32()))
    if counts is not None:
        columns["interactions"] = pa.array(counts, pa.int64())
    return Catalog.of_items(pa.table(columns), SIZES)


def ids(catalog: Catalog, text: str, most: int = 10) -> list[str]:
    return [catalog.item_ids[place] for place in Titles(catalog).find(text, most).places]


def test_the_page_is_one_file_whose_policy_lets_its_own_parts_run_alone() -> None:
    async def test() -> None:
        async with served(make_engine()) as (_, client):
            answer = await client.get("/")
            head = await client.head("/")
        assert (answer.status_code, head.status_code, head.content) == (200, 200, b"")
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
        assert "unsafe" not in answer.headers["content-security-policy"]
        for tag in ("script", "style"):
            (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", answer.text, re.S)
            assert policy[f"{tag}-src"] == f"'sha256-{b64encode(sha256(inside.encode()).digest()).decode()}'"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"

    run(test())


def test_the_page_names_no_other_host_and_writes_no_html() -> None:
    text, _ = made_page()
    hosts = set(re.findall(rb"https?://[\w.]+", text))
    assert hosts == {b"http://www.w3.org"}  # names of XML, which nobody asks
    for word in (
        b"innerHTML",
        b"outerHTML",
        b"insertAdjacent",
        b"document.write",
        b"eval(",
        b"localStorage",
        b"cookie",
    ):
        assert word not in text
    assert not re.search(rb"<[^>]+ (on\w+|style)=", text)
    assert {path.name for path in WEB.iterdir()} == {*SCRIPTS, "page.css", "page.html"}


def test_without_the_page_its_addresses_are_not_there() -> None:
    async def test() -> None:
        async with served(make_engine(), page=False) as (_, client):
            for path in ("/", "/v1/about", "/v1/items?title=a"):
                assert (await client.get(path)).status_code == 404
            for path in ("/v1/compare", "/v1/explain"):
                assert (await client.post(path, json=ASKED)).status_code == 404
            assert (await client.post("/v1/recommend", json=ASKED)).status_code == 200

    run(test())


def test_its_addresses_ask_for_the_token_and_the_page_does_not(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("secret\n")

    async def test() -> None:
        async with served(make_engine(), token_file=str(tmp_path / "tokens")) as (_, client):
            assert (await client.get("/")).status_code == 200
            for path in ("/v1/about", "/v1/items?title=item"):
                refused = await client.get(path)
                assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
            for path in ("/v1/compare", "/v1/explain"):
                assert (await client.post(path, json=ASKED)).status_code == 401
            client.headers["Authorization"] = "Bearer secret"
            assert (await client.get("/v1/about")).json()["items"] == 90
            assert (await client.get("/v1/items?title=item")).json()["total"] == 90
            assert (await client.post("/v1/explain", json=ASKED)).status_code in (200, 404)  # 404 with workers

    run(test())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("amelie", ["i0"]),
        ("AMÉLIE", ["i0"]),
        ("grosse", ["i1"]),
        ("Große", ["i1"]),
        ("star", ["i2", "i3", "i4"]),  # those that begin with it first
        ("wars star", ["i2"]),
        ("lodz", ["i5"]),
        ("%_", ["i7"]),
        ("i6", ["i6"]),  # an id
        ("nothing", []),
        ("   ", []),
        (".*", []),
    ],
)
def test_titles_are_found_whatever_case_and_accents(text: str, found: list[str]) -> None:
    assert ids(titled(NAMES), text) == found


def test_popular_items_come_first_and_withdrawn_ones_not() -> None:
    catalog = titled(["Star A", "Star B", "Star C", "A Star"], [1, 9, 5, 100])
    assert ids(catalog, "star") == ["i1", "i2", "i0", "i3"]
    found = Titles(catalog).find("star", 2)
    assert (len(found.places), found.total) == (2, 4)
    table = catalog.items.append_column("x", catalog.items["live"]).drop_columns(["live", "x"])
    table = table.append_column("live", pa.array([True, False, True, True]))
    assert ids(Catalog.of_items(table, SIZES), "star") == ["i2", "i0", "i3"]


def test_where_no_item_has_a_title_ids_are_searched() -> None:
    catalog = titled([""] * 12)
    assert ids(catalog, "i1") == ["i1", "i10", "i11"]
    assert Titles(catalog).titled == 0
    assert Titles(titled(NAMES)).titled == len(NAMES) - 1


def test_a_mapped_catalog_finds_the_same(tmp_path: Path) -> None:
    for number, catalog in enumerate((titled(NAMES, [*range(8)]), titled([""] * 8))):
        write(catalog, tmp_path / str(number))
        write_hashes(str(tmp_path / str(number)))
        mapped = open_mapped(tmp_path / str(number))
        for text in ("star", "grosse", "i6", "i"):
            assert ids(mapped, text) == ids(catalog, text)


def test_searches_are_bounded_in_number_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    catalog = titled(NAMES)
    monkeypatch.setattr(Titles, "find", lambda *_: go.wait(60))
    monkeypatch.setattr(titles_module, "LONGEST_S", 0.05)

    async def test() -> None:
        search = TitleSearch()
        late = await asyncio.gather(
            *(search.find(catalog, "star", 5) for _ in range(MOST_WAITING + 2)), return_exceptions=True
        )
        assert all(isinstance(one, Refusal) and one.outcome == "queue_full" for one in late)
        assert sum("waiting already" in str(one) for one in late) == 2
        go.set()
        monkeypatch.setattr(titles_module, "LONGEST_S", 60)
        while search._waiting:
            await asyncio.sleep(0.01)
        assert await search.find(catalog, "star", 5) is True

    run(test())


def test_what_cannot_be_searched_is_refused_by_its_field() -> None:
    async def test() -> None:
        async with served(make_engine()) as (_, client):
            for query, field in (
                ("", "title"),
                ("title=", "title"),
                (f"title={'a' * 101}", "title"),
                ("title=a&limit=51", "limit"),
                ("title=a&limit=x", "limit"),
                ("title=a&domain=video", "domain"),
            ):
                answer = await client.get(f"/v1/items?{query}")
                assert (answer.status_code, answer.json()["error"]["field"]) == (422, field), query

    run(test())


def test_about_says_what_may_be_asked(tmp_path: Path) -> None:
    (tmp_path / "e.json").write_text(
        json.dumps({"histories": [{"name": "u", "history": ["i1", "gone", "i2"], "user": {"age": 3}}]})
    )

    async def test() -> None:
        async with served(make_engine(), examples=str(tmp_path / "e.json"), exclude_seen=True) as (_, client):
            about = (await client.get("/v1/about")).json()
        assert (about["model"], about["compared"], about["items"], about["titled"]) == ("first", None, 90, 90)
        assert (about["sets"], about["levels"], about["beam_widths"]) == (["blue", "red"], 3, [16, 32])
        assert (about["default_beam_width"], about["most_k"], about["exclude_seen"]) == (16, 32, True)
        assert [field["name"] for field in about["user_fields"]] == ["age", "plan"]
        assert about["experiment"] is None
        (example,) = about["examples"]
        assert example["history"] == [
            {"item_id": "i1", "title": "Item 1 of 0"},
            {"item_id": "i2", "title": "Item 2 of 0"},
        ]

    run(test())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "examples"),
        ('{"histories": [{"name": "", "history": []}]}', "histories.0.name"),
        ('{"histories": [{"name": "a", "history": [1]}]}', "histories.0.history.0"),
        ('{"other": []}', "histories"),
    ],
)
def test_a_wrong_file_of_examples_is_refused_or_left_out(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "examples.json").write_text(text)
    with pytest.raises(InputError, match=said):
        read_examples(str(tmp_path / "examples.json"))
    with pytest.raises(InputError, match="examples"):
        with_examples(tmp_path / "model", ServeConfig.of(examples=str(tmp_path / "examples.json")))
    assert with_examples(tmp_path / "model", ServeConfig.of()).http.examples is None


def test_examples_beside_the_checkpoint_are_taken(tmp_path: Path) -> None:
    (tmp_path / "examples.json").write_text('{"histories": [{"name": "a", "history": ["1"]}]}')
    assert with_examples(tmp_path / "model", ServeConfig.of()).http.examples == str(tmp_path / "examples.json")
    assert with_examples(tmp_path / "model", ServeConfig.of(page=False)).http.examples is None
    assert with_examples(tmp_path, ServeConfig.of()).http.examples is None


@one_process
def test_a_second_checkpoint_answers_beside_the_first(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "other", make_catalog(), seed=5)
    shapes = {"batch_sizes": (1, 32), "beam_widths": (16, 32), "default_beam_width": 16}

    async def test() -> None:
        async with served(make_engine(), compare=str(tmp_path / "other"), **shapes) as (service, client):
            about = (await client.get("/v1/about")).json()
            assert (about["model"], about["compared"]) == ("first", "other")
            first = (await client.post("/v1/recommend", json=ASKED)).json()
            other = (await client.post("/v1/compare", json=ASKED)).json()
            assert (first["model"], other["model"]) == ("first", "other")
            assert first["scores"] != other["scores"]
            (alone,) = service.compared.engine.recommend([Request(["i1"], k=3)])
            assert other["items"] == alone.items
            assert np.allclose(other["scores"], alone.scores)
            wrong = await client.post("/v1/compare", json={**ASKED, "k": 33})
            assert (wrong.status_code, wrong.json()["error"]["field"]) == (422, "k")

    run(test())


def test_without_a_second_checkpoint_that_is_said() -> None:
    async def test() -> None:
        async with served(make_engine()) as (_, client):
            answer = await client.post("/v1/compare", json=ASKED)
            assert answer.status_code == 404
            assert "--compare" in answer.json()["error"]["message"]

    run(test())


@pytest.mark.parametrize(
    "with_it",
    [{"page": False}, {"http_workers": 2}, {"admin_port": 0}, {"experiment": "e.yaml", "experiment_root": "r"}],
)
def test_a_second_checkpoint_goes_with_one_process_that_nothing_changes(with_it: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="compare: got 'other'; does not go with"):
        ServeConfig.of(compare="other", **with_it)


@one_process
def test_a_search_is_shown_with_its_answer_one_at_a_time() -> None:
    async def test() -> None:
        engine = make_engine(gate=True)
        async with served(engine) as (_, client):
            answer = (await client.post("/v1/recommend", json=ASKED)).json()
            shown = (await client.post("/v1/explain", json=ASKED)).json()
            assert shown["answer"]["items"] == answer["items"]
            assert shown["answer"]["scores"] == answer["scores"]
            bounds = [level["bound"] for level in shown["levels"] if level["bound"] is not None]
            assert max(bounds, default=None) == answer["bound"]
            kept = {tuple(prefix["codes"]) for prefix in shown["levels"][-1]["kept"]}
            assert {tuple(codes) for codes in answer["codes"]} <= kept
            engine.model.shut()
            first = asyncio.create_task(client.post("/v1/explain", json=ASKED))
            while not engine.model.entered.is_set():
                await asyncio.sleep(0.005)
            second = await client.post("/v1/explain", json=ASKED)
            assert (second.status_code, second.json()["error"]["type"]) == (503, "queue_full")
            assert int(second.headers["retry-after"]) >= 1
            engine.model.open.set()
            assert (await first).status_code == 200

    run(test())


@one_process
def test_what_cannot_be_shown_is_refused() -> None:
    async def test() -> None:
        async with served(make_engine(make_catalog(counted=True))) as (_, client):
            several = await client.post("/v1/explain", json=[ASKED])
            assert (several.status_code, several.json()["error"]["field"]) == (422, "body")
            wrong = await client.post("/v1/explain", json={**ASKED, "k": 0})
            assert (wrong.status_code, wrong.json()["error"]["field"]) == (422, "k")
            popular = (await client.post("/v1/explain", json={"history": []})).json()
            assert (popular["answer"]["source"], popular["levels"]) == ("popularity", [])

    run(test())


@one_process
def test_shown_searches_have_a_share_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    searched = Explainer._searched

    def slow(explainer: Explainer, *given: Any) -> Any:
        explainer._share.add(1.5)
        return searched(explainer, *given)

    monkeypatch.setattr(Explainer, "_searched", slow)

    async def test() -> None:
        async with served(make_engine()) as (_, client):
            assert (await client.post("/v1/explain", json=ASKED)).status_code == 200
            refused = await client.post("/v1/explain", json=ASKED)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
            assert (await client.post("/v1/recommend", json=ASKED)).status_code == 200

    run(test())
