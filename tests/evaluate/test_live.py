"""What is found of recent requests, a few at a time, is what a shadow of the same requests finds."""

import pytest

from octorec.engine.engine import Engine, EngineConfig
from octorec.engine.request import Request
from octorec.evaluate.live import agreement, compared, log_probs, still_askable
from octorec.evaluate.shadow import shadow
from tests.serve.served import make_catalog, make_model

CONFIG = EngineConfig(max_context=12, batch_sizes=(8,), beam_widths=(16,), default_beam_width=16)


def engine_of(seed: int, n: int = 90) -> Engine:
    return Engine(make_model(make_catalog(), seed), make_catalog(n), CONFIG)


def test_it_is_what_a_shadow_finds() -> None:
    now, then = engine_of(0), engine_of(1)
    requests = [Request([f"i{n}", f"i{2 * n}"], k=7 if n % 3 else 4, exclude=["i5"]) for n in range(12)]
    parts = []
    for start in range(0, len(requests), 5):
        chunk = requests[start : start + 5]
        lists, others = now.lists(chunk), then.lists(chunk)
        parts.append(compared(lists, others, log_probs(now, chunk, lists), log_probs(then, chunk, lists)))
    found, wanted = agreement(parts), shadow(now, then, requests).agreement
    assert vars(found) == pytest.approx(vars(wanted), rel=1e-6)
    assert 0 < found.overlap < 1


def test_of_requests_that_were_answered_those_are_left_that_the_catalog_still_answers() -> None:
    engine = engine_of(0, n=40)
    requests = [
        Request(["i1", "i70"], k=3),
        Request(["i70"], k=3),  # nothing of it is left, so that popularity would answer
        Request(["i2"], k=3, exclude=["i71", "i3"]),
        Request(["i2"], k=3, allow=["green"]),
        Request(["i2"], k=3, user={"age": 30, "plan": "gone"}),
    ]
    left = still_askable(engine, requests)
    assert [(request.history, request.exclude) for request in left] == [(("i1",), ()), (("i2",), ("i3",))]
