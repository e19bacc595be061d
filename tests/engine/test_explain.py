"""A search that is shown is the search that answers: kept, dropped and bound are worked out again from every item."""

from itertools import product

import numpy as np
import pytest

from octorec.engine.explain import MOST_DROPPED, Explained, explained
from octorec.engine.request import Request
from tests.serve.served import SIZES, make_catalog, make_engine

CATALOG = make_catalog(200)
ENGINE = make_engine(CATALOG, beam_widths=(4, 32), default_beam_width=4)


def shown(**asked: object) -> Explained:
    request = Request(["i1", "i2"], k=3, **asked)
    return explained(ENGINE, ENGINE.parse(request))


def prefixes(explained_: Explained, length: int) -> dict[tuple[int, ...], int]:
    """How many items the request may have below each prefix, from the items themselves."""
    chosen = explained_.request.filter
    may = np.ones(len(CATALOG), bool)
    may[chosen.excluded] = False
    if chosen.sets is not None:
        may &= (CATALOG.item_sets & chosen.sets).any(1)
    found: dict[tuple[int, ...], int] = {}
    for codes in CATALOG.codes[may].tolist():
        found[tuple(codes[:length])] = found.get(tuple(codes[:length]), 0) + 1
    return found


@pytest.mark.parametrize("asked", [{}, {"allow": ["red"]}, {"exclude": [f"i{n}" for n in range(0, 200, 2)]}])
def test_every_level_tells_what_the_items_say(asked: dict[str, object]) -> None:
    found = shown(**asked)
    levels = found.levels()
    assert len(levels) == len(SIZES)
    before: list[list[int]] = [[]]
    for number, level in enumerate(levels):
        may = {path for path in prefixes(found, number + 1) if [*path[:-1]] in before}
        kept = {tuple(prefix.codes) for prefix in level.kept}
        dropped = {tuple(prefix.codes) for prefix in level.dropped}
        assert level.candidates == len(may)
        assert level.n_kept == len(kept) == min(4, len(may))
        assert not kept & dropped
        assert kept | dropped == may or len(dropped) == MOST_DROPPED
        scores = [prefix.score for prefix in level.kept]
        assert scores == sorted(scores, reverse=True)
        for prefix in level.kept if number else []:
            assert prefix.parent is not None
            assert levels[number - 1].kept[prefix.parent].codes == prefix.codes[:-1]
            assert levels[number - 1].kept[prefix.parent].score >= prefix.score
        before = [prefix.codes for prefix in level.kept]


def test_its_bound_and_scores_are_those_of_the_answer() -> None:
    (answer,) = ENGINE.recommend([Request(["i1", "i2"], k=3)])
    levels = shown().levels()
    bounds = [level.bound for level in levels if level.bound is not None]
    assert max(bounds) == answer.bound
    for level in levels:
        if level.bound is None:
            assert level.dropped == []
        else:
            assert level.dropped[0].score == pytest.approx(level.bound, abs=1e-5)
    scores = {tuple(prefix.codes): prefix.score for prefix in levels[-1].kept}
    assert [scores[codes] for codes in answer.codes] == answer.scores


def test_a_wide_search_drops_nothing() -> None:
    levels = shown(beam_width=32).levels()
    assert levels[0].bound is None
    assert levels[0].dropped == []
    assert levels[0].candidates == len({codes[0] for codes in CATALOG.codes.tolist()})


def test_an_example_is_an_item_below_the_prefix() -> None:
    titles = dict(zip(CATALOG.titles, map(tuple, CATALOG.codes.tolist()), strict=True))
    for level, prefix in product(shown().levels(), range(3)):
        told = level.kept[prefix]
        assert titles[told.example][: len(told.codes)] == tuple(told.codes)
        below = [codes for codes in titles.values() if codes[: len(told.codes)] == tuple(told.codes)]
        assert told.items == len(below)


def test_another_version_of_the_catalog_is_shown_by_its_own_nodes() -> None:
    engine = make_engine(CATALOG, beam_widths=(4,), default_beam_width=4)
    other = make_catalog(150, seed=3)
    engine.replace_catalog(other)
    request = Request(["i1"], k=3)
    levels = explained(engine, engine.parse(request)).levels()
    (answer,) = engine.recommend([request])
    assert {tuple(prefix.codes) for prefix in levels[-1].kept} >= set(answer.codes)
    assert {tuple(prefix.codes) for prefix in levels[-1].kept} <= set(map(tuple, other.codes.tolist()))
