"""Whatever goes wrong on the device thread fails the requests that it went wrong with, and the thread goes on."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from octorec.engine.engine import Engine
from octorec.serve.service import Service
from tests.serve.served import Gate, make_catalog, make_engine, run, served, until

FAULTS = [MemoryError("no room"), StopIteration()]


def failing(error: Exception, times: int = 10**9) -> Callable[..., Any]:
    """Raises `error` so many times."""
    left = [times]

    def fail(*_: Any, **__: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise error
        raise AssertionError("called once too often")

    return fail


async def ask(client: httpx.AsyncClient, item: str = "i1", **more: Any) -> httpx.Response:
    return await client.post("/v1/recommend", json={"history": [item], "k": 3, "deadline_ms": 20_000, **more})


def gate(engine: Engine) -> Gate:
    assert isinstance(engine.model, Gate)
    return engine.model


async def two_batches(
    engine: Engine, service: Service, client: httpx.AsyncClient, between: Callable[[], None], second: int = 2
) -> tuple[httpx.Response, list[httpx.Response]]:
    """One request on the device, `between` while it is there, and `second` more that are the next batch."""
    gate(engine).shut()
    first = asyncio.create_task(ask(client, "i3"))
    await until(gate(engine).entered.is_set, "the device is held")
    others = [asyncio.create_task(ask(client, f"i{number}")) for number in range(second)]
    await until(lambda: service.batcher.waiting == second, "the others wait")
    between()
    gate(engine).open.set()
    responses = await asyncio.gather(first, *others)
    return responses[0], responses[1:]


async def still_well(service: Service, client: httpx.AsyncClient) -> None:
    assert service.batcher._thread.is_alive()
    assert service.batcher.running == 0
    assert (await client.get("/v2/health/live")).status_code == 200
    assert (await ask(client)).status_code == 200


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_fault_in_parsing_anew_fails_that_request_and_the_finished_batch_is_told(fault: Exception) -> None:
    engine = make_engine(gate=True)
    parse = engine.parse

    def parse_all_but_one(request: Any, drop_unknown: bool = False) -> Any:
        if request.history == ("i1",):
            raise fault
        return parse(request, drop_unknown)

    async def test() -> None:
        async with served(engine) as (service, client):

            def between() -> None:
                engine.replace_catalog(make_catalog(seed=1))
                engine.parse = parse_all_but_one  # type: ignore[method-assign]

            first, others = await two_batches(engine, service, client, between)
            assert first.status_code == 200
            assert [response.status_code for response in others] == [200, 500]
            engine.parse = parse  # type: ignore[method-assign]
            await still_well(service, client)

    run(test())


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
@pytest.mark.parametrize("step", ["_start", "launch"])
def test_a_fault_in_starting_a_batch_fails_it_and_the_finished_one_is_told(step: str, fault: Exception) -> None:
    engine = make_engine(gate=True)

    async def test() -> None:
        async with served(engine) as (service, client):
            owner = service.batcher if step == "_start" else engine
            whole = getattr(owner, step)
            between = lambda: setattr(owner, step, failing(fault))  # noqa: E731
            first, others = await two_batches(engine, service, client, between)
            assert first.status_code == 200
            assert [response.status_code for response in others] == [500, 500]
            setattr(owner, step, whole)
            await service.batcher.between_batches(service.batcher._check_device)
            await still_well(service, client)

    run(test())


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_fault_while_a_batch_is_waited_for_fails_it_alone(fault: Exception) -> None:
    engine = make_engine(gate=True)
    launch = engine.launch

    async def test() -> None:
        async with served(engine) as (service, client):
            between = lambda: setattr(engine, "launch", lambda parsed: failing(fault))  # noqa: E731
            first, others = await two_batches(engine, service, client, between)
            assert first.status_code == 200
            assert [response.status_code for response in others] == [500, 500]
            engine.launch = launch  # type: ignore[method-assign]
            await service.batcher.between_batches(service.batcher._check_device)
            await still_well(service, client)

    run(test())


def test_a_fault_in_counting_a_batch_loses_no_answer() -> None:
    engine = make_engine(gate=True)

    async def test() -> None:
        async with served(engine) as (service, client):
            counted = service.metrics.batch_ran
            service.metrics.batch_ran = failing(MemoryError())  # type: ignore[method-assign]
            assert (await ask(client)).status_code == 200
            service.metrics.batch_ran = counted  # type: ignore[method-assign]
            await still_well(service, client)

    run(test())


def test_a_fault_in_the_queue_itself_is_survived() -> None:
    engine = make_engine(gate=True)

    async def test() -> None:
        async with served(engine) as (service, client):
            whole = service.batcher._next
            failed = threading.Event()

            def fail_once(idle: bool, wait: bool) -> Any:
                service.batcher._next = whole  # type: ignore[method-assign]
                failed.set()
                raise MemoryError

            first, others = await two_batches(
                engine, service, client, lambda: setattr(service.batcher, "_next", fail_once)
            )
            assert failed.is_set()
            assert [response.status_code for response in (first, *others)] == [200] * 3
            await still_well(service, client)

    run(test())


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_fault_in_a_call_between_batches_is_its_callers(fault: Exception) -> None:
    async def test() -> None:
        async with served(make_engine()) as (service, client):
            with pytest.raises(RuntimeError if isinstance(fault, StopIteration) else type(fault)):
                await service.batcher.between_batches(failing(fault))
            await still_well(service, client)

    run(test())


def test_a_server_drains_past_batches_that_fail() -> None:
    engine = make_engine(gate=True)

    async def test() -> None:
        async with served(engine) as (service, client):

            def between() -> None:
                engine.launch = failing(MemoryError())  # type: ignore[method-assign]
                service.drain()

            first, others = await two_batches(engine, service, client, between)
            assert [response.status_code for response in (first, *others)] == [200, 500, 500]
            async with asyncio.timeout(60):
                await service.drained()
            assert (await ask(client)).status_code == 503

    run(test())


def test_a_client_that_went_while_its_batch_failed_takes_nothing_from_the_others() -> None:
    engine = make_engine(gate=True)

    async def test() -> None:
        async with served(engine) as (service, client):
            gate(engine).shut()
            asked = [
                asyncio.create_task(ask(client, f"i{number}", deadline_ms=800 if number else 20_000))
                for number in (0, 1)
            ]
            await until(gate(engine).entered.is_set, "the device is held")
            await asyncio.sleep(0.9)
            gate(engine).open.set()
            assert {response.status_code for response in await asyncio.gather(*asked)} <= {200, 504}
            await still_well(service, client)

    run(test())


def test_the_thread_ends_in_peace_where_the_event_loop_has_gone() -> None:
    engine = make_engine()

    async def test() -> None:
        async with served(engine) as (service, client):
            told = service.batcher._loop

            class Gone:
                def call_soon_threadsafe(self, *_: Any) -> None:
                    raise RuntimeError("Event loop is closed")

            service.batcher._loop = Gone()  # type: ignore[assignment]
            assert (await ask(client, deadline_ms=300)).status_code == 504
            service.batcher._loop = told
            await still_well(service, client)

    run(test())


@pytest.mark.parametrize("step", ["ranked", "encode"])
def test_a_fault_in_ranking_or_encoding_is_that_requests_alone(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine()

    async def test() -> None:
        async with served(engine) as (service, client):
            with monkeypatch.context() as patch:
                where = (
                    "octorec.engine.rank.Found.ranked" if step == "ranked" else "octorec.serve.recommend.encode_answer"
                )
                patch.setattr(where, failing(MemoryError()))
                assert (await ask(client)).status_code == 500
            assert service.accepted == 0
            await still_well(service, client)

    run(test())
