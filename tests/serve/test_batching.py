"""Dynamic batching under every kind of trouble: nothing is lost, doubled or swapped, and nobody waits for nothing."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from octorec.engine.engine import Engine
from octorec.engine.request import Request
from octorec.serve.batcher import Batcher
from octorec.serve.metrics import Metrics
from octorec.serve.pending import Pending, Serving
from tests.serve.served import Gate, make_engine, run, served, until


def gate(engine: Engine) -> Gate:
    assert isinstance(engine.model, Gate)
    return engine.model


def many_requests(n: int, seed: int = 0) -> list[Request]:
    """Distinct requests of random lengths and beam widths."""
    generator = np.random.default_rng(seed)
    requests = []
    for number in range(n):
        width = int(generator.integers(1, 17))
        history = [f"i{item}" for item in generator.integers(0, 90, generator.integers(1, 16))]
        user = {"age": 20 + number / n * 40}
        exclude = [f"i{item}" for item in generator.integers(0, 90, generator.integers(0, 5))]
        requests.append(Request(history, min(5, width), width, exclude, user=user))
    return requests


def body(request: Request, **more: Any) -> dict[str, Any]:
    fields = {"history": request.history, "k": request.k, "beam_width": request.beam_width}
    return {**fields, "exclude": request.exclude, "user": request.user, **more}


async def ask(client: httpx.AsyncClient, request: Request, **more: Any) -> httpx.Response:
    return await client.post("/v1/recommend", json=body(request, **more))


@pytest.mark.parametrize("n", [200, pytest.param(10_000, marks=pytest.mark.slow)])
def test_no_answer_is_lost_doubled_or_swapped(n: int) -> None:
    """One bucket, so that an answer's bits do not depend on how many others were in its batch."""
    engine = make_engine(batch_sizes=(32,), beam_widths=(16,))
    requests = many_requests(n)
    offline = engine.recommend(requests)
    order = np.random.default_rng(1).permutation(n)
    answers: dict[int, dict[str, Any]] = {}

    async def test() -> None:
        async with served(engine, max_queued_requests=200, log_requests=False) as (service, client):
            places = asyncio.Semaphore(150)

            async def one(number: int) -> None:
                async with places:
                    response = await ask(client, requests[number], request_id=f"r{number}")
                    assert response.status_code == 200
                    answer = response.json()
                    assert answer["request_id"] == f"r{number}"
                    assert number not in answers
                    answers[number] = answer

            await asyncio.gather(*(one(int(number)) for number in order))
            batches = service.metrics.registry.get_sample_value("octorec_batches_total")
            print(f"{n} requests in {batches:.0f} batches, all as offline")

    run(test())
    assert len(answers) == n
    for number, expected in enumerate(offline):
        assert answers[number]["items"] == expected.items
        assert np.array_equal(np.float32(answers[number]["scores"]), np.float32(expected.scores))


def test_a_full_queue_answers_503_at_once() -> None:
    engine = make_engine(gate=True)
    requests = many_requests(13)

    async def test() -> None:
        async with served(engine, max_queued_requests=10) as (service, client):
            gate(engine).shut()
            held = asyncio.create_task(ask(client, requests[0]))
            await until(gate(engine).entered.is_set, "the device is held")
            waiting = [asyncio.create_task(ask(client, request)) for request in requests[1:11]]
            await until(lambda: service.batcher.waiting == 10, "a full queue")
            assert service.batcher.running == 1
            for response in [await ask(client, request) for request in requests[11:13]]:  # while the device is held
                assert response.status_code == 503
                assert int(response.headers["retry-after"]) >= 1
                assert response.json()["error"]["type"] == "queue_full"
            gate(engine).open.set()
            responses = await asyncio.gather(held, *waiting)
            for request, response in zip(requests, responses, strict=False):
                assert response.json()["items"] == engine.recommend([request])[0].items

    run(test())


def test_an_expired_request_never_reaches_the_device() -> None:
    engine = make_engine(gate=True)
    first, late, *live = many_requests(4)

    async def test() -> None:
        async with served(engine) as (service, client):
            gate(engine).shut()
            held = asyncio.create_task(ask(client, first))
            await until(gate(engine).entered.is_set, "the device is held")
            expired = await ask(client, late, deadline_ms=500)  # while the device is held
            others = [asyncio.create_task(ask(client, request)) for request in live]
            await until(lambda: service.batcher.waiting == 2, "the expired one has left the queue")
            gate(engine).batches.clear()
            fill = service.metrics.registry.get_sample_value("octorec_batch_fill_ratio_sum")
            gate(engine).open.set()
            answers = await asyncio.gather(held, *others)
            assert expired.status_code in (
                503,
                504,
            )  # 503 where warm-up was slow: it would be too late, as told at once
            assert expired.json()["error"]["field"] == "deadline_ms"
            assert [answer.status_code for answer in answers] == [200] * 3
            assert len(gate(engine).batches) == 2  # the held one's and the two's
            filled = service.metrics.registry.get_sample_value("octorec_batch_fill_ratio_sum") - fill
            assert filled == pytest.approx((1 + 2) / 32)

    run(test())


def test_a_deadline_that_passes_on_the_device_is_504_too() -> None:
    engine = make_engine(gate=True)
    request = many_requests(1)[0]

    async def test() -> None:
        async with served(engine) as (service, client):
            gate(engine).shut()
            response = await ask(client, request, deadline_ms=50)
            assert response.status_code == 504
            assert service.batcher.running == 1
            gate(engine).open.set()
            assert (await ask(client, request)).status_code == 200

    run(test())


def test_a_poisoned_request_fails_alone() -> None:
    engine = make_engine(gate=True)
    requests = many_requests(32)
    catalog = engine.catalog
    places = [catalog.index[request.history[-1]] for request in requests]
    codes = [tuple(catalog.codes[place].tolist()) for place in places]
    poisoned = next(number for number in range(32) if codes.count(codes[number]) == 1)

    async def test() -> None:
        async with served(engine) as (service, client):
            gate(engine).shut()
            held = asyncio.create_task(ask(client, requests[poisoned - 1]))
            await until(gate(engine).entered.is_set, "the device is held")
            asked = [asyncio.create_task(ask(client, request)) for request in requests]
            await until(lambda: service.batcher.waiting == 32, "all 32 wait")
            gate(engine).poison = codes[poisoned]
            gate(engine).open.set()
            responses = await asyncio.gather(*asked)
            assert (await held).status_code == 200
            statuses = [response.status_code for response in responses]
            assert statuses == [500 if number == poisoned else 200 for number in range(32)]
            error = responses[poisoned].json()["error"]
            assert error["type"] == "failed"
            assert "poisoned item" not in error["message"]  # the reason is for the log
            assert (await client.get("/v2/health/live")).status_code == 200
            gate(engine).poison = None
            for request, response in zip(requests, responses, strict=True):
                if response.status_code == 200:
                    assert response.json()["items"] == engine.recommend([request])[0].items
            print(f"{statuses.count(500)} error, {statuses.count(200)} right, server live")

    run(test())


class Waiting:
    """A client's future that is told on the device thread itself, and then does what the client does next."""

    def __init__(self, then: Callable[[], None]):
        self.then = then

    def done(self) -> bool:
        return False

    def set_result(self, outcome: object) -> None:
        self.then()


class AtOnce:
    """An event loop that runs what it is called for before the device thread goes on."""

    def call_soon_threadsafe(self, call: Callable[..., None], *args: Any) -> None:
        call(*args)


def test_who_asks_again_as_soon_as_told_finds_an_idle_device() -> None:
    engine = make_engine()
    serving, answered = Serving(engine, "first"), threading.Event()
    batcher = Batcher(max_queued=8, max_delay_s=600, stuck_after_s=600, drop_unknown=True, metrics=Metrics())
    first, second = (Request(["i1", "i2"], k=3, user={"age": 30}) for _ in range(2))

    def pending(request: Request, then: Callable[[], None]) -> Pending:
        return Pending(request, serving, engine.parse(request), time.monotonic() + 600, Waiting(then))  # type: ignore[arg-type]

    batcher.start(serving, 4, AtOnce())  # type: ignore[arg-type]
    batcher.submit(pending(first, lambda: batcher.submit(pending(second, answered.set))))
    assert answered.wait(60), "the second request waited for a fuller batch beside an idle device"
    assert batcher.stop(60)


def test_an_idle_engine_starts_at_once_and_a_busy_one_collects() -> None:
    engine = make_engine(gate=True)
    requests = many_requests(6)

    async def test() -> None:
        async with served(engine, max_queue_delay_ms=600_000, max_batch_size=4) as (service, client):
            for _ in range(2):  # a request that waits for a fuller batch is late, at 504
                assert (await ask(client, requests[0])).status_code == 200
            gate(engine).shut()
            tasks = [asyncio.create_task(ask(client, requests[0]))]
            await until(gate(engine).entered.is_set, "the device is held")
            tasks += [asyncio.create_task(ask(client, request)) for request in requests[1:3]]
            await until(lambda: service.batcher.waiting == 2, "two wait")
            gate(engine).batches.clear()
            gate(engine).open.set()
            await until(lambda: len(gate(engine).batches) == 1, "the held one has run")
            tasks += [asyncio.create_task(ask(client, request)) for request in requests[3:5]]
            assert {response.status_code for response in await asyncio.gather(*tasks)} == {200}
            assert len(gate(engine).batches) == 2  # the two waited for two more: a full batch goes before its time

    run(test())


def test_the_next_batch_is_launched_before_clients_are_told_of_the_last() -> None:
    engine = make_engine(gate=True)
    requests = many_requests(2)
    launch, launched, when_told = engine.launch, [], []

    def slow_launch(parsed: Any) -> Any:
        time.sleep(0.05)
        launched.append(len(parsed))
        return launch(parsed)

    async def test() -> None:
        async with served(engine) as (service, client):
            gate(engine).shut()
            engine.launch = slow_launch  # type: ignore[method-assign]
            first = asyncio.create_task(ask(client, requests[0]))
            first.add_done_callback(lambda _: when_told.append(len(launched)))
            await until(gate(engine).entered.is_set, "the device is held")
            second = asyncio.create_task(ask(client, requests[1]))
            await until(lambda: service.batcher.waiting == 1, "one waits")
            gate(engine).open.set()
            await asyncio.gather(first, second)
            assert when_told == [2]

    run(test())
