"""Exclusions, seen items and sets, at random, against brute force: score every item, remove, take k."""

import numpy as np
import pytest
from made_up import MadeUpModel, random_catalog, seed_of

from octorec.catalog.catalog import Catalog
from octorec.engine.engine import Engine, EngineConfig
from octorec.engine.items import banned_nodes, item_filter, items_of
from octorec.engine.request import Request
from octorec.errors import InputError
from octorec.kernels import fused, reference

SIZES = (5, 4, 6)


def engine(
    catalog: Catalog, widths: tuple[int, ...] = (1, 4, 16, 128), ops: object = reference, **options: object
) -> Engine:
    config = {"batch_sizes": (1, 4), "beam_widths": widths, "default_beam_width": widths[-1], **options}
    return Engine(MadeUpModel(catalog.codebook_sizes), catalog, EngineConfig(max_context=4, **config), ops=ops)


def may_have(catalog: Catalog, request: Request, exclude_seen: bool) -> list[int]:
    """Item by item, by the words of the request."""
    gone = {*request.exclude, *(request.history if exclude_seen else ())}
    return [
        place
        for place, item in enumerate(catalog.item_ids)
        if catalog.live[place]
        and item not in gone
        and (not request.allow or set(request.allow) & set(catalog.sets[place]))
    ]


def best(model: MadeUpModel, catalog: Catalog, request: Request, exclude_seen: bool) -> list[str]:
    """Every item that the request may have by score, then place."""
    seed = seed_of(catalog, request.history[-1])

    def score(place: int) -> float:
        codes = catalog.codes[place].tolist()
        logits = [model.logits(seed, tuple(codes[:level]), level) for level in range(len(codes))]
        return float(sum(x[code] - np.log(np.exp(x).sum()) for x, code in zip(logits, codes, strict=True)))

    places = sorted(may_have(catalog, request, exclude_seen), key=lambda place: (-round(score(place), 4), place))
    return [catalog.item_ids[place] for place in places]


def random_request(generator: np.random.Generator, n: int, width: int) -> tuple[Request, bool]:
    """A request of any history, exclusions up to all items, and sets; whether it leaves out what was seen."""
    history, exclude = (
        [f"i{item}" for item in generator.integers(0, n, generator.integers(least, most))]
        for least, most in ((1, int(generator.choice([3, n]))), (0, int(generator.choice([1, n, 4 * n]))))
    )
    allow = [name for name in ("red", "blue") if generator.random() < 0.3]
    said = [None, True, False][generator.integers(3)]
    k = int(generator.integers(1, width + 1))
    return Request(history, k, width, exclude, allow, exclude_seen=said), bool(said)


@pytest.mark.parametrize("seed", range(6))
def test_a_wide_beam_is_brute_force(seed: int) -> None:
    generator = np.random.default_rng(seed)
    catalog = random_catalog(90, SIZES, seed, withdrawn=0.2)
    subject = engine(catalog)
    asked = [random_request(generator, 90, 128) for _ in range(12)]
    answers = subject.recommend([request for request, _ in asked])
    for (request, exclude_seen), answer in zip(asked, answers, strict=True):
        expected = best(subject.model, catalog, request, exclude_seen)
        assert answer.items == expected[: request.k]
        assert answer.complete == (len(expected) >= request.k)


@pytest.mark.parametrize("width", [1, 4, 16])
def test_k_is_complete_at_every_width_where_the_items_exist(width: int) -> None:
    generator = np.random.default_rng(width)
    catalog = random_catalog(90, SIZES, withdrawn=0.2)
    subject = engine(catalog)
    asked = [random_request(generator, 90, width) for _ in range(40)]
    answers = subject.recommend([request for request, _ in asked])
    for (request, exclude_seen), answer in zip(asked, answers, strict=True):
        may = {catalog.item_ids[place] for place in may_have(catalog, request, exclude_seen)}
        assert set(answer.items) <= may
        assert len(set(answer.items)) == len(answer.items) == min(request.k, len(may))
    assert answers == [subject.recommend([request])[0] for request, _ in asked]


@pytest.mark.parametrize("allow", [[], ["red"], ["red", "blue"]])
@pytest.mark.parametrize("seed", range(4))
def test_banned_nodes_empty_the_trie_of_what_is_excluded_and_of_nothing_else(seed: int, allow: list[str]) -> None:
    generator = np.random.default_rng(seed)
    catalog = random_catalog(120, SIZES, seed, withdrawn=0.2)
    excluded = generator.integers(0, 120, generator.integers(1, 300))
    chosen, without = (item_filter(catalog, items, allow) for items in (excluded, excluded[:0]))
    banned = banned_nodes(catalog, chosen)
    reached = np.array([0])
    for level, arrays in enumerate(catalog.trie.levels):
        assert (np.diff(banned[level]) > 0).all()
        children = [np.arange(arrays.child_start[node], arrays.child_start[node + 1]) for node in reached]
        reached = np.setdiff1d(np.concatenate(children), banned[level])
        if not len(reached):
            break
    every = np.arange(len(catalog.trie.leaf_items) - 1)
    may, before = items_of(catalog, reached, chosen)[0], items_of(catalog, reached, without)[0]
    assert set(may) == set(items_of(catalog, every, chosen)[0])
    assert set(catalog.item_leaf[may]) == set(catalog.item_leaf[before])  # no leaf that is reached was emptied


def test_a_history_of_3000_is_seen_as_a_whole() -> None:
    catalog = random_catalog(3050, (16, 16, 16), sets=())
    subject = engine(catalog, widths=(8,), exclude_seen=True)
    history = [f"i{n}" for n in range(3000)]
    answer = subject.recommend([Request(history, k=8)])[0]
    assert set(answer.items) <= {f"i{n}" for n in range(3000, 3050)}
    assert answer.complete
    assert answer.notes == ["history has 3000 items: the newest 4 are used, and all of them are excluded"]


@pytest.mark.slow
def test_the_kernels_leave_a_history_of_3000_out_as_the_reference_does() -> None:
    catalog = random_catalog(3050, (16, 16, 16), sets=("red",))
    seen = [f"i{n}" for n in range(3000)]
    asked = [
        Request(seen, k=8, exclude_seen=True),
        Request(["i1"], k=4),
        Request(seen[:900], k=8, allow=["red"], exclude=seen[800:1700]),
    ]
    options = {"widths": (8,), "batch_sizes": (3,)}
    answers = engine(catalog, ops=fused, **options).recommend(asked)
    for answer, expected in zip(answers, engine(catalog, **options).recommend(asked), strict=True):
        assert answer.items == expected.items
        np.testing.assert_allclose(answer.scores, expected.scores, rtol=1e-5)
        assert answer.complete


@pytest.mark.parametrize("width", [1, 4, 16])
def test_exclude_works_up_to_its_limit_and_one_more_is_refused(width: int) -> None:
    catalog = random_catalog(200, SIZES, sets=())
    subject = engine(catalog, max_exclude=199)
    for k in {1, width}:
        answer = subject.recommend([Request(["i0"], k, width, [f"i{n}" for n in range(199)])])[0]
        assert answer.items == ["i199"]
    with pytest.raises(InputError, match="exclude: got '200 ids'; at most max_exclude = 199"):
        subject.recommend([Request(["i0"], 1, width, [f"i{n}" for n in range(200)])])


def test_the_limit_of_exclude_by_default_is_the_one_of_a_server() -> None:
    catalog = random_catalog(12_000, (32, 32, 32), sets=())
    subject = engine(catalog, widths=(32,))
    gone = [f"i{n}" for n in range(10_000)]
    answer = subject.recommend([Request(gone, k=32, exclude=gone, exclude_seen=True)])[0]
    assert answer.complete
    assert not set(gone) & set(answer.items)
    with pytest.raises(InputError, match="exclude: got '10001 ids'; at most max_exclude = 10000"):
        subject.recommend([Request(["i1"], exclude=[*gone, "i1"])])


@pytest.mark.parametrize("value", ["yes", 1, 0, [], 0.0])
def test_exclude_seen_is_true_false_or_left_out(value: object) -> None:
    with pytest.raises(InputError, match=r"exclude_seen: got .*; must be true or false"):
        Request(["i1"], exclude_seen=value)  # type: ignore[arg-type]
    assert Request(["i1"], exclude_seen=np.bool_(True)).exclude_seen is True


def test_a_request_goes_before_the_engines_default() -> None:
    catalog = random_catalog(60, SIZES, sets=())
    history = catalog.item_ids[:30]
    for default in (False, True):
        subject = engine(catalog, exclude_seen=default)
        assert subject.exclude_seen is default
        by_default, never, always = (
            set(subject.recommend([Request(history, k=60, exclude_seen=said)])[0].items) for said in (None, False, True)
        )
        assert never == set(catalog.item_ids)
        assert always == set(catalog.item_ids[30:])
        assert by_default == (always if default else never)
