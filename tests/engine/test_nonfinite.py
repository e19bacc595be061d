"""Scores of NaN or infinity: an error of that request that names the checkpoint, and right answers for the others."""

import numpy as np
import pytest
from made_up import BrokenModel, MadeUpModel, random_catalog, seed_of

from octorec.catalog.catalog import Catalog
from octorec.engine.engine import Engine, EngineConfig
from octorec.engine.request import Request
from octorec.errors import InputError, NonFiniteError

SIZES = (6, 5, 7)
NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return random_catalog(200, SIZES, withdrawn=0.1)


def engine(model: MadeUpModel, catalog: Catalog, batch: int = 4) -> Engine:
    config = EngineConfig(8, batch_sizes=(batch,), beam_widths=(16,), default_beam_width=16)
    return Engine(model, catalog, config, checkpoint="runs/broken")


def requests(count: int = 7) -> list[Request]:
    return [Request([f"i{number}"], k=5) for number in range(count)]


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_one_requests_bad_scores_are_its_error_and_the_others_have_their_answers(
    catalog: Catalog, level: int, value: float
) -> None:
    expected = engine(MadeUpModel(SIZES), catalog).recommend(requests())
    broken = engine(BrokenModel(SIZES, seed_of(catalog, "i5"), level, value), catalog)
    with pytest.raises(NonFiniteError) as caught:
        broken.recommend(requests())
    error = caught.value
    assert isinstance(error, InputError)
    assert error.places == (5,)
    assert error.answers == [None if place == 5 else answer for place, answer in enumerate(expected)]
    for word in ("runs/broken", "NaN or infinity", "request 6 of 7", "'i5'"):
        assert word in str(error)


def test_every_such_request_is_counted(catalog: Catalog) -> None:
    asked = [Request(["i5"], k=3), Request(["i1"], k=3), Request(["i5"], k=2), Request(["i5"], exclude=["i9"], k=2)]
    with pytest.raises(NonFiniteError, match=r"request 1 of 4.* and 2 more") as caught:
        engine(BrokenModel(SIZES, seed_of(catalog, "i5"), 1, NAN), catalog, batch=2).recommend(asked)
    assert caught.value.places == (0, 2, 3)
    assert caught.value.answers[1] is not None


def test_one_bad_beam_of_many_is_enough(catalog: Catalog) -> None:
    seed = seed_of(catalog, "i5")
    answer = engine(MadeUpModel(SIZES), catalog).recommend([Request(["i5"], k=5)])[0]
    worst = min(zip(answer.scores, answer.codes, strict=True))[1]
    broken = engine(BrokenModel(SIZES, seed, 2, NAN, path=worst[:2]), catalog)
    with pytest.raises(NonFiniteError):
        broken.recommend([Request(["i5"], k=1)])


def test_a_restricted_request_with_bad_scores_is_an_error_too(catalog: Catalog) -> None:
    broken = engine(BrokenModel(SIZES, seed_of(catalog, "i5"), 2, NAN), catalog)
    with pytest.raises(NonFiniteError):
        broken.recommend([Request(["i5"], k=3, allow=["red"], exclude=["i1", "i2"])])


def test_beams_of_bad_scores_make_no_list(catalog: Catalog) -> None:
    broken = engine(BrokenModel(SIZES, seed_of(catalog, "i5"), 0, NAN), catalog)
    parsed = [broken.parse(request) for request in [*requests(2), Request(["i5"])]]
    found = broken.search(parsed)
    assert [found.finite(row) for row in range(3)] == [True, True, False]
    assert found.ranked(0, parsed[0]).complete
    with pytest.raises(NonFiniteError, match="runs/broken"):
        found.ranked(2, parsed[2])


def test_the_rows_that_fill_a_batch_up_do_not_matter() -> None:
    catalog = random_catalog(200, SIZES)
    filling = engine(BrokenModel(SIZES, 0, 0, NAN), catalog)  # rows left over hold an item of code 0
    asked = [Request(["i5"], k=3)]
    assert filling.recommend(asked) == engine(MadeUpModel(SIZES), catalog).recommend(asked)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_teacher_forced_scores_are_refused_alike(catalog: Catalog, value: float) -> None:
    asked, targets = requests(6), ["i1"] * 6
    expected = engine(MadeUpModel(SIZES), catalog).score(asked, targets)
    assert np.isfinite(expected).all()
    broken = engine(BrokenModel(SIZES, seed_of(catalog, "i4"), 1, value), catalog)
    with pytest.raises(NonFiniteError, match=r"runs/broken.*request 5 of 6") as caught:
        broken.score(asked, targets)
    assert caught.value.places == (4,)
