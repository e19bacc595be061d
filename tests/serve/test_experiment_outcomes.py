"""What units did is taken whole or not at all, each wrong field is named, and nobody waits for the disk."""

import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from octorec.evaluate.online.rows import OUTCOMES
from octorec.serve.outcomes import rows_of
from octorec.serve.refusal import Refusal
from tests.serve.served import run
from tests.serve.tried import tried

NOW = 1_800_000_000.25


def test_one_outcome_and_a_list_are_taken_as_rows(tmp_path: Path) -> None:
    full = {"unit": "u1", "event": "order", "value": 12.5, "time": "2026-11-30T12:00:00+01:00", "item": 7, "id": "o1"}

    async def test() -> None:
        async with tried(tmp_path) as server:
            one = await server.client.post("/v1/outcomes", json=full)
            assert (one.status_code, one.json()) == (202, {"taken": 1})
            before = time.time()
            many = [{"unit": 5, "event": "click"}, {"request_id": "r1", "event": "click", "time": 1.5, "value": 2}]
            several = await server.client.post("/v1/outcomes", json=many)
            assert (several.status_code, several.json()) == (202, {"taken": 2})
            first, second, third = server.outcomes
            assert first == {**full, "time": 1796036400.0, "item": "7", "request_id": None}
            assert before <= second.pop("time") <= time.time()
            assert second == {"unit": "5", "request_id": None, "event": "click", "value": 1.0, "item": None, "id": None}
            assert (third["unit"], third["request_id"], third["time"], third["value"]) == (None, "r1", 1.5, 2.0)
            assert set(first) == set(OUTCOMES.names)
            assert pa.Table.from_pylist([{**first, "time": None}], OUTCOMES).num_rows == 1
            assert server.metric("octorec_outcomes_total") == 3

    run(test())


GOOD = {"unit": "u1", "event": "click"}


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"value": "3"}, "value"),
        ({"value": True}, "value"),
        ({"value": None}, "value"),
        ({"value": float("inf")}, "value"),
        ({"event": None}, "event"),
        ({"event": ""}, "event"),
        ({"event": "a b"}, "event"),
        ({"event": "click\n"}, "event"),
        ({"event": "x" * 65}, "event"),
        ({"unit": 1.5}, "unit"),
        ({"unit": True}, "unit"),
        ({"unit": "x" * 257}, "unit"),
        ({"unit": ["u1"]}, "unit"),
        ({"unit": None}, "unit"),
        ({"unit": ""}, "unit"),
        ({"request_id": "r1"}, "unit"),
        ({"unit": None, "request_id": "r 1"}, "request_id"),
        ({"time": "yesterday"}, "time"),
        ({"time": "2026-11-30T12:00:00"}, "time"),
        ({"time": "2026-11-30"}, "time"),
        ({"time": "2026-02-30T12:00:00Z"}, "time"),
        ({"time": "0001-01-01T00:00:00+14:00"}, "time"),
        ({"time": 1_800_000_000_000}, "time"),
        ({"time": -1}, "time"),
        ({"time": True}, "time"),
        ({"time": []}, "time"),
        ({"item": 1.5}, "item"),
        ({"id": ""}, "id"),
        ({"id": 3}, "id"),
        ({"id": "x" * 129}, "id"),
        ({"evnet": "click"}, "evnet"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_wrong_field_is_named_alone_and_in_a_list(wrong: dict[str, Any], field: str) -> None:
    for raw, named in (({**GOOD, **wrong}, field), ([GOOD] * 3 + [{**GOOD, **wrong}], f"outcomes.3.{field}")):
        with pytest.raises(Refusal) as refused:
            rows_of(raw, NOW)
        assert (refused.value.field, refused.value.status) == (named, 422)
        assert refused.value.message.startswith(f"{named}: ")


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ("x", "body"),
        (None, "body"),
        ({}, "event"),
        ([], "outcomes"),
        ([3], "outcomes.0"),
        ([GOOD] * 10_001, "outcomes"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_outcome_is_named(raw: Any, field: str) -> None:
    with pytest.raises(Refusal) as refused:
        rows_of(raw, NOW)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("2026-11-30t12:00:00.5z", 1796040000.5),
        ("2026-11-30 12:00:00.123456789-05:00", 1796058000.123456),
        (12, 12.0),
        (NOW, NOW),
    ],
)
def test_times_are_read_to_the_microsecond(text: Any, seconds: float) -> None:
    assert rows_of({**GOOD, "time": text}, NOW)[0]["time"] == pytest.approx(seconds, abs=5e-7)
    assert rows_of(GOOD, NOW)[0]["time"] == NOW


def test_a_list_with_one_wrong_outcome_is_refused_as_a_whole_and_access_is_as_everywhere(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("secret\n")
    token = {"Authorization": "Bearer secret"}

    async def test() -> None:
        async with tried(tmp_path, token_file=str(tmp_path / "tokens"), max_body_bytes=2000) as server:
            post = server.client.post
            assert (await post("/v1/outcomes", json=GOOD)).status_code == 401
            assert (
                await post("/v1/outcomes", content=b"[", headers={**token, "Content-Type": "application/json"})
            ).status_code == 400
            assert (await post("/v1/outcomes", content=b"{}", headers=token)).status_code == 415
            assert (await post("/v1/outcomes", json=[GOOD] * 100, headers=token)).status_code == 413
            doubled = b'{"unit": "a", "unit": "b", "event": "click"}'
            twice = await post("/v1/outcomes", content=doubled, headers={**token, "Content-Type": "application/json"})
            assert (twice.status_code, twice.json()["error"]["type"]) == (400, "malformed")
            wrong = await post("/v1/outcomes", json=[GOOD, {**GOOD, "value": "x"}], headers=token)
            assert (wrong.status_code, wrong.json()["error"]["field"]) == (422, "outcomes.1.value")
            assert wrong.json()["request_id"] is None
            assert server.outcomes == []
            assert (await post("/v1/outcomes", json=GOOD, headers=token)).status_code == 202

    run(test())
