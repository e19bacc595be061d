"""Lists of beams are the same but for near ties, or they are not and it is said in what."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octorec.parity.beams import Beam
from octorec.parity.compare import ComparedScores, Parity, RequestBeams, compare_beams, compare_scores, summed
from octorec.report.transformers_parity import render_comparison
from octorec.terminal import PlainConsole

TOLERANCE = 0.01


def beams(*scores: float, first: int = 0) -> list[Beam]:
    return [Beam((first + place,), score) for place, score in enumerate(scores)]


def test_a_list_agrees_with_itself() -> None:
    found = compare_beams(beams(-1, -2, -3), beams(-1, -2, -3), TOLERANCE)
    assert found == RequestBeams(ours=3, theirs=3, shared=3, missing=0, difference=0.0, out_of_order=0)
    assert found.overlap == 1


def test_near_ties_may_come_in_any_order() -> None:
    ours, theirs = beams(-1, -2, -2.001), beams(-1, -2, -2.001)
    assert compare_beams([ours[0], ours[2], ours[1]], theirs, TOLERANCE).out_of_order == 0


def test_others_may_not() -> None:
    ours = beams(-1, -2, -3)
    found = compare_beams(ours[::-1], beams(-1, -2, -3), TOLERANCE)
    assert found.out_of_order == 3
    assert found.difference == 0


def test_a_near_tie_at_the_end_of_a_list_may_be_missing() -> None:
    ours, theirs = beams(-1, -2), [Beam((0,), -1), Beam((9,), -2.005)]
    found = compare_beams(ours, theirs, TOLERANCE)
    assert (found.missing, found.shared, found.overlap) == (0, 1, 0.5)


def test_no_other_beam_may_be_missing() -> None:
    assert compare_beams(beams(-1, -2), [Beam((9,), -1.5), Beam((1,), -2)], TOLERANCE).missing == 2
    assert compare_beams(beams(-1, -2), beams(-1), TOLERANCE).missing == 1
    assert compare_beams(beams(-1, -2), [], TOLERANCE).missing == 2
    shorter = compare_beams(beams(-1, -2, -2), beams(-1, -2), TOLERANCE)  # a tie, but there is room for it
    assert shorter.missing == 1


def test_a_difference_is_the_largest_of_a_shared_beam() -> None:
    found = compare_beams(beams(-1, -2), beams(-1, -2.5), TOLERANCE)
    assert found.difference == 0.5


def test_lists_without_a_beam_agree() -> None:
    assert compare_beams([], [], TOLERANCE) == RequestBeams(0, 0, 0, 0, 0.0, 0)
    assert compare_beams([], [], TOLERANCE).overlap == 1


@given(st.lists(st.floats(-20, 0), min_size=1, max_size=12))
def test_noise_below_half_the_tolerance_is_no_difference(scores: list[float]) -> None:
    noise = np.random.default_rng(len(scores)).uniform(-TOLERANCE / 2.1, TOLERANCE / 2.1, len(scores))
    theirs = sorted(beams(*scores), key=lambda beam: -beam.score)
    ours = sorted((Beam(b.tokens, b.score + n) for b, n in zip(theirs, noise, strict=True)), key=lambda b: -b.score)
    found = compare_beams(ours, theirs, TOLERANCE)
    assert (found.missing, found.out_of_order) == (0, 0)
    assert found.difference <= TOLERANCE


def parity(difference: float, *each: RequestBeams) -> Parity:
    scores = ComparedScores(2, 3, difference)
    return Parity(2, 4, TOLERANCE, scores, (summed("constrained", 1.0, each),), (2,))


def test_scores_that_are_not_finite_are_no_parity() -> None:
    same = compare_beams(beams(-1), beams(-1), TOLERANCE)
    assert parity(0.0, same, same).outcome == "parity"
    assert parity(math.nan, same).outcome == "no_parity"
    assert parity(0.0, same, compare_beams(beams(math.nan), beams(-1), TOLERANCE)).outcome == "no_parity"
    assert math.isnan(compare_scores(np.array([[math.nan]]), np.array([[-1.0]])).difference)


@pytest.mark.parametrize(
    ("ours", "exit_code", "said"),
    [
        (beams(-1, -2), 0, "parity: no score differs by more than 0.01 nats"),
        (beams(-1, -2.5), 3, "no parity within 0.01 nats; beams differ in request 2"),
        (beams(-2, -1), 3, "no parity within 0.01 nats"),
    ],
)
def test_the_table_ends_with_the_outcome_in_words(ours: list[Beam], exit_code: int, said: str, capsys) -> None:
    found = parity(0.0, compare_beams(ours, beams(-1, -2), TOLERANCE))
    assert found.exit_code == exit_code
    PlainConsole(width=120).print(render_comparison(found))
    text = capsys.readouterr().out
    assert said in text
    assert "constrained beams, length penalty 1" in text
