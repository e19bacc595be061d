"""Answers over HTTP are the engine's own; what is wrong in a request is named, counted and does no harm."""

import json
import threading
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from octorec.engine import items
from octorec.engine.engine import Engine
from octorec.engine.request import Request
from octorec.errors import NonFiniteError
from octorec.models.model import Inputs, Logits
from octorec.serve.config import ServeConfig
from octorec.serve.service import Service
from tests.serve.served import Gate, administered, make_catalog, make_engine, newest, one_process, run, served


def same(answer: dict[str, Any], engine: Engine, request: Request) -> None:
    offline = engine.recommend([request])[0]
    assert answer["items"] == offline.items
    assert answer["codes"] == [list(codes) for codes in offline.codes]
    np.testing.assert_allclose(answer["scores"], offline.scores, rtol=1e-5)
    assert answer["complete"] == offline.complete


def test_an_answer_is_the_engines_with_versions_timings_and_titles() -> None:
    engine = make_engine()
    request = {"history": ["i1", "i2", "i1"], "k": 6, "exclude": ["i3", "i3"], "allow": ["red", "red"],
               "user": {"age": 31, "plan": "paid"}, "titles": True, "request_id": "mine"}  # fmt: skip

    async def test() -> None:
        async with served(engine) as (_, client):
            response = await client.post("/v1/recommend", json=request, headers={"X-Request-ID": "outer"})
            answer = response.json()
            assert response.status_code == 200
            assert response.headers["x-request-id"] == "outer"
            asked = {name: value for name, value in request.items() if name not in ("titles", "request_id")}
            same(answer, engine, Request(**asked))
            assert answer["titles"] == [f"Item {item[1:]} of 0" for item in answer["items"]]
            assert (answer["model"], answer["catalog"]) == ("first", engine.catalog.version)
            assert answer["request_id"] == "mine"
            assert set(answer["timings"]) == {"queue_ms", "device_ms", "encode_ms", "total_ms"}
            bare = (await client.post("/v1/recommend", json={"history": ["i5"], "k": 2})).json()
            assert "titles" not in bare
            print(f"timings {answer['timings']}")

    run(test())


@one_process
def test_every_request_has_its_log_line_also_the_last_before_the_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    async def test() -> None:
        async with served(make_engine()) as (_, client):
            for body in ({"history": ["i1"], "k": 2, "request_id": "good"}, {"history": ["i1"], "k": 0}):
                await client.post("/v1/recommend", json=body, headers={"X-Request-ID": "wrong"})

    run(test())
    lines = [vars(record) for record in caplog.records if record.message == "request"]
    assert [(line["request_id"], line["outcome"]) for line in lines] == [("good", "ok"), ("wrong", "invalid")]
    assert lines[1]["field"] == "k"


def test_a_list_keeps_its_order_and_an_error_stands_in_its_place() -> None:
    engine = make_engine()
    good = [Request([f"i{n}"], k=3, beam_width=8 + n) for n in range(6)]
    raw: list[Any] = [{"history": list(r.history), "k": r.k, "beam_width": r.beam_width} for r in good]
    raw[2] = {"history": ["i1"], "k": 0}

    async def test() -> None:
        async with served(engine) as (_, client):
            response = await client.post("/v1/recommend", json=raw, headers={"X-Request-ID": "a"})
            answers = response.json()["answers"]
            assert response.status_code == 200
            assert len(answers) == 6
            assert answers[2]["error"]["status"] == 422
            assert answers[2]["error"]["field"] == "k"
            for place in (0, 1, 3, 4, 5):
                assert answers[place]["request_id"] == f"a-{place}"
                same(answers[place], engine, good[place])

    run(test())


GOOD = {"history": ["i1"]}
BAD: dict[str, tuple[Any, int, str]] = {  # what is sent, status, field
    "no JSON": (b"{", 400, "body"),
    "empty": (b"", 400, "body"),
    "not UTF-8": (b'{"history":["\xff"]}', 400, "body"),
    "NaN": (b'{"history":["i1"],"deadline_ms":NaN}', 400, "body"),
    "deep": (b"[" * 9_000, 400, "body"),
    "a number": (b"3", 422, "body"),
    "an empty list": ([], 422, "body"),
    "a list too long": ([GOOD] * 5, 422, "body"),
    "too large": (b" " * 20_000, 413, "body"),
    "no history": ({}, 422, "history"),
    "history no list": ({"history": "i1"}, 422, "history"),
    "history of a fraction": ({"history": ["i1", 3.5]}, 422, "history.1"),
    "history of a whole fraction": ({"history": ["i1", 3.0]}, 422, "history.1"),
    "history of true": ({"history": [True]}, 422, "history.0"),
    "history of null": ({"history": [None]}, 422, "history.0"),
    "history of lists": ({"history": [["i1"]]}, 422, "history.0"),
    "exclude of false": ({"history": ["i1"], "exclude": ["i1", False]}, 422, "exclude.1"),
    "history empty, and no counts": ({"history": []}, 422, "history"),
    "exclude_seen text": ({"history": ["i1"], "exclude_seen": "yes"}, 422, "exclude_seen"),
    "exclude_seen a number": ({"history": ["i1"], "exclude_seen": 1}, 422, "exclude_seen"),
    "k no integer": ({"history": ["i1"], "k": 1.5}, 422, "k"),
    "k true": ({"history": ["i1"], "k": True}, 422, "k"),
    "k text": ({"history": ["i1"], "k": "3"}, 422, "k"),
    "k zero": ({"history": ["i1"], "k": 0}, 422, "k"),
    "k above the beam": ({"history": ["i1"], "k": 17}, 422, "k"),
    "k huge": ({"history": ["i1"], "k": 10**30}, 422, "k"),
    "beam zero": ({"history": ["i1"], "beam_width": 0, "k": 1}, 422, "beam_width"),
    "beam too wide": ({"history": ["i1"], "beam_width": 33}, 422, "beam_width"),
    "exclude no list": ({"history": ["i1"], "exclude": {}}, 422, "exclude"),
    "exclude too long": ({"history": ["i1"], "exclude": ["i1"] * 51}, 422, "exclude"),
    "allow unknown": ({"history": ["i1"], "allow": ["green"]}, 422, "allow"),
    "user null": ({"history": ["i1"], "user": None}, 422, "user"),
    "user NaN": (b'{"history":["i1"],"user":{"age":NaN}}', 400, "body"),
    "user infinite": ({"history": ["i1"], "user": {"age": 10**400}}, 400, "body"),
    "user no object": ({"history": ["i1"], "user": [1]}, 422, "user"),
    "user unknown": ({"history": ["i1"], "user": {"shoe": 3}}, 422, "user"),
    "user of a wrong type": ({"history": ["i1"], "user": {"age": "old"}}, 422, "user.age"),
    "user true": ({"history": ["i1"], "user": {"age": True}}, 422, "user.age"),
    "user too large": ({"history": ["i1"], "user": {"age": 1e300}}, 422, "user.age"),
    "user of no value": ({"history": ["i1"], "user": {"plan": "gold"}}, 422, "user.plan"),
    "deadline zero": ({"history": ["i1"], "deadline_ms": 0}, 422, "deadline_ms"),
    "deadline text": ({"history": ["i1"], "deadline_ms": "1"}, 422, "deadline_ms"),
    "titles text": ({"history": ["i1"], "titles": "yes"}, 422, "titles"),
    "request_id with a line": ({"history": ["i1"], "request_id": "a\nb"}, 422, "request_id"),
    "an unknown field": ({"history": ["i1"], "top_k": 3}, 422, "top_k"),
}


def test_what_is_wrong_is_named_and_counted() -> None:
    async def test() -> None:
        async with served(make_engine(), max_exclude=50, max_list=4, max_body_bytes=10_000) as (
            service, client,
        ):  # fmt: skip
            for case, (sent, status, field) in BAD.items():
                content = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
                before = counted(service, field)
                response = await client.post("/v1/recommend", content=content)
                error = response.json()["error"]
                assert (response.status_code, error["status"], error["field"]) == (status, status, field), case
                assert error["message"], case
                assert len(response.content) < 1500, case
                assert counted(service, field) == before + 1, case
            assert (await client.post("/v1/recommend", json=GOOD)).status_code == 200
            statuses = [status for _, status, _ in BAD.values()]
            for outcome, status in (("invalid", 422), ("malformed", 400), ("too_large", 413)):
                assert value(service, "requests_total", outcome=outcome) == statuses.count(status) > 0
            assert value(service, "requests_total", outcome="ok") == 1
            print(f"{len(BAD)} bad requests refused and counted; the next one answered")

    run(test())


def value(service: Service, name: str, **labels: str) -> float:
    return service.metrics.registry.get_sample_value(f"octorec_{name}", labels) or 0.0


def counted(service: Service, field: str) -> float:
    top = field.partition(".")[0]
    return value(service, "invalid_fields_total", field="unknown" if top == "top_k" else top)


@pytest.mark.parametrize("policy", ["drop", "refuse"])
def test_unknown_items_are_dropped_and_reported_or_refused(policy: str) -> None:
    engine = make_engine()

    async def test() -> None:
        async with served(engine, unknown_items=policy) as (_, client):
            some = {"history": ["i1", "new", "i2"], "k": 4, "exclude": ["gone"]}
            response = await client.post("/v1/recommend", json=some)
            if policy == "refuse":
                assert response.status_code == 422
                assert response.json()["error"]["field"] == "history"
                return
            same(response.json(), engine, Request(["i1", "i2"], k=4))
            assert response.json()["notes"] == [
                "history: 1 unknown dropped, such as 'new'", "exclude: 1 unknown dropped, such as 'gone'",
            ]  # fmt: skip
            nothing_left = await client.post("/v1/recommend", json={"history": ["new"]})
            assert nothing_left.status_code == 422
            of_the_user = {"history": ["new"], "k": 3, "user": {"plan": "paid"}}
            same((await client.post("/v1/recommend", json=of_the_user)).json(), engine,
                 Request([], k=3, user={"plan": "paid"}))  # fmt: skip

    run(test())


def test_integer_ids_are_read_as_text() -> None:
    catalog = make_catalog(ids=[str(number) for number in range(90)])
    engine = make_engine(catalog)

    async def test() -> None:
        async with served(engine) as (_, client):
            sent = {"history": [3, "4", -7, 2**60], "exclude": [5, "6"], "k": 4}
            answer = (await client.post("/v1/recommend", json=sent)).json()
            same(answer, engine, Request(["3", "4"], k=4, exclude=["5", "6"]))
            assert answer["notes"] == ["history: 2 unknown dropped, such as '-7'"]
            refused = (await client.post("/v1/recommend", json={"history": [1.5]})).json()["error"]
            assert refused["message"] == "history.0: ids are text, or integers, which are read as text"

    run(test())


@one_process
def test_a_short_list_says_why_and_the_count_is_made_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    counting: list[str] = []
    count = items.count_returnable

    def counted_elsewhere(*args: Any) -> int:
        counting.append(threading.current_thread().name)
        return count(*args)

    monkeypatch.setattr("octorec.engine.rank.count_returnable", counted_elsewhere)

    async def test() -> None:
        async with served(make_engine(make_catalog(5))) as (_, client):
            answer = (await client.post("/v1/recommend", json={"history": ["i1"], "k": 10, "exclude": ["i2"]})).json()
            assert answer["notes"] == ["found 4 of k = 10 items with a beam 16 wide; the request may have 4"]
            assert len(counting) == 1
            assert counting[0] != threading.main_thread().name

    run(test())


class Overflowing(Gate):
    """A model whose scores of one request, whose newest item is `broken`, are `value`."""

    broken: tuple[int, ...] = (-1, -1, -1)
    value = float("nan")

    def prefill(self, inputs: Inputs) -> Any:
        self.rows = (newest(inputs) == torch.tensor(self.broken)).all(1)
        return super().prefill(inputs)

    def decode(self, step: int, codes: Any, parents: Any, state: Any) -> Logits:
        logits = super().decode(step, codes, parents, state)
        return Logits(logits.values.masked_fill(self.rows[:, None, None], self.value)) if step == 1 else logits


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_scores_of_nan_are_a_counted_500_of_their_request_and_the_batch_has_its_answers(bad: float) -> None:
    engine = make_engine()
    expected = engine
    catalog = engine.catalog
    model = Overflowing(engine.model)  # type: ignore[arg-type]
    broken = Engine(model, catalog, engine.config)
    item = next(i for i in catalog.item_ids if (catalog.codes == catalog.codes[catalog.index[i]]).all(1).sum() == 1)
    other = next(i for i in catalog.item_ids if i != item)

    async def test() -> None:
        async with served(broken) as (service, client):
            model.broken, model.value = tuple(catalog.codes[catalog.index[item]].tolist()), bad
            asked = [{"history": [i], "k": 3} for i in (other, item, other)]
            answers = (await client.post("/v1/recommend", json=asked)).json()["answers"]
            for place in (0, 2):
                same(answers[place], expected, Request([other], k=3))
            error = answers[1]["error"]
            assert (error["status"], error["type"]) == (500, "nonfinite")
            assert "model first: the scores of this request are NaN or infinity" in error["message"]
            alone = await client.post("/v1/recommend", json=asked[1])
            assert alone.status_code == 500
            assert value(service, "nonfinite_total") == 2
            assert value(service, "requests_total", outcome="nonfinite") == 2
            assert value(service, "batch_retries_total") == 0
            assert service.accepted == 0
            assert (await client.get("/v2/health/live")).status_code == 200

    run(test())


def test_a_checkpoint_whose_first_answer_is_nan_does_not_start() -> None:
    engine = make_engine()
    model = Overflowing(engine.model)  # type: ignore[arg-type]
    model.broken = tuple(engine.catalog.codes[0].tolist())
    service = Service(lambda: Engine(model, engine.catalog, engine.config, checkpoint="runs/x"), "x", ServeConfig())

    async def test() -> None:
        await service.start()
        await service.loaded
        assert isinstance(service.error, NonFiniteError)
        assert "runs/x" in str(service.error)
        await service.stop()

    run(test())


HEADS = ["/health", "/v2/health/live", "/v2/health/ready", "/v2/models/octorec", "/v2/models/octorec/ready", "/metrics",
         "/docs", "/openapi.json", "/v2/models/other", "/v1/recommend", "/nothing"]  # fmt: skip


@one_process
def test_head_answers_as_get_without_a_body() -> None:
    async def test() -> None:
        async with served(make_engine()) as (service, client):
            for address in HEADS:
                get, head = await client.get(address), await client.head(address)
                assert head.status_code == get.status_code, address
                assert head.content == b""
                assert get.content
                assert head.headers["content-type"] == get.headers["content-type"], address
            service.drain()
            assert (await client.head("/v2/health/ready")).status_code == 503
            async with administered(service) as admin:
                assert (await admin.head("/v1/state")).status_code == 200
                assert (await admin.head("/v1/catalog")).status_code == 405

    run(test())


@one_process
def test_tokens(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("first-token\n\nsecond-token\n")

    async def test() -> None:
        async with served(make_engine(), token_file=str(tmp_path / "tokens")) as (service, client):

            async def status(**headers: str) -> httpx.Response:
                return await client.post("/v1/recommend", json=GOOD, headers=headers)

            for token in ("first-token", "second-token"):
                assert (await status(Authorization=f"Bearer {token}")).status_code == 200
            for wrong in ("Bearer first-toke", "Bearer ", "Basic first-token", "Bearer first-token x", "\xe9"):
                refused = await client.post("/v1/recommend", json=GOOD, headers={b"Authorization": wrong.encode()})
                assert refused.status_code == 401, wrong
            response = await status()
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == "Bearer"
            assert response.json()["error"]["field"] == "authorization"
            assert value(service, "requests_total", outcome="unauthorized") == 6
            assert (await client.get("/metrics")).status_code == 200

    run(test())


def test_incomplete_answers_are_counted() -> None:
    async def test() -> None:
        async with served(make_engine(make_catalog(5))) as (service, client):
            answer = (await client.post("/v1/recommend", json={"history": ["i1"], "k": 10})).json()
            assert not answer["complete"]
            assert value(service, "incomplete_total") == 1

    run(test())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([3], "body: must be an object"),
        ([{}], "history: is required"),
        ([{"history": "i1"}], "history: must be a list"),
        ([{"history": [], "limit": 3}], "limit: there is no such field"),
        ([{"history": [], "user": {"age": [1]}}], "user.age: values are text, numbers or null"),
        ([{"history": [], "user": None}], "user: must be an object"),
    ],
)
def test_an_error_has_no_words_of_a_library(body: Any, message: str) -> None:
    async def test() -> None:
        async with served(make_engine()) as (_, client):
            answers = (await client.post("/v1/recommend", json=body)).json()["answers"]
            assert answers[0]["error"]["message"] == message

    run(test())
