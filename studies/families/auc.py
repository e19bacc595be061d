"""The area under the ROC curve of scores for clicks, with intervals by resampling users.

Letters: n examples, U users, R resamples, V distinct scores.
"""

from collections.abc import Mapping

import numpy as np

from octorec.errors import InputError

RESAMPLES = 500
CHUNK = 8  # resamples whose weights are held at a time


def auc(scores: np.ndarray, clicks: np.ndarray) -> float:
    """The share of (click, no click) pairs that `scores` [n] put in order, ties counted half."""
    return float(_weighted(scores, clicks, np.ones((1, len(scores))))[0])


def auc_intervals(
    scores: Mapping[str, np.ndarray],
    clicks: np.ndarray,
    user_ids: np.ndarray,
    baseline: str,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """AUC of each system with its interval, and its difference from `baseline` with a paired one.

    scores: [n] of each system. clicks [n]: 0 or 1. user_ids [n]: whole users are drawn with replacement, the same ones
    for every system. Returns auc, low, high, difference, difference_low, difference_high by system.
    """
    if len(np.unique(clicks)) != 2:
        raise InputError("clicks", np.unique(clicks).tolist(), "an AUC needs examples with a click and without")
    _, users = np.unique(user_ids, return_inverse=True)
    count = users.max() + 1
    rng = np.random.default_rng(seed)
    draws: dict[str, list[np.ndarray]] = {name: [] for name in scores}
    for _ in range(0, RESAMPLES, CHUNK):
        drawn = np.stack([np.bincount(rng.integers(count, size=count), minlength=count) for _ in range(CHUNK)])
        weights = drawn[:, users].astype(np.float64)  # [CHUNK, n]
        for name, values in scores.items():
            draws[name].append(_weighted(values, clicks, weights))
    ends = [50 - 50 * confidence, 50 + 50 * confidence]
    exact = {name: auc(values, clicks) for name, values in scores.items()}
    found = {name: np.concatenate(parts) for name, parts in draws.items()}
    out = {}
    for name, values in found.items():
        low, high = np.nanpercentile(values, ends)
        below, above = np.nanpercentile(values - found[baseline], ends)
        difference = {"difference": exact[name] - exact[baseline], "difference_low": below, "difference_high": above}
        out[name] = {key: float(x) for key, x in {"auc": exact[name], "low": low, "high": high, **difference}.items()}
    return out


def _weighted(scores: np.ndarray, clicks: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUC [R] with each example counted weights [R, n] times; NaN where a resample has one kind of example only."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.nan) != 0)  # first example of each distinct score
    positive = np.add.reduceat((weights * clicks)[:, order], starts, axis=1)  # [R, V]
    negative = np.add.reduceat((weights * (1 - clicks))[:, order], starts, axis=1)
    below = np.cumsum(negative, 1) - negative
    pairs = positive.sum(1) * negative.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (positive * (below + negative / 2)).sum(1) / pairs
