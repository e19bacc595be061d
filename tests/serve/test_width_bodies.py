"""Whatever a body says of beams is answered, or refused by the name of its field; a variant has beams of any kind."""

import random
from pathlib import Path
from typing import Any

import pytest

from octorec.errors import InputError
from octorec.serve.config import ServeConfig
from tests.serve.served import administered, make_engine, run, served
from tests.serve.tried import FILE, tried

BEAMS: dict[str, Any] = {"batch_sizes": (1, 8), "beam_widths": (4, (2, 4, 8), 32), "default_beam_width": 4}
NUMBERS = (0, 1, 2, 4, 8, 32, 33, 65536, 65537, -1, 2**62, True, False, 1.5, 1e300, None)
TEXTS = ("auto", "AUTO", "4", "2-4-8", "2--4", "-", "", "4-", "٤", "8" * 300, "2-4-8-16", "\x00", "é" * 5000, "null")


def drawn(rng: random.Random) -> Any:
    """A number, a text, or a list of some of them."""
    kind = rng.randrange(4)
    if kind == 0:
        return rng.choice(NUMBERS)
    if kind == 1:
        return rng.choice(TEXTS)
    if kind == 2:
        return [rng.choice(NUMBERS) for _ in range(rng.randrange(5))]
    return rng.choice([{}, {"k": 1}, [[2]], ["2", "4", "8"], [2] * 5000, [2, 4, 8], [4, 4, 4], [2, "auto", 8]])


def test_no_width_breaks_the_server_and_each_refusal_names_it() -> None:
    rng, said = random.Random(0), dict[int, int]()

    async def test() -> None:
        async with served(make_engine(**BEAMS)) as (service, client):
            for _ in range(250):
                width = drawn(rng)
                body = {"history": ["i1"], "k": 2, "beam_width": width}
                response = await client.post("/v1/recommend", json=body)
                said[response.status_code] = said.get(response.status_code, 0) + 1
                assert response.status_code in (200, 422), (width, response.text)
                found = response.json()
                if response.status_code == 200:
                    assert found["beam_width"] is not None
                else:
                    field = found["error"]["field"]
                    assert field.split(".")[0] in ("beam_width", "k"), (width, found)
                    assert len(response.content) < 1200
            assert (service.accepted, service.batcher.waiting) == (0, 0)

    run(test())
    assert min(said[200], said[422]) > 30, said


@pytest.mark.parametrize("width", [1.5, [1.5], {}, [[2]], True, [True, 2, 4]])
def test_a_width_of_another_type_is_told_all_that_is_allowed(width: Any) -> None:
    async def test() -> None:
        async with served(make_engine(**BEAMS)) as (_, client):
            response = await client.post("/v1/recommend", json={"history": ["i1"], "k": 2, "beam_width": width})
            assert response.status_code == 422
            assert "must be an integer, a list of one a level, or auto" in response.json()["error"]["message"]

    run(test())


@pytest.mark.parametrize("width", [8, [2, 4, 8], "auto"])
def test_a_variant_s_beams_are_those_of_its_requests_that_state_none(width: Any, tmp_path: Path) -> None:
    engine = make_engine(**{**BEAMS, "beam_widths": (4, (2, 4, 8), 32, 210)})
    file = {**FILE, "variants": {"control": {"share": "1/2"}, "wide": {"share": "1/2", "beam_width": width}}}

    async def test() -> None:
        async with tried(tmp_path, engine, file=file) as server:
            (unit,), (other,) = server.units("wide"), server.units("control")
            answer, control = (await server.ask(unit)).json(), (await server.ask(other)).json()
            assert control["beam_width"] == 4
            if width == "auto":
                assert answer["exact"]
            else:
                assert answer["beam_width"] == width
            assert (await server.ask(unit, beam_width=32)).json()["beam_width"] == 32
            assert server.rows[0]["variant"] == "wide"
            async with administered(server.service) as admin:
                state = (await admin.get("/v1/experiment")).json()
            assert [one["beam_width"] for one in state["variants"].values()] == [4, width]

    run(test())


def test_audits_need_a_width_that_is_no_schedule() -> None:
    async def test() -> None:
        engine = make_engine(batch_sizes=(1,), beam_widths=((2, 4, 8),), default_beam_width=(2, 4, 8))
        with pytest.raises(InputError, match=r"audit_share: got 0\.5; this engine has schedules alone"):
            async with served(engine, audit_share=0.5):
                pass

    run(test())


def test_shares_are_from_none_to_all() -> None:
    for name in ("max_repeat_share", "audit_share"):
        for wrong in (-0.1, 1.1, "half"):
            with pytest.raises(InputError, match=name):
                ServeConfig.of(**{name: wrong})
        assert ServeConfig.of(**{name: 0}) != ServeConfig.of(**{name: 1})
