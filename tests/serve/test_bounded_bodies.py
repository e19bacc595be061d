"""A wrong body is refused at its first error, whatever comes behind it, and a body in another encoding by name."""

import time
from itertools import product

import httpx
import orjson
import pytest

from benchmarks.attack_cases import WRONG
from octorec.serve.config import ServeConfig
from octorec.serve.outcomes import rows_of
from octorec.serve.refusal import Refusal
from octorec.serve.schemas import MOST_KEYS, checked
from tests.serve.served import administered, make_engine, run, served

DEPTHS = (20, 900, 1000, 1023, 5000, 100_000)
AT_MOST_S = 0.3  # on a busy machine; each took seconds where all errors were collected
SAYS = {
    "history": "history.0: ids are text",
    "fields": "x0: there is no such field",
    "user": f"user: has at most {MOST_KEYS} keys",
    "features": f"features: has at most {MOST_KEYS} keys",
    "histories": f"histories: has at most {MOST_KEYS} keys",
    "exclude": "exclude.0: ids are text",
    "beam_width": "beam_width: must be an integer",
    "input_ids": "input_ids.0: ",
    "messages": "messages.0: must be an object",
    "list": "history.0: ids are text",
}


@pytest.mark.parametrize("name", WRONG)
def test_a_large_wrong_body_costs_little(name: str) -> None:
    raw = orjson.loads(WRONG[name].partition(b"\r\n\r\n")[2])
    start = time.perf_counter()
    for one in raw if isinstance(raw, list) else [raw]:
        with pytest.raises(Refusal) as caught:
            checked(one, ServeConfig())
        assert caught.value.message.startswith(SAYS[name])
    assert time.perf_counter() - start < AT_MOST_S


def test_an_outcome_with_many_unknown_fields_costs_little() -> None:
    raw = [{"event": "click", **{f"x{number}": 1 for number in range(100_000)}}]
    start = time.perf_counter()
    with pytest.raises(Refusal, match=r"outcomes\.0\.x0: there is no such field"):
        rows_of(raw, 0.0)
    assert time.perf_counter() - start < AT_MOST_S


def test_a_user_may_have_many_fields() -> None:
    fields = {f"x{number}": number for number in range(MOST_KEYS)}
    assert checked({"history": ["i1"], "user": fields}, ServeConfig()).user == fields


def test_deep_bodies_are_refused() -> None:
    async def test() -> None:
        async with served(make_engine()) as (service, client), administered(service) as admin:
            for depth, field in product(DEPTHS, ("features", "user", "history", "messages")):
                deep = "[" * depth + "]" * depth
                value = f'{{"x": {deep}}}' if field in ("features", "user") else deep
                response = await client.post("/v1/recommend", content=f'{{"history": ["i1"], "{field}": {value}}}')
                assert response.status_code in (400, 422), (field, response.text)
                assert len(response.content) < 2000
            json = {"Content-Type": "application/json"}
            for depth in DEPTHS:
                upsert = f'{{"upsert": {"[" * depth + "]" * depth}}}'
                response = await admin.post("/v1/items", content=upsert, headers=json)
                assert response.status_code in (400, 422)

    run(test())


ENCODINGS = [
    ("Content-Encoding", "gzip"),
    ("Content-Encoding", "identity, br"),
    ("Transfer-Encoding", "gzip, chunked"),
    ("Content-Type", "application/json; charset=utf-16"),
    ("Content-Type", "application/json; charset*=utf-8''utf-16"),
]


def test_other_encodings_are_refused_by_name() -> None:
    async def test() -> None:
        async with served(make_engine()) as (service, client), administered(service) as admin:
            ports = (client, "/v1/recommend"), (admin, "/v1/catalog")
            for (port, path), (name, value) in product(ports, ENCODINGS):
                headers = httpx.Headers([("Content-Encoding", "identity"), (name, value)])
                response = await port.post(path, content=b"{}", headers=headers)
                assert response.status_code == 415
                assert response.json()["error"]["field"] == name.lower()
                assert value not in response.text
            assert (await client.post("/v1/recommend", content=b'{"history": ["i1"]}')).status_code == 200

    run(test())
