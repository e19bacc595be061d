"""Refusals of a client that asks again at once are held a little; those of others are not."""

import asyncio
import time

import pytest

from octorec.serve import throttle
from octorec.serve.throttle import AT_ONCE_PER_S, BURST_S, KEPT, LONGEST_S, Throttle

ALLOWED = int(AT_ONCE_PER_S * BURST_S)


def test_a_burst_is_refused_at_once_and_what_follows_is_held_up_to_the_longest() -> None:
    one = Throttle()
    waits = [one.wait_s("greedy", now=5.0) for _ in range(ALLOWED + 1000)]
    assert waits[: ALLOWED + 1] == [0.0] * (ALLOWED + 1)
    held = waits[ALLOWED + 1 :]
    assert held == sorted(held)
    assert held[0] == pytest.approx(1 / AT_ONCE_PER_S)
    assert held[-1] == LONGEST_S


def test_a_client_within_its_rate_is_never_held_and_another_does_not_change_it() -> None:
    one = Throttle()
    for step in range(5000):
        now = step / AT_ONCE_PER_S
        assert one.wait_s("steady", now) == 0.0
        for _ in range(5):
            one.wait_s("greedy", now)
    assert one.wait_s("greedy", 50.0) >= 0.9 * LONGEST_S


def test_a_client_that_was_held_is_refused_at_once_again_after_a_pause() -> None:
    one = Throttle()
    for _ in range(10 * ALLOWED):
        one.wait_s("a", 0.0)
    later = BURST_S + LONGEST_S
    assert [one.wait_s("a", later) for _ in range(ALLOWED)] == [0.0] * ALLOWED


def test_clients_without_end_take_no_memory_without_end() -> None:
    one = Throttle()
    for number in range(3 * KEPT):
        one.wait_s(f"client {number}", 0.0)
    assert len(one._due) <= KEPT


def test_eight_that_ask_again_at_once_are_refused_as_often_as_one_client_may_be() -> None:
    async def refused(client: str, one: Throttle, until: float) -> int:
        n = 0
        while time.monotonic() < until:
            await one.hold(client)
            n += 1
        return n

    async def test() -> int:
        one = Throttle()
        until = time.monotonic() + 1.0
        return sum(await asyncio.gather(*(refused("greedy", one, until) for _ in range(8))))

    n = asyncio.run(test())
    assert ALLOWED < n <= ALLOWED + AT_ONCE_PER_S * 1.0 + 8 * 2


def test_a_refusal_is_held_only_where_asking_again_may_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    from octorec.serve.config import ServeConfig
    from octorec.serve.door import Door
    from octorec.serve.refusal import STATUS, Refusal

    monkeypatch.setattr(throttle, "BURST_S", 0.0)

    class Service:
        config = ServeConfig()

    async def seconds(outcome: str) -> float:
        door = Door(Service())  # type: ignore[arg-type]
        start = time.monotonic()
        for _ in range(6):
            await door.held("a", Refusal(outcome, "no"))
        return time.monotonic() - start

    async def test() -> dict[str, bool]:
        return {outcome: await seconds(outcome) >= 0.04 for outcome in STATUS if outcome != "ok"}

    held = asyncio.run(test())
    assert {outcome for outcome, waited in held.items() if waited} == {"queue_full", "overloaded"}
