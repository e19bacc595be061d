"""Caps over HTTP and gRPC: what an engine gives in Python, the server's defaults, and refusals by name."""

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octorec.catalog.codebook import Codebook
from octorec.engine.capping import capped
from octorec.engine.caps import Caps
from octorec.engine.request import Request
from octorec.errors import InputError
from octorec.serve.config import ServeConfig
from octorec.serve.workers import mapped
from tests.serve.inferred import call, histories, inferring, refused, request, texts
from tests.serve.served import SIZES, make_catalog, make_engine, run, served

CAPS: dict[str, Any] = {"caps": {"red": 2, "*": 3}, "distinct_codes": 2}
BODY: dict[str, Any] = {"history": ["i1", "i2"], "k": 8}


def test_http_and_grpc_answer_as_python_does() -> None:
    engine = make_engine()
    expected = engine.recommend([Request(**BODY, **CAPS)])[0]
    assert expected.left_out

    async def test() -> None:
        async with inferring(make_engine()) as (_, client, channel):
            answer = (await client.post("/v1/recommend", json={**BODY, **CAPS})).json()
            assert answer["items"] == expected.items
            assert answer["left_out"] == [dataclasses.asdict(one) for one in expected.left_out]
            assert (answer["exact"], answer["notes"]) == (False, expected.notes)
            assert "left_out" not in (await client.post("/v1/recommend", json=BODY)).json()
            asked = request(histories(BODY["history"]), True, k=8, caps="red=2,*=3", distinct_codes=2)
            response = await call(channel, "ModelInfer")(asked)
            names = [one.name for one in response.outputs]
            found = texts(response.raw_output_contents[names.index("item_ids")])
            assert found[: len(expected.items)] == expected.items
            wrong = request(histories(BODY["history"]), True, k=8, caps="red=0")
            assert "caps.red" in str(await refused(channel, wrong))

    run(test())


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"caps": {"red": 0}}, "caps.red"),
    ({"caps": {"pink": 2}}, "caps"),
    ({"caps": 3}, "caps"),
    ({"distinct_codes": 4}, "distinct_codes"),
    ({"distinct_codes": -1}, "distinct_codes"),
    ({"max_cosine": 1.5}, "max_cosine"),
]


def test_what_is_wrong_is_422_by_name() -> None:
    async def test() -> None:
        async with served(make_engine()) as (_, client):
            for given, field in WRONG:
                answer = await client.post("/v1/recommend", json={**BODY, **given})
                assert (answer.status_code, answer.json()["error"]["field"]) == (422, field)

    run(test())


def test_the_servers_caps_are_of_requests_that_name_none() -> None:
    engine = make_engine()
    capped, plain = (engine.recommend([Request(**BODY, **caps)])[0].items for caps in (CAPS, {}))

    async def test() -> None:
        async with served(make_engine(), **CAPS) as (_, client):
            for given, items in (({}, capped), ({"caps": {}}, plain)):
                assert (await client.post("/v1/recommend", json={**BODY, **given})).json()["items"] == items

    run(test())


def test_settings_are_checked() -> None:
    assert ServeConfig.of(caps="red=2,*=3").engine.caps == CAPS["caps"]
    for name, value in (("caps", "red"), ("distinct_codes", 0), ("max_cosine", 2.0)):
        with pytest.raises(InputError) as error:
            ServeConfig.of(**{name: value})
        assert error.value.field == name


def test_a_mapped_catalog_has_the_vectors_that_caps_compare(tmp_path: Path) -> None:
    catalog = replace(make_catalog(), codebook=Codebook(tuple(np.eye(size, 8, dtype=np.float32) for size in SIZES)))
    mapped.write(catalog, tmp_path / "catalog")
    mapped.write_hashes(str(tmp_path / "catalog"))
    items, caps = np.arange(len(catalog)), Caps({"red": 2}, None, 0.9)
    found = capped(mapped.open_mapped(tmp_path / "catalog"), items, caps, 20)
    assert found == capped(catalog, items, caps, 20)
    assert {"caps red = 2", "max_cosine = 0.9"} == {*found.rules}
