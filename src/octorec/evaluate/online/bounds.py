"""Compute how far away an end of an interval is at each look, so that all looks together err no more often than one.

The error that may be spent by a share t of the plan is that of Lan and DeMets (1983, *Biometrika* 70) after O'Brien and
Fleming,

    spent(t) = 2 - 2 Phi(z(level / 2) / sqrt(t)),    spent(1) = level,    z(p) the upper quantile of a normal,

for one side, and each side is bounded by itself. Whatever a look has not spent is left for the next, so that looks that
come early, late, not at all or beyond the plan keep the level: what counts is what was really reached.

Z_k, the estimate in standard errors at look k, is a normal whose correlation with Z_j is sqrt(I_j / I_k), I the units
seen. The density of Z_k over the paths that crossed no bound before is carried from look to look by numerical
integration (Armitage, McPherson & Rowe 1969, *JRSS A* 132; Jennison & Turnbull 2000, *Group Sequential Methods*,
chapter 19), here by Gauss and Legendre's rule on panels, and bound k is where the rest of the error is spent.

Letters: K looks, N nodes.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

LEAST = 1e-12  # error that a look can spend; with less it has no bound
NEAREST = 1e-3  # relative rise of information below which two looks are taken to be this far apart
FAR = 9.0  # standard errors beyond which nothing is integrated
RULE = np.polynomial.legendre.leggauss(16)


def spent(share: float, level: float) -> float:
    """Return the one-sided error that may be spent once `share` of the plan is reached, of `level` in
    all; 0 at the start.
    """
    if share <= 0:
        return 0.0
    return float(2 * ndtr(ndtri(level / 2) / math.sqrt(min(share, 1.0))))


def bounds(information: Sequence[float], errors: Sequence[float]) -> tuple[float, ...]:
    """Return the upper bound of each look in standard errors [K]; infinite where a look has no bound.

    information: reached, in any unit, above 0 and rising [K]. errors: one-sided, that all looks so far may spend [K],
    below 1/2. A look that could spend less than LEAST has no bound, and leaves that to the next.
    """
    return _bounds(tuple(information), tuple(errors))


def crossing(information: Sequence[float], limits: Sequence[float], drift: float = 0.0) -> list[float]:
    """Return the chance to cross first at each look [K], where the estimate has mean `drift` standard
    errors at the last.
    """
    walk = _Walk(information, drift)
    chances = []
    for limit in limits:
        chances.append(walk.beyond(limit))
        walk.keep(limit)
    return chances


def planned(shares: Sequence[float], level: float) -> tuple[float, ...]:
    """Return the bounds of looks that come at these shares of the plan [K]."""
    return bounds(shares, [spent(share, level) for share in shares])


@lru_cache(maxsize=1024)
def drift_needed(shares: tuple[float, ...], level: float, power: float) -> float:
    """Return the mean of the last look's estimate, in standard errors, at which some look crosses with
    chance `power`.
    """
    limits = planned(shares, level)
    return float(brentq(lambda drift: sum(crossing(shares, limits, drift)) - power, 0.0, 20.0, xtol=1e-10))


@lru_cache(maxsize=4096)
def _bounds(information: tuple[float, ...], errors: tuple[float, ...]) -> tuple[float, ...]:
    walk, used, found = _Walk(information), 0.0, []
    for error in errors:
        rise = error - used
        limit = math.inf
        if rise >= LEAST:
            limit, used = walk.where(rise), error
        walk.keep(limit)
        found.append(limit)
    return tuple(found)


class _Walk:
    """A _Walk goes from look to look and keeps the weight of the paths that crossed nothing yet, on nodes [N] of Z."""

    def __init__(self, information: Sequence[float], drift: float = 0.0):
        reached: list[float] = []
        for one in information:
            reached.append(max(one, reached[-1] * (1 + NEAREST)) if reached else one)
        before = [0.0, *reached]
        self.carried = [math.sqrt(a / b) for a, b in zip(before, reached, strict=False)]  # correlation with the last
        self.new = [math.sqrt(1 - rho**2) for rho in self.carried]
        last = reached[-1]
        self.means = [drift * (b - a) / math.sqrt(b * last) for a, b in zip(before, reached, strict=False)]
        self.look, self.top = 0, FAR + max(drift, 0.0)
        self.width = min(1.0, 4 * min(self.new))
        self.nodes, self.weights = np.zeros(1), np.ones(1)

    def beyond(self, limit: float) -> float:
        """Return the chance to cross `limit` at this look and nothing before."""
        return float(self.weights @ ndtr((self._centres() - limit) / self.new[self.look]))

    def where(self, error: float) -> float:
        """Return the bound that is crossed with chance `error`."""
        return float(brentq(lambda limit: self.beyond(limit) - error, -FAR, 40.0, xtol=1e-11))

    def keep(self, limit: float) -> None:
        """Go on to the next look with the paths below `limit`."""
        end = min(limit, self.top)
        panels = math.ceil((end + FAR) / self.width)
        edges = np.linspace(-FAR, end, panels + 1)
        half = (edges[1] - edges[0]) / 2
        nodes = ((edges[:-1] + half)[:, None] + half * RULE[0]).ravel()
        spread = self.new[self.look]
        density = np.exp(-(((nodes[:, None] - self._centres()) / spread) ** 2) / 2) @ self.weights
        self.weights = density / (spread * math.sqrt(2 * math.pi)) * np.tile(half * RULE[1], panels)
        self.nodes, self.look = nodes, self.look + 1

    def _centres(self) -> np.ndarray:
        return self.carried[self.look] * self.nodes + self.means[self.look]
