"""A trace tells what each level of a search kept and gave up; sums over all prefixes say the same."""

import math

import numpy as np
import pytest
import torch

from octorec.engine.engine import Engine
from octorec.engine.request import Request
from octorec.engine.trace import GIVEN_UP, Trace, trace
from tests.serve.served import make_catalog, make_engine


@pytest.fixture(scope="module")
def engine() -> Engine:
    return make_engine(make_catalog(seed=3))


def traced(engine: Engine, **asked: object) -> Trace:
    with torch.inference_mode():
        return trace(engine, engine.parse(Request(["i1", "i2", "i3"], **{"k": 4, "beam_width": 8, **asked})))


def test_the_trace_is_of_the_search_that_answers(engine: Engine) -> None:
    found = traced(engine)
    answer = engine.recommend([Request(["i1", "i2", "i3"], k=4, beam_width=8)])[0]
    assert found.ranked.items() == answer.items
    assert found.ranked.scores.tolist() == answer.scores
    last = dict(found.levels[-1].kept)
    for codes, score in zip(answer.codes, answer.scores, strict=True):
        assert last[tuple(codes)] == score


def test_every_level_extends_the_one_before_and_keeps_the_best(engine: Engine) -> None:
    found = traced(engine)
    above = {(): 0.0}
    for level in found.levels:
        assert len(level.kept) <= level.width == 8
        for prefix, score in [*level.kept, *level.dropped]:
            assert score <= above[prefix[:-1]]
        scores = [score for _, score in level.kept]
        assert scores == sorted(scores, reverse=True)
        if level.dropped:
            assert level.dropped[0][1] == level.highest_dropped <= scores[-1]
        assert not {prefix for prefix, _ in level.kept} & {prefix for prefix, _ in level.dropped}
        above = dict(level.kept)


def test_what_a_narrow_search_gives_up_a_wide_one_keeps_with_its_score(engine: Engine) -> None:
    narrow, wide = traced(engine, beam_width=4), traced(engine, beam_width=32)
    first = dict(wide.levels[0].kept)
    assert [first[prefix] for prefix, _ in narrow.levels[0].dropped] == [s for _, s in narrow.levels[0].dropped]
    assert len(narrow.levels[0].kept + narrow.levels[0].dropped) == min(7, 4 + GIVEN_UP)
    assert wide.levels[0].dropped == []
    assert wide.levels[0].highest_dropped is None
    assert math.isclose(sum(math.exp(score) for score in first.values()), 1, rel_tol=1e-5)


def test_exclusions_and_sets_bind_the_trace(engine: Engine) -> None:
    found = traced(engine, exclude=["i5"], allow=["red"])
    leaf = tuple(engine.catalog.codes[engine.catalog.index["i5"]].tolist())
    alone = (engine.catalog.codes == leaf).all(1).sum() == 1
    kept = {prefix for prefix, _ in found.levels[-1].kept + found.levels[-1].dropped}
    assert not (alone and leaf in kept)
    red = {
        tuple(codes)
        for codes, sets in zip(engine.catalog.codes.tolist(), engine.catalog.sets, strict=True)
        if "red" in sets
    }
    assert kept
    assert kept <= red


def test_a_trace_leaves_the_engine_as_it_was(engine: Engine) -> None:
    ops, graphed = engine.ops, engine.graphed
    traced(engine)
    assert engine.ops is ops
    assert engine.graphed is graphed
    assert np.isfinite(engine.recommend([Request(["i1"], k=2)])[0].scores).all()
