"""Clients take turns, the one with most gives way, and batches hold who can be in time."""

import threading
import time
from dataclasses import dataclass
from typing import Any

import pytest
from starlette.requests import Request

from octorec.serve.batcher import Batcher
from octorec.serve.clients import Clients
from octorec.serve.config import HttpOptions
from octorec.serve.fair_queue import FairQueue
from octorec.serve.in_time import chosen
from octorec.serve.metrics import Metrics
from octorec.serve.pace import Pace

BEAMS = (32, 32, 32)


@dataclass(eq=False)
class Waiter:
    client: str
    number: int = 0
    turn: int = 0


@dataclass(eq=False)
class Due:
    deadline: float


def test_one_client_is_served_in_the_order_of_arrival_and_two_in_turns() -> None:
    queue: FairQueue[Waiter] = FairQueue(100)
    for number in range(6):
        queue.add(Waiter("greedy", number))
    assert [one.number for one in queue] == [*range(6)]
    for number in range(2):
        queue.add(Waiter("polite", number))
    named = [(one.client, one.number) for one in queue]
    assert named[:4] == [("greedy", 0), ("polite", 0), ("greedy", 1), ("polite", 1)]
    assert queue.ahead("polite") == 2 + 3
    assert queue.ahead("new") == 2


def test_who_comes_later_does_not_wait_for_what_others_had_before() -> None:
    queue: FairQueue[Waiter] = FairQueue(1000)
    for number in range(500):
        queue.add(Waiter("greedy", number))
    for _ in range(300):
        queue.serve(next(iter(queue)))
    queue.add(Waiter("polite"))
    assert [one.client for one in queue].index("polite") == 0  # the last that was served is of this turn too


def test_a_full_queue_takes_a_place_from_the_one_with_most() -> None:
    queue: FairQueue[Waiter] = FairQueue(8)
    for number in range(8):
        assert queue.add(Waiter("greedy", number)) is None
    assert not queue.has_room("greedy")
    gone = [queue.add(Waiter("polite", number)) for number in range(4) if queue.has_room("polite")]
    assert [(one.client, one.number) for one in gone if one] == [("greedy", number) for number in (7, 6, 5, 4)]
    assert not queue.has_room("polite")  # both have four
    assert queue.has_room("third")
    assert len(queue) == 8


def test_a_client_that_left_has_lost_no_turn() -> None:
    queue: FairQueue[Waiter] = FairQueue(1000)
    left = [Waiter("left", number) for number in range(200)]
    for one in left:
        queue.add(one)
    for one in left:
        queue.remove(one)
    queue.add(Waiter("other", 0))
    queue.add(Waiter("other", 1))
    queue.add(Waiter("left", 0))
    assert [one.client for one in queue] == ["other", "left", "other"]


def test_a_batch_is_full_where_all_are_in_time() -> None:
    waiting = [Due(10.0) for _ in range(10)]
    batch, late = chosen(waiting, 8, 0.0, lambda rows: rows * 0.1)
    assert (batch, late) == (waiting[:8], [])


@pytest.mark.parametrize(("fixed", "size"), [(0.8, 4), (0.0, 4)])
def test_who_has_less_time_than_the_batch_takes_is_given_up(fixed: float, size: int) -> None:
    """Where a batch takes as long whatever its size, the late go; where it takes less, a smaller one takes as many."""
    waiting = [Due(0.5)] * 0 + [Due(0.3), Due(0.3)] + [Due(2.0) for _ in range(size)]
    batch, late = chosen(waiting, 6, 0.0, lambda rows: fixed + rows * 0.1)
    assert {id(one) for one in batch} <= {id(one) for one in waiting[2:]} | {id(one) for one in waiting[:2]}
    took = fixed + 0.1 * len(batch)
    assert all(one.deadline >= took for one in batch)
    assert all(one.deadline < took for one in late)
    if fixed:
        assert batch == waiting[2:]
        assert late == waiting[:2]


def test_a_pace_that_is_out_of_date_is_measured_again() -> None:
    waiting = [Due(0.1), Due(0.4)]
    batch, late = chosen(waiting, 8, 0.0, lambda rows: 5.0)
    assert batch == [waiting[1]]
    assert late == [waiting[0]]


def test_a_pace_follows_the_rows_and_what_changes() -> None:
    pace = Pace()
    assert pace.expected(BEAMS, 8) == 0
    for rows in (1, 32, 8, 16):
        pace.add(BEAMS, rows, 0.02 + 0.01 * rows)
    assert pace.expected(BEAMS, 24) == pytest.approx(0.26)
    for _ in range(1000):
        pace.add(BEAMS, 1, 0.03)
    assert pace.expected(BEAMS, 32) == pytest.approx(0.34)  # the slope is kept where batches say nothing of it
    for _ in range(60):
        pace.add(BEAMS, 8, 1.0)
    assert pace.expected(BEAMS, 8) == pytest.approx(1.0, rel=0.01)
    pace.add(BEAMS, 8, 60.0)
    assert pace.longest(BEAMS, 8) <= 2 * pace.expected(BEAMS, 8)
    for _ in range(60):
        pace.add(BEAMS, 8, 0.1)
    assert pace.expected(BEAMS, 8) == pytest.approx(0.1, rel=0.3)


def request(host: str, **headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": raw, "client": (host, 1)})


def test_a_client_is_its_token_its_address_or_what_a_listed_proxy_says() -> None:
    clients = Clients(HttpOptions(trusted_proxies="10.0.0.0/8, ::1"))
    assert clients.name(request("10.1.1.1", x_forwarded_for="6.6.6.6, 1.2.3.4"), "holder") == "proxied 1.2.3.4"
    assert clients.name(request("10.1.1.1"), "holder") == "holder"
    assert clients.name(request("11.1.1.1", x_forwarded_for="1.2.3.4"), "") == "11.1.1.1"
    assert clients.name(request("11.1.1.1", x_forwarded_for="1.2.3.4"), "holder") == "holder"
    assert clients.name(request("2001:db8::1:2"), "") == clients.name(request("2001:db8::ffff"), "")
    assert clients.name(request("2001:db8:0:1::1"), "") != clients.name(request("2001:db8::1"), "")
    assert clients.name(request("::ffff:1.2.3.4"), "") != clients.name(request("::ffff:1.2.3.5"), "")
    assert Clients(HttpOptions()).name(request("127.0.0.1", x_forwarded_for="1.2.3.4"), "") == "127.0.0.1"


def test_the_queue_costs_little() -> None:
    queue: FairQueue[Waiter] = FairQueue(256)
    start = time.process_time()
    for number in range(2000):
        client = f"c{number % 7}"
        if queue.has_room(client):
            queue.add(Waiter(client, number))
        if number % 32 == 31:
            for one in list(queue)[:8]:
                queue.serve(one)
    assert time.process_time() - start < 0.5


def test_the_event_loop_asks_for_room_while_the_device_takes_requests() -> None:
    batcher = Batcher(20, 0.0, 30.0, drop_unknown=True, metrics=Metrics())
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            with batcher._changed:
                waiting: list[Any] = [Waiter(f"client {number}") for number in range(30)]
                for one in waiting:
                    batcher.queue.add(one)
                for one in waiting:
                    batcher.queue.remove(one)

    device = threading.Thread(target=work)
    device.start()
    try:
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            batcher.refuse_if_full("another")  # outside of the lock nobody waits
    finally:
        ended.set()
        device.join()
