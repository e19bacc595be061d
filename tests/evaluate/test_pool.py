import numpy as np
import pytest

from octorec.errors import MismatchError
from octorec.evaluate.compare import compare_predictions
from octorec.evaluate.pool import pooled
from octorec.evaluate.predictions import Predictions


def made(rng, users, k=10, hit_rate=0.3, levels=3):
    """Every user "0", "1", ... has two targets, both item "t"; a hit stands somewhere in the list."""
    n = 2 * users
    ranked = np.array([[f"i{place}" for place in range(k)] for _ in range(n)], dtype=object)
    for row in np.flatnonzero(rng.random(n) < hit_rate):
        ranked[row, rng.integers(k)] = "t"
    ranked[0, -1] = ""
    ids = np.repeat([str(user) for user in range(users)], 2).astype(object)
    flags = np.ones(n, bool), np.zeros(n, bool)
    log_probs = rng.normal(-3, 1, (n, levels)).astype(np.float32) if levels else None
    return Predictions(ids, np.array(["t"] * n, dtype=object), ranked, *flags, log_probs)


def test_pooled_metrics_are_those_of_all_targets_and_users_stay_apart():
    rng = np.random.default_rng(0)
    before, after = ({"a": made(rng, 200), "b": made(rng, 300, hit_rate=rate)} for rate in (0.3, 0.2))
    after["a"] = before["a"]
    result = compare_predictions(pooled(before), pooled(after), margin=0.05)
    assert result.users == 500
    assert result.targets == 1000
    hits = {name: (part.ranked == "t").any(1) for name, part in before.items()}
    assert result.baseline["recall@10"] == pytest.approx(np.concatenate(list(hits.values())).mean())
    lost = sum((part.ranked == "t").any(1).sum() for part in after.values()) / sum(h.sum() for h in hits.values()) - 1
    assert result.differences["recall@10"].value == pytest.approx(lost)
    assert result.verdict.outcome == "inferior"


def test_the_end_of_a_list_stays_the_end():
    part = made(np.random.default_rng(1), 5)
    both = pooled({"a": part, "b": part})
    assert (both.ranked == "").sum() == 2
    assert "a/i0" in both.ranked[0]


def test_parts_must_be_alike():
    rng = np.random.default_rng(2)
    with pytest.raises(MismatchError, match=r"predictions: k: got \[5, 10\]"):
        pooled({"a": made(rng, 3), "b": made(rng, 3, k=5)})
    with pytest.raises(MismatchError, match="predictions: levels"):
        pooled({"a": made(rng, 3), "b": made(rng, 3, levels=0)})
