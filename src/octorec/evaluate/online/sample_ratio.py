"""Test whether the variants got the shares of units that they were to get; the test may be looked at at any time.

Lindon & Malek (2022, *Anytime-Valid Inference for Multinomial Count Data*, NeurIPS) compare the shares w of the plan
with shares that are unknown, Dirichlet with parameters a_v = A w_v. After n_v units of each variant the Bayes factor is

    B = Gamma(A) / Gamma(A + n)  prod_v Gamma(a_v + n_v) / Gamma(a_v)  prod_v w_v^(-n_v),    n = sum n_v.

While the shares are those of the plan, B is a martingale of mean 1, so that it ever reaches 1 / LEVEL with a chance of
at most LEVEL (Ville): p, the least that 1 / B ever was, holds over all looks together. So is the mean of the factors of
several A, one for small imbalances of many units and one for large ones of few. Stages with shares of their own follow
each other, and their factors are multiplied.

Of two equal variants and 100,000 units, a share of 50.8 % is found with a chance of 72 %, and one of 51 % with 97 %.

Letters: V variants, S stages.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
from scipy.special import gammaln

from octorec.evaluate.online.buckets import BUCKETS, borders
from octorec.evaluate.online.results import SampleRatio

LEVEL = 0.001  # chance that a sound experiment is ever found broken
PRIORS = (1000.0, 2.0)  # A: the larger, the smaller the imbalances that are looked for


def log_bayes_factor(counts: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return the logarithm of the mean B [...] of `counts` [..., V] where `shares` [V], all above 0, are expected."""
    factors = [_log_factor(counts, shares, prior) for prior in PRIORS]
    return np.logaddexp.reduce(factors) - np.log(len(PRIORS))


def sample_ratio(
    variants: Sequence[str], assigned: np.ndarray, shares: Sequence[Mapping[str, Fraction]], lowest_p: float = 1.0
) -> SampleRatio:
    """Check units by stage and variant, `assigned` [S, V], against each stage's shares [S].

    lowest_p: the lowest that the check gave before. A variant that has units where its share is 0 makes p 0.
    """
    expected = np.array([expected_shares([stage[name] for name in variants]) for stage in shares])
    evidence = sum(_evidence(counts, share) for counts, share in zip(assigned, expected, strict=True))
    p = min(lowest_p, float(np.exp(-max(evidence, 0.0))))
    hoped = (assigned.sum(1, keepdims=True) * expected).sum(0)
    return SampleRatio(
        dict(zip(variants, assigned.sum(0).tolist(), strict=True)),
        dict(zip(variants, hoped.tolist(), strict=True)),
        p,
        p < LEVEL,
    )


def expected_shares(shares: Sequence[Fraction]) -> np.ndarray:
    """Return the shares as buckets really give them [V]."""
    return np.diff([0, *borders(shares)]) / BUCKETS


def _evidence(counts: np.ndarray, shares: np.ndarray) -> float:
    there = shares > 0
    if counts[~there].any():
        return float("inf")
    return float(log_bayes_factor(counts[there], shares[there]))


def _log_factor(counts: np.ndarray, shares: np.ndarray, prior: float) -> np.ndarray:
    one = prior * shares
    parts = gammaln(one + counts) - gammaln(one) - counts * np.log(shares)
    return gammaln(prior) - gammaln(prior + counts.sum(-1)) + parts.sum(-1)
