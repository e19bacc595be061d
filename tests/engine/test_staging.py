"""A batch in one block of memory."""

import sys
import threading
import time

import numpy as np
import torch
from made_up import MadeUpModel, random_catalog

from octorec.engine.batch import Limits, ParsedRequest, parse
from octorec.engine.buckets import Buckets
from octorec.engine.policy import Policy
from octorec.engine.request import Request
from octorec.engine.search import SearchBatch
from octorec.engine.staging import ALIGN, Staging
from octorec.models.user import UserField

CATALOG = random_catalog(500, (8, 8, 8))
FIELDS = (UserField("age", "number", mean=30, std=10),)
MODEL = MadeUpModel((8, 8, 8), user_fields=FIELDS)
POLICY = Policy(Buckets.of((4,), (8, 64), levels=3), default=8)
LIMITS = Limits(max_history=6, fields=FIELDS, policy=POLICY, max_exclude=50, exclude_seen=False)


def parsed(
    history: list[int], exclude: tuple[int, ...] = (), allow: tuple[str, ...] = (), age: float = 30
) -> ParsedRequest:
    ids = CATALOG.item_ids
    chosen = [ids[item] for item in exclude]
    request = Request([ids[item] for item in history], k=3, exclude=chosen, allow=allow, user={"age": age})
    return parse(request, CATALOG, LIMITS)


def staging(size: int = 4, max_context: int = 6, room: int = 20) -> Staging:
    return Staging(MODEL, max_context, size, room, 1, pinned=False)


def banned_of(batch: SearchBatch, level: int, row: int) -> list[int]:
    """What a request of a batch bans at a level."""
    banned, first, *_ = batch.filters[level]
    return banned[first[row] : first[row + 1]].tolist()


def test_holds_what_was_parsed() -> None:
    leaf = int(CATALOG.item_leaf[7])
    alone = [item for item in range(500) if CATALOG.item_leaf[item] == leaf]  # the tuple dies with its last item
    requests = [parsed([3, 1, 2], age=40), parsed([5], exclude=tuple(alone), allow=("blue",))]
    subject = staging()
    subject.fill(requests, [9, 10, 100, 1000])
    batch = subject.batch()
    assert batch.inputs["lengths"].tolist() == [3, 1, 1, 1]
    np.testing.assert_array_equal(batch.inputs["codes"][0, :3], CATALOG.codes[[3, 1, 2]])
    np.testing.assert_array_equal(batch.inputs["codes"][1, 0], CATALOG.codes[5])
    assert not batch.inputs["codes"][2:].any()
    assert batch.inputs["user"].flatten().tolist() == [1, 0, 0, 0]
    assert batch.roots.tolist() == [[9]] * 4
    assert batch.widths.tolist() == [[8, 8, 1, 1]] * 3
    nodes = [int(level_nodes[0]) for level_nodes in requests[1].banned if len(level_nodes)]
    assert nodes == [leaf]
    assert [banned_of(batch, 2, row) for row in range(4)] == [[], [1000 + leaf], [], []]
    assert not any(banned_of(batch, level, row) for level in (0, 1) for row in range(4))
    for level in batch.filters:
        assert level.restricted.tolist() == [False, True, False, False]
        assert level.allowed_sets[1].numpy() == CATALOG.set_mask(["blue"])


def test_nothing_stays_of_the_batch_before() -> None:
    first, again = staging(), staging()
    first.fill([parsed([1, 2, 3, 4, 5], exclude=(7,), allow=("red",), age=50)] * 4, [1, 3, 5, 9])
    for subject in (first, again):
        subject.fill([parsed([6])], [2, 0, 0, 0])
    assert torch.equal(first.used, again.used)


def test_the_same_tensors_wherever_the_block_is() -> None:
    subject = staging()
    copy = subject.block.clone()
    subject.fill([parsed([3, 1, 2], exclude=tuple(range(40)))], [9, 0, 0, 1000])
    batch = subject.batch(copy)
    copy[: len(subject.used)].copy_(subject.used)
    here = subject.batch()
    assert torch.equal(batch.inputs["codes"], here.inputs["codes"])
    assert [banned_of(batch, level, 0) for level in range(3)] == [banned_of(here, level, 0) for level in range(3)]
    assert banned_of(batch, 2, 0)
    for tensor in (batch.inputs["codes"], batch.inputs["user"], batch.widths, *batch.filters[0]):
        assert (tensor.data_ptr() - copy.data_ptr()) % ALIGN == 0


def test_writing_keeps_the_interpreter() -> None:
    """Another thread, which nobody lets in by force, never gets its turn. Rows are so long that NumPy would copy them
    without Python's lock."""
    codes = np.zeros((512, 3), np.int64)
    request = ParsedRequest(CATALOG, codes, [0.0], parsed([1]).filter, [np.arange(400)] * 3, 3, 8, [])
    subject = staging(32, max_context=512, room=32 * 3 * 400)
    before, ending, turns = sys.getswitchinterval(), threading.Event(), [0]

    def work() -> None:
        while not ending.is_set():
            turns[0] += 1
            time.sleep(0)

    thread = threading.Thread(target=work)
    sys.setswitchinterval(30)
    try:
        thread.start()
        while not turns[0]:
            time.sleep(0.001)
        at_first = turns[0]
        for _ in range(100):
            subject.fill([request] * 32, [0] * 4)
        at_last = turns[0]
    finally:
        sys.setswitchinterval(before)
        ending.set()
        thread.join()
    assert at_last == at_first > 0
