"""An answer that is called exact equals the enumeration of the catalog, and one where nothing was dropped is exact."""

import math
from dataclasses import replace

import numpy as np
import pytest
from made_up import MadeUpModel, State, random_catalog
from test_steps import Tokens
from torch import Tensor

from octorec.catalog.catalog import Catalog
from octorec.engine.engine import Engine, EngineConfig
from octorec.engine.items import returnable
from octorec.engine.policy import BeamStarts
from octorec.engine.request import Answer, Request
from octorec.errors import InputError
from octorec.models.model import Logits

SIZES = (6, 5, 4)
WIDTHS = (1, 2, 4, 8, 16, 128)


def engine(
    model: MadeUpModel, catalog: Catalog, widths: tuple = WIDTHS, starts: dict[int, int] | None = None
) -> Engine:
    config = EngineConfig(8, batch_sizes=(1, 4), beam_widths=widths, default_beam_width=widths[0])
    return Engine(model, catalog, config, starts=None if starts is None else BeamStarts(starts))


def enumerated(subject: Engine, request: Request) -> tuple[list[str], list[float]]:
    """The k best of all items that the request may have, by the widest beam's scores; of equal tuples the first."""
    parsed = subject.parse(replace(request, beam_width=None, k=1))
    catalog = subject.catalog
    may = np.flatnonzero(returnable(catalog, np.arange(len(catalog)), parsed.filter))
    ids = [catalog.item_ids[item] for item in may.tolist()]
    scores = subject.score([request] * len(ids), ids).astype(np.float64)
    total = np.float32(0)
    for level in range(scores.shape[1]):
        total = (scores[:, level].astype(np.float32) + total).astype(np.float32)  # in the order of the search
    order = sorted(range(len(ids)), key=lambda at: (-total[at], may[at]))[: request.k]
    return [ids[at] for at in order], [float(total[at]) for at in order]


def requests_of(catalog: Catalog, number: int, seed: int) -> list[Request]:
    generator = np.random.default_rng(seed)
    made = []
    for _ in range(number):
        width = int(generator.choice(WIDTHS))
        made.append(
            Request(
                [str(generator.choice(catalog.item_ids))],
                k=int(generator.integers(1, min(width, 12) + 1)),
                beam_width=width,
                exclude=generator.choice(catalog.item_ids, int(generator.integers(0, 15))).tolist(),
                allow=[["red"], ["red", "blue"], [], []][int(generator.integers(4))],
            )
        )
    return made


def assert_enumerated(answer: Answer, subject: Engine, request: Request) -> None:
    items, scores = enumerated(subject, request)
    assert answer.scores == pytest.approx(scores, abs=1e-5)
    if len(set(np.round(scores, 4))) == len(
        scores
    ):  # rounding may swap what is nearly equal in the two ways of summing
        assert answer.items == items


MODELS = {
    "plain": lambda: MadeUpModel(SIZES),
    "ties": lambda: MadeUpModel(SIZES, levels_of_score=2),
    "sharp": lambda: Sharp(SIZES),
    "scores over a larger vocabulary": lambda: Tokens(scored=False),
    "a scored end": lambda: Tokens(),
}
KINDS = ["plain", *(pytest.param(kind, marks=pytest.mark.slow) for kind in MODELS if kind != "plain")]


class Sharp(MadeUpModel):
    """A model that is surer of its codes, so that narrow beams are certified too."""

    def logits(self, seed: int, path: tuple[int, ...], level: int) -> np.ndarray:
        return super().logits(seed, path, level) * 4


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_called_exact_is_what_the_whole_catalog_gives(kind: str) -> None:
    found = {"exact": 0, "not": 0, "narrow and exact": 0}
    for seed in range(3):
        catalog = random_catalog(90, SIZES, seed, withdrawn=0.2)
        subject = engine(MODELS[kind](), catalog)
        requests = requests_of(catalog, 24, seed)
        for request, answer in zip(requests, subject.recommend(requests), strict=True):
            assert answer.beam_width == request.beam_width
            found["exact" if answer.exact else "not"] += 1
            found["narrow and exact"] += answer.exact and answer.bound is not None
            if answer.exact:
                assert_enumerated(answer, subject, request)
            if answer.bound is None or (answer.complete and answer.scores[-1] > answer.bound):  # nothing was dropped
                assert answer.exact
            else:
                assert not answer.exact or answer.scores[-1] == answer.bound
    assert all(count > 5 for count in found.values()), found


@pytest.mark.parametrize("kind", KINDS)
def test_no_item_that_was_left_out_scores_above_the_bound(kind: str) -> None:
    catalog = random_catalog(90, SIZES, seed=5)
    subject = engine(MODELS[kind](), catalog)
    for item in catalog.item_ids[:20]:
        request = Request([item], k=4, beam_width=4)
        parsed = subject.parse(request)
        kept = set(subject.search([parsed]).leaves[0].tolist())
        bound = subject.recommend([request])[0].bound
        items, scores = enumerated(subject, replace(request, k=90, beam_width=128))
        leaves = [catalog.item_leaf[catalog.index[one]] for one in items]
        left = [score for leaf, score in zip(leaves, scores, strict=True) if leaf not in kept]
        assert bound is not None
        assert max(left) <= bound + 1e-5


def test_a_short_list_is_exact_only_where_nothing_was_dropped() -> None:
    catalog = random_catalog(90, SIZES)
    subject = engine(MadeUpModel(SIZES), catalog)
    few = Request(["i1"], k=16, beam_width=16, exclude=[f"i{number}" for number in range(80)])
    answer = subject.recommend([few])[0]
    assert (answer.complete, answer.exact, answer.bound) == (False, True, None)


def test_an_answer_by_popularity_is_exact() -> None:
    catalog = random_catalog(90, SIZES, counted=True)
    answer = engine(MadeUpModel(SIZES), catalog).recommend([Request([], k=3, beam_width=4)])[0]
    assert (answer.source, answer.exact, answer.bound, answer.beam_width) == ("popularity", True, None, None)


def test_ties_with_what_an_earlier_level_dropped_are_not_certified() -> None:
    """All codes score alike: whatever was dropped may score as much as what was kept."""
    catalog = random_catalog(90, SIZES)
    subject = engine(MadeUpModel(SIZES, levels_of_score=1), catalog)
    narrow, wide = subject.recommend([Request(["i1"], k=2, beam_width=2), Request(["i1"], k=2, beam_width=128)])
    assert not narrow.exact
    assert wide.exact


def test_a_schedule_has_a_width_a_level() -> None:
    catalog = random_catalog(90, SIZES)
    subject = engine(MadeUpModel(SIZES), catalog, (8, (2, 4, 16), 128))
    fixed, schedule = subject.recommend(
        [Request(["i1"], k=2, beam_width=8), Request(["i1"], k=12, beam_width=(2, 4, 16))]
    )
    assert (fixed.beam_width, schedule.beam_width) == (8, (2, 4, 16))
    assert len({codes[0] for codes in schedule.codes}) <= 2
    assert len({codes[:2] for codes in schedule.codes}) <= 4
    assert schedule.items == subject.recommend([Request(["i1"], k=12, beam_width="2-4-16")])[0].items
    narrower = subject.recommend([Request(["i1"], k=8, beam_width=[1, 4, 8])])[0]  # in the bucket of the schedule
    assert len({codes[0] for codes in narrower.codes}) == 1


def test_a_request_gets_the_same_in_every_bucket_that_holds_it() -> None:
    catalog = random_catalog(90, SIZES)
    asked = Request(["i3"], k=3, beam_width=(2, 3, 4))
    alone = engine(MadeUpModel(SIZES), catalog, ((2, 3, 4),)).recommend([asked])[0]
    for widths in ((4,), ((2, 8, 4),), (128,)):
        others = [Request([item], k=1, beam_width=widths[0]) for item in catalog.item_ids[:3]]
        assert engine(MadeUpModel(SIZES), catalog, widths).recommend([*others, asked])[-1] == alone


@pytest.mark.parametrize("starts", [None, {2: 2, 12: 4}])
def test_auto_is_exact_wherever_the_widest_beam_is(starts: dict[int, int] | None) -> None:
    catalog = random_catalog(90, SIZES, withdrawn=0.2)
    subject = engine(Sharp(SIZES), catalog, starts=starts)
    requests = [replace(request, beam_width="auto") for request in requests_of(catalog, 40, seed=3)]
    answers = subject.recommend(requests)
    widest = subject.recommend([replace(request, beam_width=128) for request in requests])
    assert [answer.items for answer in answers] == [answer.items for answer in widest]
    assert all(answer.exact for answer in answers)
    widths = {answer.beam_width for answer in answers}
    assert len(widths) > 2
    assert min(width for width in widths if isinstance(width, int)) < 16


def test_a_repeat_takes_its_width_from_the_narrow_answer() -> None:
    policy = engine(MadeUpModel(SIZES), random_catalog(90, SIZES)).policy
    tenth = math.log(1 / 6)  # at most six prefixes of a level are as probable
    assert policy.wider((2, 2, 2), [tenth], 1) == (8, 8, 8)
    assert policy.wider((2, 2, 2), [math.log(1 / 1.5)], 1) == (4, 4, 4), "wider than before in any case"
    assert policy.wider((2, 2, 2), [-800.0], 1) == (128, 128, 128)
    assert policy.wider((2, 2, 2), [tenth], 2) == (128, 128, 128), "fewer than k: the widest"
    assert policy.wider((128, 128, 128), [tenth], 2) is None


@pytest.mark.parametrize(
    ("width", "allowed"),
    [
        ((2, 4), "a width for each of the model's 3 levels"),
        ((2, 4, 256), "this engine has the beam widths 2-4-8, 16"),
        ("2--4", "128-256-512"),
        ("narrow", "auto"),
        (0, "from 1 to"),
        ([], "from 1 to"),
        (True, "from 1 to"),
    ],
)
def test_a_beam_width_that_there_is_not_is_refused(width: object, allowed: str) -> None:
    subject = engine(MadeUpModel(SIZES), random_catalog(90, SIZES), ((2, 4, 8), 16))
    with pytest.raises(InputError, match=allowed) as caught:
        subject.recommend([Request(["i1"], k=1, beam_width=width)])  # type: ignore[arg-type]
    assert caught.value.field == "beam_width"


def test_auto_needs_a_width_that_is_no_schedule() -> None:
    subject = engine(MadeUpModel(SIZES), random_catalog(90, SIZES), ((2, 4, 8),))
    with pytest.raises(InputError, match="schedules alone"):
        subject.recommend([Request(["i1"], k=1, beam_width="auto")])


def test_large_batches_are_made_of_narrow_beams_alone() -> None:
    catalog = random_catalog(90, SIZES)
    config = EngineConfig(8, batch_sizes=(1, 2, 16), beam_widths=(4, 32), default_beam_width=4, max_rows=64)
    subject = Engine(MadeUpModel(SIZES), catalog, config)
    made = [(bucket.size, bucket.widths[0]) for bucket in subject.buckets()]
    assert made == [(16, 4), (2, 32), (1, 32), (2, 4), (1, 4)]
    wide = [Request([item], k=1, beam_width=32) for item in catalog.item_ids[:5]]
    narrow = [Request([item], k=1, beam_width=4) for item in catalog.item_ids[:20]]
    together = subject.recommend([*wide, *narrow])
    assert together == [subject.recommend([request])[0] for request in [*wide, *narrow]]


class Uneven(MadeUpModel):
    """A model whose scores differ a little with the number of beams beside a beam, as some products' do on a GPU."""

    def decode(self, step: int, codes: Tensor | None, parents: Tensor | None, state: State) -> Logits:
        values = super().decode(step, codes, parents, state).values
        values[..., 0] += 5e-3 * values.shape[1]
        return Logits(values)


def test_where_scores_differ_between_widths_a_near_tie_is_not_called_exact() -> None:
    catalog = random_catalog(90, SIZES)
    even, uneven = engine(MadeUpModel(SIZES), catalog, (2, 8, 64)), engine(Uneven(SIZES), catalog, (2, 8, 64))
    for subject in (even, uneven):
        subject.measure_margin()
    assert even.margin == 0
    assert 0.1 < uneven.margin < 1
    requests = [Request([item], k=1, beam_width=8) for item in catalog.item_ids]
    answers = uneven.recommend(requests)
    assert {(True, False), (False, True)} <= {(answer.exact, answer.near_tie) for answer in answers}
    for answer in answers:
        assert answer.bound is not None
        beyond = answer.scores[-1] - answer.bound
        assert answer.exact == (beyond > uneven.margin)
        assert answer.near_tie == (0 < beyond <= uneven.margin)
    assert not any(answer.near_tie for answer in even.recommend(requests))


def test_a_schedule_that_the_catalog_does_not_fan_out_for_is_said() -> None:
    config = EngineConfig(8, beam_widths=((2, 4, 16), (2, 2, 2), 128), default_beam_width=4)
    thin = random_catalog(20, (16, 16, 16))  # nearly each prefix of two codes leads to one tuple
    assert config.thin(thin) == [
        "beam_widths 2-4-16: finds about 4 of 16 tuples, as prefixes of 2 codes lead to 1.05 tuples each"
    ]
    assert config.thin(random_catalog(2000, SIZES)) == []


def test_a_batch_on_the_device_is_waited_for_where_the_next_request_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = engine(MadeUpModel(SIZES), random_catalog(90, SIZES), (8,))
    monkeypatch.setattr(Engine, "rows_are_fixed", True)
    launch, waited = subject.launch, []
    monkeypatch.setattr(subject, "launch", lambda parsed: lambda: waited.append(len(parsed)) or launch(parsed)())
    good = [Request([f"i{number}"], k=2, beam_width=8) for number in range(4)]
    with pytest.raises(InputError, match="nothing"):
        subject.recommend([*good, Request(["nothing"], k=2, beam_width=8)])
    assert waited == [4]
