"""Allow-lists and schedules of beams act on language models as on others: held against scores of all items."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

import octorec
from octorec import Request
from octorec.catalog.catalog import Catalog
from octorec.engine.engine import Engine
from tests.qwen.made_models import Made

SCHEDULE = (4, 12, 40)
SETS = ("even", "third")  # items by their place in the catalog: every second one, every third one


@pytest.fixture(scope="module")
def engine(made: Callable[[str], Made]) -> Engine:
    one = made("openonerec")
    sets = [[name for name, every in zip(SETS, (2, 3), strict=True) if place % every == 0] for place in range(200)]
    codes = pa.array(one.catalog.codes.tolist(), pa.list_(pa.int32()))
    items = pa.table({"item_id": one.catalog.item_ids, "codes": codes, "sets": pa.array(sets, pa.list_(pa.string()))})
    catalog = Catalog.of_items(items, one.catalog.codebook_sizes)
    return octorec.load(one.folder, catalog, beam_widths=(SCHEDULE, 16, 200), default_beam_width=16)


def scores(engine: Engine, history: list[str]) -> dict[str, float]:
    """Return the teacher-forced score of every item."""
    found = engine.score([Request(history)] * len(engine.catalog), engine.catalog.item_ids).sum(1)
    return dict(zip(engine.catalog.item_ids, found.tolist(), strict=True))


@pytest.mark.parametrize("allow", [("even",), ("third",), ("even", "third")])
def test_allowed_items_come_back_and_no_others(allow: tuple[str, ...], engine: Engine) -> None:
    history = engine.catalog.item_ids[7:12]
    members = engine.catalog.item_ids[::2] if "even" in allow else []
    members += engine.catalog.item_ids[::3] if "third" in allow else []
    known = {item: score for item, score in scores(engine, history).items() if item in members}
    answer = engine.recommend([Request(history, k=6, beam_width=200, allow=allow)])[0]
    assert answer.complete
    assert answer.exact
    assert set(answer.items) <= set(members)
    np.testing.assert_allclose(answer.scores, sorted(known.values(), reverse=True)[:6], atol=2e-5)


def test_a_schedule_keeps_as_many_beams_a_level_as_it_says(engine: Engine) -> None:
    history = engine.catalog.item_ids[3:9]
    request = Request(history, k=10, beam_width=SCHEDULE)
    answer, other = engine.recommend([request, Request(history[:1], k=10, beam_width=SCHEDULE)])
    assert answer.beam_width == other.beam_width == SCHEDULE
    assert answer == engine.recommend([request])[0]
    every = scores(engine, history)
    np.testing.assert_allclose(answer.scores, [every[item] for item in answer.items], atol=2e-5)
    assert len({codes[:1] for codes in answer.codes}) <= SCHEDULE[0]
    wide = engine.recommend([Request(history, k=10, beam_width=200)])[0]
    assert sum(answer.scores) <= sum(wide.scores) + 1e-5


def test_a_narrow_schedule_is_not_called_exact_where_it_lost_the_best(engine: Engine) -> None:
    lost = 0
    for first in range(0, 30, 3):
        history = engine.catalog.item_ids[first : first + 4]
        narrow, wide = engine.recommend([Request(history, k=4, beam_width=width) for width in (SCHEDULE, 200)])
        if narrow.items != wide.items:
            lost += 1
            assert not narrow.exact
    assert lost
