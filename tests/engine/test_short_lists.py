"""A list that is short says why: how many items the request may have, and how wide the beam was."""

import numpy as np
import pytest
from made_up import MadeUpModel, random_catalog

from octorec.catalog.build import withdraw
from octorec.catalog.catalog import Catalog
from octorec.engine import batch, items
from octorec.engine.engine import Engine, EngineConfig
from octorec.engine.request import Request

SIZES = (6, 5, 7)


def engine(catalog: Catalog, widest: int = 300) -> Engine:
    config = EngineConfig(8, batch_sizes=(4,), beam_widths=(widest,), default_beam_width=widest)
    return Engine(MadeUpModel(SIZES), catalog, config)


def may_have(catalog: Catalog, request: Request) -> int:
    """Counted item by item."""
    return sum(
        bool(catalog.live[place])
        and item not in request.exclude
        and (not request.allow or bool(set(request.allow) & set(catalog.sets[place])))
        for place, item in enumerate(catalog.item_ids)
    )


@pytest.mark.parametrize("allow", [(), ("red",), ("red", "blue")])
@pytest.mark.parametrize("n_excluded", [0, 30])
def test_the_note_counts_what_the_request_may_have(allow: tuple[str, ...], n_excluded: int) -> None:
    catalog = random_catalog(60, SIZES, withdrawn=0.3)
    request = Request(["i1"], k=100, allow=allow, exclude=[f"i{n}" for n in range(n_excluded)])
    answer = engine(catalog).recommend([request])[0]
    may = may_have(catalog, request)
    assert len(answer.items) == may
    assert not answer.complete
    assert answer.notes == [f"found {may} of k = 100 items with a beam 300 wide; the request may have {may}"]


def test_a_narrow_beam_finds_what_many_exclusions_leave() -> None:
    request = Request(["i1"], k=2, beam_width=2, exclude=[f"i{n}" for n in range(398)])
    answer = engine(random_catalog(400, SIZES, sets=("red",))).recommend([request])[0]
    assert sorted(answer.items) == ["i398", "i399"]
    assert answer.complete


def test_of_a_history_beyond_what_a_search_leaves_out_no_item_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MOST_SEEN", 3)
    catalog = random_catalog(400, SIZES, sets=("red",))
    request = Request([f"i{n}" for n in range(398)], k=2, beam_width=2, exclude_seen=True)
    answer = engine(catalog).recommend([request])[0]
    assert set(answer.items) <= {"i398", "i399"}
    assert not answer.complete
    answer.notes.pop(0)  # of the history's length
    assert answer.notes == [
        f"found {len(answer.items)} of k = 2 items with a beam 2 wide; the request may have 2: "
        "a wider beam may find more"
    ]


def test_a_complete_list_has_no_such_note_and_counts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(items, "_count_live", None)
    assert engine(random_catalog(60, SIZES)).recommend([Request(["i1"], k=5)])[0].notes == []


def test_the_note_stands_behind_the_others() -> None:
    answer = engine(random_catalog(5, SIZES)).recommend([Request(["i1"] * 9, k=9)])[0]
    assert answer.notes[0].startswith("history has 9 items")
    assert answer.notes[1].startswith("found 5 of k = 9")


def test_a_count_is_kept_for_its_version_of_the_catalog_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(items, "ROWS", 16)
    looked_at = []
    live_of = items._live_of
    monkeypatch.setattr(items, "_live_of", lambda *args: looked_at.append(args) or live_of(*args))
    before = random_catalog(60, SIZES)
    after = withdraw(before, ["i1", "i2"])
    anything = items.item_filter(before, np.zeros(0, np.int64), [])
    red = items.item_filter(before, before.places(["i3"]), ["red"])
    counts = [
        [items.count_returnable(catalog, chosen) for _ in range(3)]
        for catalog in (before, after)
        for chosen in (anything, red)
    ]
    assert counts[0] == [60] * 3
    assert counts[2] == [58] * 3
    red_items = [place for place, sets in enumerate(before.sets) if "red" in sets and before.item_ids[place] != "i3"]
    assert counts[1] == [len(red_items)] * 3
    assert len(looked_at) == 4 * 4  # four counts, each of four parts


def test_distinct_unions_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(items, "MOST_COUNTS", 3)
    catalog = random_catalog(30, SIZES)
    for mask in range(20):
        items._count_live(catalog, np.array([mask]))
    assert len(items._counts[catalog]) <= 3
