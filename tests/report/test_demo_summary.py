"""The first screen of the demo's report says what its numbers say, for every outcome."""

from types import SimpleNamespace
from typing import Any

import pytest

from octorec.evaluate.paired import Estimate
from octorec.evaluate.verdict import decide
from octorec.report import judged_plots
from octorec.report.demo_summary import BADGES, floor_words, reason, shortfall


def estimate(low: float, value: float, high: float) -> Estimate:
    return Estimate(value, low, high, high, 100, 50)


def judged(low: float, value: float, high: float) -> Any:
    differences = {"recall@10": estimate(low, value, high), "ndcg@10": estimate(0.0, 0.01, 0.02)}
    return SimpleNamespace(differences=differences, verdict=decide(differences, 0.05))


@pytest.mark.parametrize(
    ("ends", "tone", "badge", "said"),
    [
        ((-0.02, 0.0, 0.02), "good", "not inferior", "FP8 loses less than 5 % "),
        ((-0.3, -0.2, -0.1), "bad", "inferior", "FP8 loses more than 5 %: recall@10 -30.00% .. -10.00%"),
        ((-0.3, 0.0, 0.3), "unsure", "more people", "The loss may be more than 5 % or less"),
    ],
)
def test_badge_and_reason_agree_with_the_interval(ends: tuple[float, ...], tone: str, badge: str, said: str) -> None:
    comparison = judged(*ends)
    assert BADGES[comparison.verdict.outcome][0] == tone
    assert badge in BADGES[comparison.verdict.outcome][1]
    assert said in reason(comparison)
    assert f"{ends[0]:+.2%} .. {ends[2]:+.2%}" in reason(comparison)


def test_words_on_floors_are_of_every_metric() -> None:
    leads = {"markov": {"recall@10": estimate(0.01, 0.02, 0.03), "ndcg@10": estimate(-0.03, -0.02, -0.01)}}
    above, below = floor_words(leads)
    assert above.startswith("BF16 beats the Markov chain: recall@10 +0.0200")
    assert below.startswith("BF16 is beaten by the Markov chain: ndcg@10 -0.0200")
    (why,) = shortfall(leads, 90570)
    assert why.startswith("The model does not reach ndcg@10 of the Markov chain (by 0.0200).")
    assert "90,570 examples" in why
    assert shortfall({"markov": {"recall@10": estimate(-0.01, 0.02, 0.03)}}, 1) == []


def test_the_picture_shows_the_margin_and_each_metric() -> None:
    wide = {"recall@10": estimate(-0.02, 0.0, 0.02), "ndcg@10": estimate(-float("inf"), 0.0, float("inf"))}
    drawn = judged_plots.margin(wide, 0.05)
    assert all(text in drawn for text in ("recall@10", "ndcg@10", "the loss allowed, 5 %"))


def test_the_training_is_a_curve_of_loss_and_of_validation() -> None:
    records = [{"step": 10, "loss": 3.0, "recall@10": 0.1}, {"step": 20, "loss": 2.0}]
    drawn = judged_plots.training(records, "recall@10")
    assert all(text in drawn for text in ("loss on a batch", "recall@10 on validation", "step"))
    assert judged_plots.training([{"step": 1, "loss": 3.0}], "recall@10")  # nothing was validated
