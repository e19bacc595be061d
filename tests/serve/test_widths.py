"""Beam widths over HTTP: schedules and `auto`, what a repeat may cost, and who shares a batch with whom."""

import asyncio
from typing import Any

import httpx
import pytest

from octorec.engine.engine import Engine
from octorec.engine.request import Request
from octorec.serve.pending import Serving
from octorec.serve.searches import DeviceShare
from octorec.serve.service import Service
from tests.serve.served import Gate, make_engine, one_process, run, served, until

BEAMS: dict[str, Any] = {"batch_sizes": (1, 2, 8), "beam_widths": (2, (2, 4, 8), 16, 64)}
MOST = [f"i{number}" for number in range(80)]  # so few items are left that 16 beams drop nothing
USER = {"age": 30, "plan": "paid"}


def gate(engine: Engine) -> Gate:
    assert isinstance(engine.model, Gate)
    return engine.model


def make(**options: Any) -> Engine:
    return make_engine(gate=True, default_beam_width=2, **BEAMS, **options)


async def ask(client: httpx.AsyncClient, item: int = 1, **more: Any) -> httpx.Response:
    return await client.post("/v1/recommend", json={"history": [f"i{item}"], "k": 2, "user": USER, **more})


def count(service: Service, name: str, **labels: str) -> float:
    return service.metrics.registry.get_sample_value(f"octorec_{name}_total", labels) or 0.0


def uncertified(engine: Engine) -> int:
    """An item of whose history a narrow beam is not certified."""
    for item in range(90):
        if not engine.recommend([Request([f"i{item}"], k=2, beam_width=2, user=USER)])[0].exact:
            return item
    raise AssertionError("all are certified")


def test_an_answer_says_its_beams_and_whether_it_is_exact() -> None:
    engine = make()

    async def test() -> None:
        async with served(engine) as (service, client):
            for width in (2, [2, 4, 8], 64):
                answer = (await ask(client, beam_width=width)).json()
                asked = tuple(width) if isinstance(width, list) else width
                wanted = engine.recommend([Request(["i1"], k=2, beam_width=asked, user=USER)])[0]
                assert answer["beam_width"] == width
                assert (answer["exact"], answer["bound"]) == (wanted.exact, pytest.approx(wanted.bound))
                assert answer["items"] == wanted.items
            wide = (await ask(client, beam_width=64)).json()
            auto = (await ask(client, beam_width="auto")).json()
            assert auto["exact"]
            assert (auto["items"], auto["scores"]) == (wide["items"], wide["scores"])
            assert count(service, "exact", exact="yes") >= 2

    run(test())


@pytest.mark.parametrize(
    ("width", "said"),
    [
        ([2, 4], "the model's 3 levels"),
        ([2, 4, 128], "this engine has the beam widths 2, 2-4-8, 16, 64"),
        ("wide", "128-256-512, or auto"),
        (0, "from 1 to 65536"),
        ([2, 4, 1], "at most the last of beam_width = 2-4-1"),
    ],
)
def test_beams_that_there_are_not_are_refused(width: Any, said: str) -> None:
    async def test() -> None:
        async with served(make()) as (_, client):
            response = await ask(client, beam_width=width)
            assert response.status_code == 422
            assert said in response.json()["error"]["message"]

    run(test())


def test_a_repeat_is_counted_and_its_answer_is_that_of_the_widest_beam() -> None:
    engine = make()
    item = uncertified(engine)
    wide = engine.recommend([Request([f"i{item}"], k=2, beam_width=64, user=USER)])[0]

    async def test() -> None:
        async with served(engine, default_beam_width="auto") as (service, client):
            answer = (await ask(client, item, beam_width="auto")).json()
            assert answer["exact"]
            assert answer["beam_width"] > 2
            assert answer["items"] == wide.items
            assert count(service, "repeats", outcome="exact") == 1
            timings = answer["timings"]
            assert timings["queue_ms"] + timings["device_ms"] + timings["encode_ms"] <= timings["total_ms"] + 1

    run(test())


def test_without_a_share_of_the_device_the_narrow_answer_stays() -> None:
    engine = make()
    item = uncertified(engine)

    async def test() -> None:
        async with served(engine, max_repeat_share=0.0) as (service, client):
            answer = (await ask(client, item, beam_width="auto")).json()
            assert (answer["exact"], answer["beam_width"], answer["complete"]) == (False, 16, True)
            assert count(service, "repeats", outcome="no_share") == 1
            assert count(service, "exact", exact="no") == 1

    run(test())


def test_a_repeat_that_is_late_leaves_the_narrow_answer() -> None:
    engine = make()
    item = uncertified(engine)
    search = engine.launch

    def slow(parsed: Any) -> Any:
        if parsed[0].widths[0] > 16:
            gate(engine).shut()
        return search(parsed)

    async def test() -> None:
        async with served(engine) as (service, client):
            engine.launch = slow  # type: ignore[method-assign]
            answer = await ask(client, item, beam_width="auto", deadline_ms=1500)
            gate(engine).open.set()
            assert answer.status_code == 200
            assert (answer.json()["exact"], answer.json()["beam_width"]) == (False, 16)
            assert count(service, "repeats", outcome="deadline") == 1

    run(test())


@pytest.mark.parametrize(
    ("fixed", "batches"), [(False, [[64] * 3, [2] * 8, [2] * 3]), (True, [[64] * 3 + [2] * 5, [2] * 6])]
)
def test_wide_and_narrow_requests_wait_for_batches_of_their_own(
    fixed: bool, batches: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a bucket's rows are computed in any case, narrow requests get those that a wide batch has empty."""
    engine = make()
    monkeypatch.setattr(Engine, "rows_are_fixed", fixed)
    launch, launched = engine.launch, []

    def noted(parsed: Any) -> Any:
        launched.append([one.widths[-1] for one in parsed])
        return launch(parsed)

    async def test() -> None:
        async with served(engine) as (service, client):
            gate(engine).shut()
            held = asyncio.create_task(ask(client))
            await until(gate(engine).entered.is_set, "the device is held")
            engine.launch = noted  # type: ignore[method-assign]
            tasks = []
            for number, width in enumerate([64, 2, 2, 2, 2, 64, 64, 2, 2, 2, 2, 2, 2, 2]):
                tasks.append(asyncio.create_task(ask(client, number, beam_width=width)))
                await until(lambda number=number: service.batcher.waiting == number + 1, "they wait in this order")
            gate(engine).open.set()
            answers = await asyncio.gather(held, *tasks)
            assert {answer.status_code for answer in answers} == {200}
            assert launched == batches

    run(test())


def test_exact_answers_are_audited() -> None:
    engine = make()

    async def test() -> None:
        async with served(engine, audit_share=1.0) as (service, client):
            for item in range(6):
                await ask(client, item, beam_width=16, exclude=MOST)
            exact = count(service, "exact", exact="yes")
            assert exact > 0
            await until(lambda: count(service, "audits", items="same") == exact, "all exact answers are audited")
            assert count(service, "audits", items="different") == 0

    run(test())


@one_process
def test_an_audit_that_differs_is_counted_and_told(caplog: pytest.LogCaptureFixture) -> None:
    engine = make()
    launch = engine.launch

    def wrong(parsed: Any) -> Any:
        wait = launch(parsed)
        if parsed[0].widths[-1] < 64:
            return wait

        def found() -> Any:
            result = wait()
            result.nodes[:, [0, 1]] = result.nodes[:, [1, 0]]
            return result

        return found

    async def test() -> None:
        async with served(engine, audit_share=1.0) as (service, client):
            engine.launch = wrong  # type: ignore[method-assign]
            for item in range(6):
                await ask(client, item, beam_width=16, exclude=MOST)
            await until(lambda: count(service, "audits", items="different") > 0, "a difference is counted")
            assert "an answer that was called exact" in caplog.text

    run(test())


@one_process
def test_an_audit_by_another_version_than_the_answer_s_counts_as_nothing() -> None:
    """Other weights, which answer otherwise, come before an audit."""
    engine = make()
    launch, asked, launched = engine.launch, 0, 0

    async def test() -> None:
        nonlocal asked
        async with served(engine, audit_share=1.0) as (service, client):

            def changing(parsed: Any) -> Any:
                nonlocal launched
                launched += 1
                wait = launch(parsed)
                if launched <= asked:
                    service.batcher.serving = Serving(engine, "other weights")
                    return wait

                def found() -> Any:
                    result = wait()
                    result.nodes[:, [0, 1]] = result.nodes[:, [1, 0]]
                    return result

                return found

            engine.launch = changing  # type: ignore[method-assign]
            item = 0
            while not count(service, "exact", exact="yes"):
                asked, item = asked + 1, item + 1
                await ask(client, item, beam_width=16, exclude=MOST)
            await until(lambda: launched > asked, "it is searched again")
            asked = launched + 1
            await ask(client, 1, beam_width=16)
            assert count(service, "audits", items="same") == count(service, "audits", items="different") == 0

    run(test())


def test_repeats_have_a_share_of_the_device_s_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("octorec.serve.searches.time.monotonic", lambda: now[0])
    share = DeviceShare(0.5)
    assert share.free
    for _ in range(100):  # a device that does nothing else
        share.add(1.0)
        now[0] += 1.0
    assert not share.free
    now[0] += 20
    assert share.free
    assert not DeviceShare(0.0).free
    always = DeviceShare(1.0)
    for _ in range(100):
        always.add(0.9)
        now[0] += 1.0
    assert always.free
