"""The page and what it asks for: headers, titles, comparisons, traces, and what is refused."""

import json
import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from octorec.errors import InputError
from octorec.serve.config import ServeConfig
from octorec.serve.page.examples import examples_beside, read_examples
from octorec.serve.page.html import PAGE
from octorec.serve.page.titles import Titles, plain
from octorec.serve.run import refuse_compared
from tests.serve.served import WORKERS, make_catalog, make_engine, one_process, run, save_checkpoint, served

HISTORY = {"history": ["i1", "i2"], "k": 4}


def test_the_page_loads_nothing_and_says_so() -> None:
    async def test() -> None:
        async with served(make_engine()) as (_, client):
            answer = await client.get("/")
            assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
            assert (await client.head("/")).headers["content-length"] == answer.headers["content-length"]
            policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
            assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
            for kind, tag in (("script-src", "script"), ("style-src", "style")):
                inline = re.findall(f"<{tag}>(.*?)</{tag}>", answer.text, re.S)
                assert len(inline) == 1
                assert policy[kind] == f"'sha256-{b64encode(sha256(inline[0].encode()).digest()).decode()}'"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert "/" not in (await client.get("/openapi.json")).json()["paths"]

    run(test())


def test_the_page_names_no_other_host_and_has_no_inline_handlers() -> None:
    text = PAGE.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|//[a-z]+\.", text)
    assert not re.search(r"<[^>]+\son[a-z]+=|<[^>]+\sstyle=", text)
    assert "innerHTML" not in text
    assert "localStorage" not in text
    assert "document.cookie" not in text


def test_without_a_page_there_is_nothing_of_it() -> None:
    async def test() -> None:
        async with served(make_engine(), page=False) as (_, client):
            for path in ("/", "/v1/about", "/v1/items"):
                assert (await client.get(path)).status_code == 404
            assert (await client.post("/v1/trace", json=HISTORY)).status_code == 404

    run(test())


def test_about_says_what_may_be_asked(tmp_path: Path) -> None:
    path = tmp_path / "examples.json"
    path.write_text(json.dumps({"histories": [
        {"name": "Ada", "history": ["i1", "gone", "i2"], "user": {"age": 30}}, {"name": "Bob", "history": ["gone"]},
    ]}))  # fmt: skip

    async def test() -> None:
        async with served(make_engine(), examples=str(path)) as (service, client):
            about = (await client.get("/v1/about")).json()
            assert about["model"] == "first"
            assert about["items"] == 90
            assert about["titles"]
            assert about["beam_widths"] == [16, 32]
            assert about["default_beam_width"] == 16
            assert about["auto"]
            assert about["sets"] == ["blue", "red"]
            assert about["levels"] == 3
            assert (about["compared"], about["experiment"], about["reads_tokens"]) == (None, None, False)
            assert about["traces"] is (service.config.http.http_workers == 0)
            ada = {
                "name": "Ada",
                "history": ["i1", "i2"],
                "user": {"age": 30},
                "titles": ["Item 1 of 0", "Item 2 of 0"],
            }
            assert about["examples"] == [ada]
            assert (
                await client.post("/v1/recommend", json={"history": ["i1"], "user": ada["user"]})
            ).status_code == 200

    run(test())


def test_titles_are_found_over_http() -> None:
    async def test() -> None:
        async with served(make_engine()) as (_, client):
            found = (await client.get("/v1/items", params={"title": "ITEM 7", "limit": 3})).json()["items"]
            assert found == [{"item": f"i{n}", "title": f"Item {n} of 0"} for n in (7, 70, 71)] or len(found) == 3
            assert found[0]["title"].startswith("Item 7")
            assert (await client.get("/v1/items", params={"title": "nothing has this"})).json() == {"items": []}
            for wrong in ({"limit": 0}, {"limit": 51}, {"limit": "many"}, {"title": "x" * 201}):
                answer = await client.get("/v1/items", params=wrong)
                assert answer.status_code == 422
                assert answer.json()["error"]["field"] == next(iter(wrong))

    run(test())


def titles_of(titles: list[str], met: list[int] | None = None, live: list[bool] | None = None) -> Titles:
    counts = None if met is None else np.asarray(met)
    order = None if counts is None else np.argsort(-counts, kind="stable")
    alive = np.ones(len(titles), bool) if live is None else np.asarray(live)

    class Made(SimpleNamespace):
        def __len__(self) -> int:
            return len(titles)

    catalog: Any = Made(titles=titles, live=alive, interactions=counts, popular_order=order)
    return Titles.of(catalog)


@pytest.mark.parametrize("block", [1, 20, 2**18])
def test_titles_are_found_by_words_best_first(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octorec.serve.page.titles.BLOCK", block)
    titles = ["Upstart", "The Star", "Star Wars", "Amélie", "Wars of  the\nStars", "", "STAR trek", "Straße"]
    found = titles_of(titles, met=[9, 1, 5, 1, 1, 0, 7, 1])
    assert [titles[at] for at in found.find("star", 9)] == [
        "STAR trek",
        "Star Wars",
        "The Star",
        "Wars of  the\nStars",
        "Upstart",
    ]
    assert [titles[at] for at in found.find("wars star", 9)] == ["Star Wars", "Wars of  the\nStars"]
    assert [titles[at] for at in found.find("AMELIE", 9)] == ["Amélie"]
    assert [titles[at] for at in found.find("strasse", 9)] == ["Straße"]
    assert found.find("star", 2) == [6, 2]
    assert found.find("", 3) == [0, 6, 2]
    assert found.find("nobody", 9) == []
    assert titles_of(titles, live=[False] * 2 + [True] * 6).find("star", 9) == [2, 6, 4]
    assert titles_of([]).find("star", 9) == titles_of([]).find("", 9) == []


def test_a_title_is_plain_whatever_it_holds() -> None:
    assert plain(" É\tX \n") == "e x"
    assert plain("<B>") == "<b>"


@one_process
def test_a_trace_has_the_answer_and_the_way_to_it() -> None:
    async def test() -> None:
        async with served(make_engine()) as (_, client):
            answer = (await client.post("/v1/recommend", json=HISTORY)).json()
            traced = (await client.post("/v1/trace", json=HISTORY)).json()
            assert {
                name: traced[name] for name in ("items", "scores", "codes", "exact", "bound", "model", "catalog")
            } == {name: answer[name] for name in ("items", "scores", "codes", "exact", "bound", "model", "catalog")}
            assert [level["width"] for level in traced["levels"]] == [16] * 3
            assert answer["codes"][0] in [codes for codes, _ in traced["levels"][-1]["kept"]]
            for body, field in (({"history": []}, "history"), ({"k": 3}, "history"), ({**HISTORY, "k": 99}, "k")):
                refused = await client.post("/v1/trace", json=body)
                assert (refused.status_code, refused.json()["error"]["field"]) == (422, field)
            assert (await client.post("/v1/trace", content=b"[")).status_code == 400

    run(test())


@one_process
def test_traces_take_their_share_of_the_device_and_no_more() -> None:
    async def test() -> None:
        async with served(make_engine()) as (service, client):
            service._traces.add(1.5)
            refused = await client.post("/v1/trace", json=HISTORY)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert (await client.post("/v1/recommend", json=HISTORY)).status_code == 200

    run(test())


@one_process
def test_two_checkpoints_answer_one_request(tmp_path: Path) -> None:
    catalog = make_catalog()
    save_checkpoint(tmp_path / "second", catalog, seed=5)

    async def test() -> None:
        async with served(
            make_engine(catalog), compare=str(tmp_path / "second"), beam_widths=(16, 32), default_beam_width=16
        ) as (service, client):
            both = (await client.post("/v1/compare", json=HISTORY)).json()
            alone = (await client.post("/v1/recommend", json=HISTORY)).json()
            assert (both["served"]["model"], both["compared"]["model"]) == ("first", "second")
            assert both["served"]["answer"]["scores"] == alone["scores"] != both["compared"]["answer"]["scores"]
            assert both["compared"]["answer"]["model"] == "second"
            assert service.compared is not None
            direct = service.compared.engine.recommend([_request()])[0]
            assert both["compared"]["answer"]["items"] == direct.items
            assert (await client.get("/v1/about")).json()["compared"] == "second"
            assert (await client.post("/v1/compare", json=[HISTORY])).json()["error"]["field"] == "body"
            one = (await client.post("/v1/compare", json={**HISTORY, "allow": ["none"]})).json()
            assert one["served"]["answer"]["error"]["field"] == "allow"

    run(test())


def _request() -> Any:
    from octorec.engine.request import Request

    return Request(["i1", "i2"], k=4)


def test_a_second_checkpoint_that_cannot_be_loaded_is_named() -> None:
    async def test() -> None:
        with pytest.raises(InputError, match="compare"):
            async with served(make_engine(), compare="/there/is/none"):
                pass

    if not WORKERS:
        run(test())


def test_without_a_second_checkpoint_nothing_is_compared() -> None:
    async def test() -> None:
        async with served(make_engine()) as (_, client):
            assert (await client.post("/v1/compare", json=HISTORY)).status_code == 404

    run(test())


def test_what_the_page_asks_needs_the_token(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text("secret\n")
    path.chmod(0o600)

    async def test() -> None:
        async with served(make_engine(), token_file=str(path)) as (_, client):
            assert (await client.get("/")).status_code == 200
            for method, address in (("GET", "/v1/about"), ("GET", "/v1/items?title=item"), ("POST", "/v1/trace")):
                body = {"json": HISTORY} if method == "POST" else {}
                assert (await client.request(method, address, **body)).status_code == 401
                known = await client.request(method, address, headers={"Authorization": "Bearer secret"}, **body)
                assert known.status_code in (200, 404)

    run(test())


@pytest.mark.parametrize(
    "given", [{"admin_port": 0}, {"http_workers": 1}, {"experiment": "ab.yaml", "experiment_root": "."}]
)
def test_a_second_checkpoint_is_refused_beside_what_would_leave_it_behind(given: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"compare.*{next(iter(given))}"):
        refuse_compared(ServeConfig.of(compare="second", **given))
    refuse_compared(ServeConfig.of(**given))


def test_a_second_checkpoint_without_a_page_is_refused() -> None:
    with pytest.raises(InputError, match="compare"):
        ServeConfig.of(compare="second", page=False)


@pytest.mark.parametrize(
    ("raw", "where"),
    [
        ([], "histories|object"),
        ({}, "histories"),
        ({"histories": 3}, "histories"),
        ({"histories": [{"name": "Ada"}]}, "0.history"),
        ({"histories": [{"name": "Ada", "history": [1]}]}, "0.history.0"),
        ({"histories": [{"name": "", "history": ["1"]}]}, "0.name"),
        ({"histories": [{"name": "Ada", "history": ["1"], "more": 1}]}, "0.more"),
    ],
)
def test_examples_that_are_none_are_refused_by_name(raw: Any, where: str, tmp_path: Path) -> None:
    path = tmp_path / "examples.json"
    path.write_text(json.dumps(raw))
    with pytest.raises(InputError, match=where):
        read_examples(path)


def test_examples_lie_beside_the_checkpoint(tmp_path: Path) -> None:
    assert examples_beside(tmp_path / "fp8") is None
    (tmp_path / "examples.json").write_text("{}")
    assert examples_beside(tmp_path / "fp8") == str(tmp_path / "examples.json")
