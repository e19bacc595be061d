"""The engine against brute force over a made-up model whose probabilities are known."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from made_up import MadeUpModel, random_catalog

from octorec.catalog.catalog import Catalog
from octorec.engine.batch import ParsedRequest
from octorec.engine.engine import Engine, EngineConfig
from octorec.engine.rank import Found, Ranked
from octorec.engine.request import Answer, Request
from octorec.errors import InputError
from octorec.models.user import UserField

SIZES = (6, 5, 7)


def engine(
    catalog: Catalog, widest: int = 300, ties: bool = False, fields: tuple[UserField, ...] = (), **config: object
) -> Engine:
    model = MadeUpModel(catalog.codebook_sizes, levels_of_score=2 if ties else None, user_fields=fields)
    options = {"max_context": 8, "batch_sizes": (4,), "beam_widths": (widest,), "default_beam_width": widest, **config}
    return Engine(model, catalog, EngineConfig(**options))


def log_probability(model: MadeUpModel, catalog: Catalog, history: Sequence[str], codes: np.ndarray) -> np.float32:
    seed = int(catalog.codes[catalog.index[history[-1]]].astype(int) @ np.array([1, 31, 977, 7919][: codes.shape[0]]))
    total = np.float32(0)
    for level, code in enumerate(codes):
        logits = model.logits(seed, tuple(codes[:level].tolist()), level)
        total += np.float32(logits[code] - np.log(np.exp(logits).sum()))
    return total


def brute_force(model: MadeUpModel, catalog: Catalog, request: Request) -> list[tuple[str, float]]:
    """Every item that may be returned, by score descending, then code tuple, then id in the catalog's order."""
    scored = []
    for place, item in enumerate(catalog.item_ids):
        wanted = not request.allow or set(request.allow) & set(catalog.sets[place])
        if catalog.live[place] and item not in request.exclude and wanted:
            scored.append((-log_probability(model, catalog, request.history, catalog.codes[place]), place, item))
    scored.sort(key=lambda entry: (round(float(entry[0]), 4), entry[1]))
    return [(item, -float(score)) for score, _, item in scored[: request.k]]


def assert_same(answer: Answer, expected: list[tuple[str, float]], k: int) -> None:
    assert answer.items == [item for item, _ in expected]
    np.testing.assert_allclose(answer.scores, [score for _, score in expected], rtol=1e-5)
    assert answer.complete == (len(expected) == k)


CASES = {
    "plain": {},
    "exclusions": {"exclude": tuple(f"i{n}" for n in range(0, 120, 2))},
    "allow-list": {"allow": ("red",)},
    "two allow-lists": {"allow": ("red", "blue")},
    "allow-list and exclusions": {"allow": ("blue",), "exclude": tuple(f"i{n}" for n in range(0, 120, 3))},
    "fewer than k": {"allow": ("blue",), "exclude": tuple(f"i{n}" for n in range(115))},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("n", [120, 500])
def test_a_beam_as_wide_as_the_catalog_is_brute_force(case: str, n: int) -> None:
    catalog = random_catalog(n, SIZES, withdrawn=0.2)
    assert catalog.n_sharing > 0
    subject = engine(catalog)
    for history in (["i3"], ["i5", "i9", "i60"]):
        request = Request(history, k=40, **CASES[case])
        assert_same(subject.recommend([request])[0], brute_force(subject.model, catalog, request), 40)


@pytest.mark.parametrize("sizes", [(9,), (4, 6), (3, 4, 3, 5)])
def test_any_number_of_levels(sizes: tuple[int, ...]) -> None:
    catalog = random_catalog(60, sizes, withdrawn=0.1)
    subject = engine(catalog)
    request = Request(["i1"], k=30)
    assert_same(subject.recommend([request])[0], brute_force(subject.model, catalog, request), 30)


def beam_search_by_hand(model: MadeUpModel, catalog: Catalog, request: Request, width: int) -> list[str]:
    """Textbook beam search over prefixes that lead to a live item; ties to the smaller prefix."""
    live = catalog.codes[catalog.live]
    seed = int(catalog.codes[catalog.index[request.history[-1]]].astype(int) @ np.array([1, 31, 977]))
    beams: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    for level in range(3):
        last = level == 2
        candidates = []
        for score, prefix in beams:
            logits = model.logits(seed, prefix, level)
            logp = logits - np.log(np.exp(logits).sum())
            for code in range(catalog.codebook_sizes[level]):
                path = (*prefix, code)
                below = live[(live[:, : level + 1] == path).all(1)]
                items = _items(catalog, path) if last else []
                if len(below) and (not last or any(item not in request.exclude for item in items)):
                    candidates.append((round(score + float(logp[code]), 5), path))
        candidates.sort(key=lambda c: (-c[0], c[1]))
        beams = candidates[:width]
    items = [item for _, path in beams for item in _items(catalog, path) if item not in request.exclude]
    return items[: request.k]


def _items(catalog: Catalog, path: tuple[int, ...]) -> list[str]:
    places = np.flatnonzero((catalog.codes == path).all(1) & catalog.live)
    return [catalog.item_ids[place] for place in places]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("width", [1, 3, 8])
def test_narrow_beams_are_textbook_beam_search(width: int, ties: bool) -> None:
    catalog = random_catalog(300, SIZES, withdrawn=0.3, seed=3)
    subject = engine(catalog, widest=16, ties=ties)
    for number in range(6):
        history = [f"i{number * 7}"]
        request = Request(history, k=width, beam_width=width, exclude=tuple(f"i{n}" for n in range(0, 300, 4)))
        expected = beam_search_by_hand(subject.model, catalog, request, width)
        assert subject.recommend([request])[0].items == expected


def test_mixed_widths_in_one_bucket_answer_as_alone() -> None:
    catalog = random_catalog(400, SIZES, withdrawn=0.1, seed=1)
    subject = engine(catalog, widest=64, batch_sizes=(8,))
    generator = np.random.default_rng(0)
    requests = []
    for number in range(21):
        width = int(generator.integers(1, 65))
        exclude = tuple(f"i{n}" for n in generator.integers(0, 400, number))
        requests.append(Request([f"i{number}"], k=min(5, width), beam_width=width, exclude=exclude))
    together = subject.recommend(requests)
    alone = [subject.recommend([request])[0] for request in requests]
    assert together == alone
    order = generator.permutation(21)
    assert subject.recommend([requests[i] for i in order]) == [alone[i] for i in order]


def test_answers_are_made_while_the_device_runs_the_next_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = engine(random_catalog(400, SIZES), widest=8, batch_sizes=(4,))
    launch, answer, events = subject.launch, Ranked.answer, []

    def logged_launch(parsed: Sequence[ParsedRequest]) -> Callable[[], Found]:
        events.append("launch")
        beams = launch(parsed)
        return lambda: (events.append("wait"), beams())[1]

    monkeypatch.setattr(subject, "launch", logged_launch)
    monkeypatch.setattr(Ranked, "answer", lambda self: (events.append("answer"), answer(self))[1])
    answers = subject.recommend([Request([f"i{number}"], k=3) for number in range(9)])
    assert len(answers) == 9
    assert "".join(event[0] for event in events) == "lw" + "laaaaw" + "laaaaw" + "a"


def test_dead_beams_are_never_returned() -> None:
    catalog = random_catalog(5, SIZES)
    subject = engine(catalog, widest=64)
    answer = subject.recommend([Request(["i1"], k=64)])[0]
    assert sorted(answer.items) == sorted(catalog.item_ids)
    assert not answer.complete
    assert np.isfinite(answer.scores).all()


def test_a_shared_tuple_dies_with_its_last_item() -> None:
    catalog = random_catalog(40, (2, 2, 2))
    subject = engine(catalog, widest=8)
    best = subject.recommend([Request(["i0"], k=1)])[0]
    tuple_items = [
        i for i, codes in zip(catalog.item_ids, catalog.codes.tolist(), strict=True) if tuple(codes) == best.codes[0]
    ]
    assert len(tuple_items) > 1
    rest = subject.recommend([Request(["i0"], k=8, exclude=tuple_items[:-1])])[0]
    assert rest.items[0] == tuple_items[-1]
    gone = subject.recommend([Request(["i0"], k=8, exclude=tuple_items)])[0]
    assert best.codes[0] not in gone.codes
    assert gone.complete


@pytest.mark.parametrize(
    ("targets", "found"),
    [
        (["0"], "'1 of 2 requests'"), (["0"] * 3, "'3 of 2 requests'"), ([], "'0 of 2 requests'"), ("01", "'01'"),
        (None, "None"), ({"0", "1"}, "{"), ([["0"], ["1"]], r"\['0'\]"), (["0", None], "None"),
        (["no"] * 2, "'no'; is no"),
    ],
)  # fmt: skip
def test_targets_that_are_not_an_item_a_request_are_refused(targets: Any, found: str) -> None:
    subject = engine(random_catalog(20, SIZES))
    with pytest.raises(InputError, match=f"^targets: got {found}"):
        subject.score([Request([subject.catalog.item_ids[0]])] * 2, targets)


def test_targets_may_have_the_forms_of_a_history() -> None:
    subject = engine(random_catalog(20, SIZES))
    ids = subject.catalog.item_ids[:3]
    asked = [Request(ids[:1])] * 3
    for form in (np.array(ids), pa.array(ids), (item for item in ids)):
        assert np.array_equal(subject.score(asked, form), subject.score(asked, ids))


def test_scores_are_the_teacher_forced_log_probabilities() -> None:
    catalog = random_catalog(100, SIZES)
    subject = engine(catalog, batch_sizes=(4,))
    requests = [Request([f"i{n}"], k=20) for n in range(6)]
    for request, answer in zip(requests, subject.recommend(requests), strict=True):
        forced = subject.score([request] * 20, answer.items)
        np.testing.assert_allclose(forced.sum(1), answer.scores, rtol=1e-5)
    assert subject.score([], []).shape == (0, 3)


def test_a_long_history_keeps_the_newest_and_says_so() -> None:
    subject = engine(random_catalog(100, SIZES))
    history = [f"i{n}" for n in range(20)]
    long, short = subject.recommend([Request(history, k=5), Request(history[-8:], k=5)])
    assert long.items == short.items
    assert long.notes == ["history has 20 items: the newest 8 are used"]
    assert short.notes == []


def test_titles_and_codes_are_the_items_own() -> None:
    catalog = random_catalog(100, SIZES)
    answer = engine(catalog).recommend([Request(["i0"], k=20)])[0]
    for item, title, codes in zip(answer.items, answer.titles, answer.codes, strict=True):
        assert title == f"Item {item[1:]}"
        assert codes == tuple(catalog.codes[catalog.index[item]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"history": ["i0", "x"]}, r"history: got 'x'; is no item of the catalog"),
        ({"history": []}, r"history: got \[\]; give at least one item"),
        ({"history": "i0"}, r"history: got 'i0'; must be a list of ids"),
        ({"history": [1.5]}, r"history: got 1.5; ids are text"),
        ({"history": ["i0"], "k": 0}, r"k: got 0; must be an integer above 0"),
        ({"history": ["i0"], "k": -1}, r"k: got -1"),
        ({"history": ["i0"], "k": True}, r"k: got True"),
        ({"history": ["i0"], "k": 301}, r"k: got 301; at most beam_width = 300"),
        ({"history": ["i0"], "k": 5, "beam_width": 4}, r"k: got 5; at most beam_width = 4"),
        (
            {"history": ["i0"], "beam_width": 0},
            r"beam_width: got 0; must be an integer from 1 to 65536, or one .* or auto",
        ),
        ({"history": ["i0"], "beam_width": -3}, r"beam_width: got -3"),
        ({"history": ["i0"], "beam_width": 301}, r"beam_width: got 301; at most 300 in this engine"),
        ({"history": ["i0"], "exclude": ["nothing"]}, r"exclude: got 'nothing'; is no item of the catalog"),
        ({"history": ["i0"], "allow": ["green"]}, r"allow: got 'green'; allowed: blue, red"),
        ({"history": ["i0"], "user": {"age": 3}}, r"user: got 'age'; allowed: no field"),
        ({"history": ["i0"], "user": None}, r"user: got None; must be an object"),
        ({"history": ["i0"], "user": [("age", 3)]}, r"user: got \[\('age', 3\)\]; must be an object"),
        ({"history": b"i0"}, r"history: got b'i0'; must be a list of ids"),
        ({"history": memoryview(b"i0")}, r"history: got .*; must be a list of ids"),
        ({"history": None}, r"history: got None; must be a list of ids"),
        ({"history": {"i0"}}, r"history: got {'i0'}; must be a list of ids"),
        ({"history": ["i0"], "exclude": None}, r"exclude: got None; must be a list of ids"),
        ({"history": ["i0"], "allow": "red"}, r"allow: got 'red'; must be a list of names"),
        ({"history": [True]}, r"history: got True; ids are text"),
        ({"history": [None]}, r"history: got None; ids are text"),
        ({"history": np.array([1.0])}, r"history: got 1.0; ids are text"),
        ({"history": np.array([True])}, r"history: got True; ids are text"),
        ({"history": np.array([["i0"]])}, r"history: got ndarray of shape \(1, 1\); must be a list of ids"),
        ({"history": np.array("i0")}, r"history: got array\('i0'.*must be a list of ids"),
        ({"history": ["i0"], "k": 5.0}, r"k: got 5.0; must be an integer above 0"),
        ({"history": ["i0"], "k": "5"}, r"k: got '5'; must be an integer above 0"),
        ({"history": ["i0"], "k": float("nan")}, r"k: got nan; must be an integer above 0"),
        ({"history": ["i0"], "k": np.True_}, r"k: got .*True.*; must be an integer above 0"),
        ({"history": ["i0"], "k": 10**30}, r"k: got 1000.*; at most beam_width = 300"),
    ],
)
def test_bad_requests(arguments: dict, message: str) -> None:
    subject = engine(random_catalog(50, SIZES))
    with pytest.raises(InputError, match=message):
        subject.recommend([Request(**arguments)])


def test_an_engine_refuses_what_is_no_list_of_requests_with_what_to_write() -> None:
    subject, request = engine(random_catalog(50, SIZES)), Request(["i0"], k=3)
    asked: list[Any] = [request, {"history": ["i0"]}, [{"history": ["i0"]}], ["i0"], None]
    for requests in asked:
        for call in (subject.recommend, partial(subject.score, targets=["i1"])):
            with pytest.raises(InputError, match="write "):
                call(requests)
    assert subject.recommend(iter([request])) == subject.recommend([request])


def test_integer_ids_are_read_as_text() -> None:
    assert Request([3, "4"], exclude=[5]) == Request(("3", "4"), exclude=("5",))


def test_numpys_numbers_and_arrays_are_taken_like_pythons() -> None:
    plain = Request(["3", "4"], k=5, beam_width=8, exclude=["5"], user={"age": 30.5, "plan": "paid"})
    request = Request(
        np.array([3, 4]),
        k=np.int64(5),
        beam_width=np.int32(8),
        exclude=[np.uint8(5)],
        user={"age": np.float32(30.5), "plan": np.str_("paid")},
    )
    assert request == plain
    assert request == Request(np.array(["3", "4"]), 5, 8, np.array(["5"], dtype=object), user=plain.user)
    assert [type(value) for value in (request.k, request.beam_width, request.history[0])] == [int, int, str]
    subject = engine(random_catalog(50, SIZES), fields=(UserField("age", "number"),))
    same = [subject.parse(Request(["i1"], user={"age": kind(31)})).user for kind in (int, np.int64, np.float64)]
    assert same[0] == same[1] == same[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_sizes": ()}, r"batch_sizes: got \(\); must be ascending integers above 0"),
        (
            {"beam_widths": (8, 2**31), "default_beam_width": 8},
            r"beam_widths: got .*; must be an integer from 1 to 65536",
        ),
        ({"beam_widths": (8, 4)}, r"beam_widths: got \(8, 4\)"),
        ({"default_beam_width": 301}, r"default_beam_width: got 301; 1 to 300"),
    ],
)
def test_bad_engine_configurations(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        engine(random_catalog(10, SIZES), **change)


def test_unknown_ids_are_dropped_and_reported_when_asked() -> None:
    catalog = random_catalog(100, SIZES)
    subject = engine(catalog)
    known = subject.parse(Request(["i1", "i2"], k=5, exclude=["i7"]))
    some = subject.parse(Request(["x", "i1", "y", "i2"], k=5, exclude=["z", "i7"]), drop_unknown=True)
    assert (some.codes == known.codes).all()
    assert [nodes.tolist() for nodes in some.banned] == [nodes.tolist() for nodes in known.banned]
    assert some.notes == ["history: 2 unknown dropped, such as 'x'", "exclude: 1 unknown dropped, such as 'z'"]
    with pytest.raises(InputError, match=r"history: got \[\]; give at least one item; history: 1 unknown dropped"):
        subject.parse(Request(["x"]), drop_unknown=True)


@pytest.mark.parametrize("value", [float("inf"), 1e39, 10**400, float("nan"), np.float64("nan"), True, "31", [31]])
def test_user_numbers_must_fit_the_model(value: float) -> None:
    subject = engine(random_catalog(50, SIZES), fields=(UserField("age", "number"),))
    with pytest.raises(InputError, match=r"user"):
        subject.parse(Request(["i1"], user={"age": value}))


def test_one_exclusion_more_than_the_limit_is_refused_by_name() -> None:
    subject = engine(random_catalog(300, (6, 5, 7), sets=()), max_exclude=10)
    assert subject.recommend([Request(["i1"], exclude=[f"i{n}" for n in range(10)])])[0].complete
    with pytest.raises(InputError, match=r"exclude: got '11 ids'; at most max_exclude = 10"):
        subject.parse(Request(["i1"], exclude=[f"i{n}" for n in range(11)]))
