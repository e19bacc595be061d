"""Caps over a list, at random, against a specification in plain Python, and what is refused by name."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from made_up import MadeUpModel

from octorec.catalog.catalog import Catalog
from octorec.catalog.codebook import Codebook
from octorec.engine.capping import capped, unit_vectors
from octorec.engine.caps import Caps, read_caps
from octorec.engine.engine import Engine, EngineConfig
from octorec.engine.request import Answer, Request
from octorec.errors import InputError

SIZES = (5, 4, 6)
COLORS = ("red", "blue", "green")


def a_catalog(seed: int, n: int = 60, vectors: bool = True, counts: bool = True) -> Catalog:
    generator = np.random.default_rng(seed)
    codes = np.stack([generator.integers(0, size, n) for size in SIZES], 1)
    columns = {
        "item_id": [f"i{item}" for item in range(n)],
        "codes": pa.array(codes.tolist(), pa.list_(pa.int32())),
        "sets": [[color for color in COLORS if generator.random() < 0.4] for _ in range(n)],
        "live": [bool(generator.random() < 0.9) for _ in range(n)],
    }
    if counts:
        columns["interactions"] = generator.integers(0, 50, n)
    centroids = tuple(generator.normal(size=(size, 8)).astype(np.float32) for size in SIZES)
    made = Catalog.of_items(pa.table(columns), SIZES)
    return replace(made, codebook=Codebook(centroids)) if vectors else made


def an_engine(catalog: Catalog, default: object = 128) -> Engine:
    config = {"batch_sizes": (1, 4), "beam_widths": (4, 16, 128), "default_beam_width": default}
    return Engine(MadeUpModel(SIZES), catalog, EngineConfig(max_context=4, **config))


def specified(catalog: Catalog, items: list[int], caps: Caps, k: int) -> list[int]:
    """Best first, an item is kept unless the kept ones with it would break a cap."""
    vectors = unit_vectors(catalog, np.arange(len(catalog))) if caps.max_cosine is not None else None
    kept: list[int] = []
    for item in items:
        if len(kept) < k and not broken(catalog, [*kept, item], caps, vectors):
            kept.append(item)
    return kept


def broken(catalog: Catalog, items: list[int], caps: Caps, vectors: np.ndarray | None) -> bool:
    counts = Counter(name for item in items for name in catalog.sets[item])
    if any(count > caps.sets.get(name, caps.sets.get("*", len(items))) for name, count in counts.items()):
        return True
    prefixes = [tuple(catalog.codes[item, : caps.distinct_codes]) for item in items]
    if caps.distinct_codes is not None and len(set(prefixes)) < len(items):
        return True
    if vectors is None or caps.max_cosine is None:
        return False
    others = [(a, b) for place, a in enumerate(items) for b in items[:place]]
    return any(float(vectors[a] @ vectors[b]) > caps.max_cosine + 1e-9 for a, b in others)


def random_caps(generator: np.random.Generator) -> dict[str, object]:
    names = [name for name in (*COLORS, "*") if generator.random() < 0.4]
    given: dict[str, object] = {"caps": {name: int(generator.integers(1, 5)) for name in names}}
    if generator.random() < 0.4:
        given["distinct_codes"] = int(generator.integers(1, 4))
    if generator.random() < 0.4:
        given["max_cosine"] = float(generator.uniform(0.2, 1))
    return given


@pytest.mark.parametrize("seed", range(3))
def test_lists_are_those_of_the_specification(seed: int) -> None:
    generator, catalog = np.random.default_rng(seed), a_catalog(seed)
    engine = an_engine(catalog)
    changed = 0
    for _ in range(12):
        given, k = random_caps(generator), int(generator.integers(1, 20))
        history = [] if generator.random() < 0.2 else ["i1", f"i{generator.integers(60)}"]
        asked = Request(history, k, exclude=["i7", "i8"], allow=["red", "blue"], **given)
        every = engine.recommend([replace(asked, k=128, caps=None, distinct_codes=None, max_cosine=None)])[0]
        answer, again = engine.recommend([asked])[0], engine.recommend([asked, asked])[1]
        caps = Caps(asked.caps or {}, asked.distinct_codes, asked.max_cosine)
        places = [catalog.index[item] for item in every.items]
        assert answer.items == [catalog.item_ids[one] for one in specified(catalog, places, caps, k)]
        assert answer == again
        assert answer.scores == sorted(answer.scores, reverse=True)
        assert not {"i7", "i8"} & {*answer.items}
        same = answer.items == every.items[:k]
        assert bool(answer.left_out) != same
        assert same or not answer.exact
        assert not {one.item for one in answer.left_out} & {*answer.items}
        kept = np.array([catalog.index[item] for item in answer.items], np.int64)
        assert capped(catalog, kept, caps, k).kept == [*range(len(kept))]
        changed += not same
    assert changed


@pytest.mark.slow
def test_many_items_are_compared_block_by_block() -> None:
    catalog = a_catalog(5, 700)
    items = np.random.default_rng(1).permutation(700)
    for caps in (Caps({"*": 90}, None, 0.995), Caps({}, None, 0.97), Caps({}, 3, 1.0)):
        kept = items[capped(catalog, items, caps, 300).kept].tolist()
        assert kept == specified(catalog, items.tolist(), caps, 300)


def test_without_caps_and_where_they_change_nothing_answers_are_as_they_were() -> None:
    engine = an_engine(a_catalog(0))
    plain = Request(["i1"], 10)
    before = engine.recommend([plain])[0]
    for idle in ({"caps": {}}, {"caps": {"*": 10}}, {"max_cosine": 1.0}, {"caps": {"red": 60}, "max_cosine": 1.0}):
        assert engine.recommend([replace(plain, **idle)])[0] == before
    assert before.exact
    assert before.left_out == []


def test_an_answer_says_what_was_left_out_and_why_it_is_short() -> None:
    engine = an_engine(a_catalog(0))
    answer: Answer = engine.recommend([Request(["i1"], 30, caps={"*": 1})])[0]
    assert not answer.complete
    assert not answer.exact
    assert len(answer.left_out) == 20
    assert answer.left_out[0].rule in {f"caps {color} = 1" for color in COLORS}
    assert answer.notes[0].startswith("caps left out ")
    assert answer.notes[1].startswith(f"found {len(answer.items)} of k = 30 items with a beam 128 wide; ")
    assert "wider" not in answer.notes[1], "the beam dropped nothing"
    narrow = engine.recommend([Request(["i1"], 4, 4, caps={"*": 1})])[0]
    assert narrow.notes[1].endswith("a wider beam may find more")


def test_auto_widens_for_a_list_that_caps_leave_short_and_not_for_one_that_they_changed() -> None:
    engine = an_engine(a_catalog(0), "auto")
    narrow = engine.recommend([Request(["i1"], 1)])[0]
    assert narrow.beam_width == 4
    wide = engine.recommend([Request(["i1"], 6, caps={"*": 2})])[0]
    fixed = engine.recommend([Request(["i1"], 6, 128, caps={"*": 2})])[0]
    assert wide.items == fixed.items


@pytest.mark.parametrize(
    ("given", "field", "says"),
    [
        ({"caps": {"red": 0}}, "caps.red", "from 1 to"),
        ({"caps": {"red": -1}}, "caps.red", "from 1 to"),
        ({"caps": {"red": True}}, "caps.red", "from 1 to"),
        ({"caps": 3}, "caps", "names of item sets"),
        ({"caps": "red=x"}, "caps.red", "from 1 to"),
        ({"caps": "red"}, "caps", "NAME=NUMBER"),
        ({"caps": ["red=1", "red=2"]}, "caps", "given twice"),
        ({"caps": {"pink": 1}}, "caps", "blue, green, red"),
        ({"distinct_codes": 0}, "distinct_codes", "from 1"),
        ({"distinct_codes": 4}, "distinct_codes", "from 1 to 3"),
        ({"max_cosine": 0}, "max_cosine", "above 0, at most 1"),
        ({"max_cosine": 1.1}, "max_cosine", "above 0, at most 1"),
        ({"max_cosine": float("nan")}, "max_cosine", "above 0, at most 1"),
    ],
)
def test_what_is_wrong_is_refused_by_name(given: dict[str, object], field: str, says: str) -> None:
    engine = an_engine(a_catalog(0))
    with pytest.raises(InputError) as refused:
        engine.recommend([Request(["i1"], **given)])
    assert refused.value.field == field
    assert says in refused.value.allowed


def test_a_catalog_without_vectors_or_sets_says_so() -> None:
    bare = a_catalog(0, vectors=False)
    with pytest.raises(InputError, match="no vectors"):
        an_engine(bare).recommend([Request(["i1"], max_cosine=0.9)])
    items = bare.items.set_column(3, "sets", pa.array([[]] * len(bare), pa.list_(pa.string())))
    with pytest.raises(InputError, match="no item of the catalog has sets"):
        an_engine(Catalog.of_items(items, SIZES)).recommend([Request(["i1"], caps={"*": 2})])


def test_caps_are_written_in_several_ways() -> None:
    for text in ('{"a=b": 3, "*": 2}', "a=b=3, *=2", ["a=b=3", "*=2"]):
        assert read_caps(text) == {"a=b": 3, "*": 2}
