import dataclasses
import math

import pytest

from octorec.errors import InputError
from octorec.evaluate.paired import Estimate
from octorec.evaluate.verdict import EXIT_CODES, decide, users_needed


def about(value, low, high, users=100):
    return Estimate(value, low, high, high, users, 50)


SAFE = about(0.0, -0.01, 0.01)
WORSE = about(-0.2, -0.25, -0.15)
OPEN = about(-0.02, -0.06, 0.02)


@pytest.mark.parametrize(
    ("recall", "ndcg", "outcome", "code"),
    [
        (SAFE, SAFE, "not_inferior", 0),
        (WORSE, SAFE, "inferior", 3),
        (SAFE, WORSE, "inferior", 3),
        (WORSE, OPEN, "inferior", 3),
        (SAFE, OPEN, "inconclusive", 4),
        (OPEN, OPEN, "inconclusive", 4),
        (about(0, -0.05, 0), SAFE, "inconclusive", 4),  # above the margin, not on it
        (about(-0.1, -0.15, -0.05), SAFE, "inconclusive", 4),
    ],
)
def test_outcomes(recall, ndcg, outcome, code):
    verdict = decide({"recall@10": recall, "ndcg@10": ndcg}, 0.05)
    assert (verdict.outcome, verdict.exit_code) == (outcome, code)
    assert (verdict.users_needed is not None) == (outcome == "inconclusive")
    assert verdict.to_dict()["metrics"] == ["recall@10", "ndcg@10"]


def test_exit_codes_are_a_table():
    assert EXIT_CODES == {"not_inferior": 0, "inferior": 3, "inconclusive": 4}


def joined_by_users_without_a_difference(estimate, users):
    """What `users` users in all would give if the new ones showed no difference."""
    share = estimate.users / users
    value, reach = estimate.value * share, (estimate.value - estimate.low) * math.sqrt(share)
    return dataclasses.replace(estimate, value=value, low=value - reach, high=value + reach, users=users)


@pytest.mark.parametrize(
    ("value", "low"), [(-0.02, -0.06), (0.01, -0.2), (-0.08, -0.2), (-0.0499, -0.3), (0.3, -0.06), (-0.2, -0.21)]
)
def test_users_needed_decide_and_fewer_do_not(value, low):
    undecided = about(value, low, 0.4)
    needed = users_needed(undecided, 0.05)
    assert needed > undecided.users
    assert joined_by_users_without_a_difference(undecided, needed + 1).low > -0.05
    assert joined_by_users_without_a_difference(undecided, needed - 1).low <= -0.05


def test_users_needed_by_hand_and_the_slower_metric_counts():
    assert users_needed(about(0.0, -0.1, 0.1), 0.05) == 400
    assert decide({"a": about(0.0, -0.1, 0.1), "b": about(0.0, -0.2, 0.1)}, 0.05).users_needed == 1600
    assert decide({"a": about(0.0, -0.1, 0.1), "b": SAFE}, 0.05).users_needed == 400


def test_a_margin_of_next_to_nothing_needs_more_users_than_there_are():
    assert users_needed(OPEN, 1e-320) == users_needed(OPEN, 1e-200) == 100 * 10**12


@pytest.mark.parametrize("each", [SAFE, WORSE, OPEN])
def test_fewer_than_ten_users_decide_nothing(each):
    verdict = decide({"a": dataclasses.replace(each, users=9), "b": dataclasses.replace(each, users=9)}, 0.05)
    assert verdict.outcome == "inconclusive"
    assert verdict.users_needed >= 10


def test_inferior_takes_the_joint_end_since_either_metric_may_say_it():
    lower = dataclasses.replace(WORSE, high=-0.06, joint_high=-0.04)
    assert decide({"a": lower, "b": OPEN}, 0.05).outcome == "inconclusive"
    assert decide({"a": dataclasses.replace(lower, joint_high=-0.051), "b": OPEN}, 0.05).outcome == "inferior"


@pytest.mark.parametrize("value", [0, math.nan])
def test_without_a_low_end_nothing_tells_how_many_users(value):
    verdict = decide({"a": about(value, -math.inf, math.inf), "b": OPEN}, 0.05)
    assert (verdict.outcome, verdict.users_needed) == ("inconclusive", None)


@pytest.mark.parametrize("margin", [0, -0.01, 1, 5])
def test_bad_margin(margin):
    with pytest.raises(InputError, match="margin"):
        decide({"a": SAFE}, margin)
