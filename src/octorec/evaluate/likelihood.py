"""This is one-sided empirical likelihood for a ratio of means, with the worst user counted once more.

The quantity is r = E[d] / E[w] over users, each user one draw of (d, w) with w >= 0. A value r is tested by
z_u = d_u - r w_u, whose mean is 0 at the true r. Owen (1988, *Biometrika* 75) maximises the likelihood of weights on
the users under which the mean of z is 0; in its dual form the evidence that the mean of z is above 0 is

    T(z) = max over lambda >= 0 of  sum_u log(1 + lambda z_u),

and 2 T is compared with a quantile of F(1, users - 1), as Owen proposes for few users. T is a maximum of functions that
each grow with every z_u, so that **a user who loses more never adds to the evidence against a loss**: no other usual
interval has this (a bootstrap's or a t interval's end can rise when an outlier goes). With w >= 0 the z_u fall as r
grows, so that the values r that are not rejected are an interval.

By itself T knows nothing of what was not seen: where nobody lost, every loss is rejected. So one more user is added,
the worst that there could be (Chen, Variyath & Abraham 2008, *J. Comp. Graph. Stat.* 17, add a point of their own). For
losses that are rare and all alike this is the likelihood interval of a binomial with one more loss counted, the same +1
that makes Clopper and Pearson's interval exact. How often the intervals err is simulated in `benchmarks.calibration`.

Letters: U users, or groups of users who are alike.
"""

import numpy as np
from scipy.stats import f as f_distribution

STEPS = 100  # most steps of Newton's method, which needs about 8
CLOSE = 1e-12  # relative change of lambda at which the method ends


def threshold(users: int, alpha: float) -> float:
    """Return what T has to reach for evidence at the one-sided level `alpha`; infinite for fewer than two users."""
    return float(f_distribution.isf(2 * alpha, 1, users - 1)) / 2 if users > 1 else np.inf


def evidence(z: np.ndarray, counts: np.ndarray, worst: float) -> float:
    """Return T of the values `z` [U], each standing for `counts` [U] users, and of one user more whose
    value is -`worst`.

    worst >= 0 and at least max(-z). T is 0 where the mean is not above 0; infinite where no value is below 0.
    """
    z, counts = np.append(z, -worst), np.append(counts, 1.0)
    slope = float(counts @ z)
    if slope <= 0:
        return 0.0
    lowest = float(z.min())
    if lowest >= 0:
        return np.inf
    low, high = 0.0, -1 / lowest  # the derivative falls from above 0 to minus infinity
    lam = min(slope / float(counts @ z**2), high / 2)
    for _ in range(STEPS):
        part = z / (1 + lam * z)
        slope, curve = float(counts @ part), float(counts @ part**2)
        low, high = (lam, high) if slope > 0 else (low, lam)
        step = lam + slope / curve
        new = step if low < step < high else (low + high) / 2
        if abs(new - lam) <= CLOSE * new:
            break
        lam = new
    return max(0.0, float(counts @ np.log1p(lam * z)))
