"""T(r) of a contrast varies: this gives its standard error, degrees of freedom and skewness, each at the r that is
asked for.

They differ much from one r to another where the arms do. A treatment that lost nearly all of its hits leaves few units
to tell how much is lost, yet many to tell that it is more than a margin.

Letters: U units of one arm, S stages that both arms have.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from octorec.evaluate.online.arms import Arm

Terms = tuple[np.ndarray, np.ndarray]  # p and q of an arm's units [U]: a unit is p + r q


@dataclass(frozen=True)
class Variation:
    """A Variation says how T(r) varies at each r [R]: standard error, degrees of freedom (Welch 1947,
    *Biometrika* 34) and skewness.

    skew: if r is the difference, so that both arms' units vary alike. seen: with the variance that each arm shows.
    """

    error: np.ndarray
    freedom: np.ndarray
    skew: np.ndarray
    seen: np.ndarray


@dataclass(frozen=True)
class Spread:
    """A Spread holds the moments of p + r q as forms in r.

    parts [2, S, 2, 2]: what each stage of control and treatment adds to the variance of T, as a form in (1, r). counts
    [2, S]: units. weights [S]: of the stages. squares [3] and thirds [4]: sums of a unit's second and third power about
    its stage's mean, over both arms, as coefficients of r's powers.
    """

    parts: np.ndarray
    counts: np.ndarray
    weights: np.ndarray
    squares: np.ndarray
    thirds: np.ndarray

    def at(self, r: np.ndarray) -> Variation:
        """Return how T(r) varies at each of r [R].

        A unit's skewness is that of both arms together, as a small arm alone does not show its own well enough.
        """
        parts, counts = self.parts.reshape(-1, 4, 1), self.counts.reshape(-1, 1)
        shares = np.maximum(parts[:, 0] + (parts[:, 1] + parts[:, 2]) * r + parts[:, 3] * r**2, 0.0)  # [2 S, R]
        total = shares.sum(0)
        s, t = self.squares, self.thirds
        square = np.maximum(s[0] + r * (s[1] + r * s[2]), 0.0)
        third = t[0] + r * (t[1] + r * (t[2] + r * t[3]))
        unit = np.divide(third, square**1.5, out=np.zeros(len(r)), where=square > 0) * self.counts.sum() ** 0.5
        return Variation(
            error=np.sqrt(total),
            freedom=total**2 / (shares**2 / (counts - 1)).sum(0),
            skew=unit * self._leaning_alike,
            seen=unit * self._leaning(shares),
        )

    def error(self, r: float) -> float:
        """Return the standard error of T(r)."""
        return float(self.at(np.array([r])).error[0])

    @cached_property
    def _leaning_alike(self) -> np.ndarray:
        """Return `_leaning` where units of both arms vary alike: the same at every r."""
        return self._leaning((self.weights**2 / self.counts).reshape(-1, 1))

    def _leaning(self, shares: np.ndarray) -> np.ndarray:
        """Return the skewness of T where a unit's is 1, by what each stage of control and treatment
        adds to the variance.
        """
        signs = np.repeat([[-1.0], [1.0]], len(self.weights), 0) / np.sqrt(self.counts.reshape(-1, 1))
        return np.asarray((signs * shares * np.sqrt(shares)).sum(0) / shares.sum(0) ** 1.5)


def powers(arms: tuple[Arm, Arm], terms: tuple[Terms, Terms]) -> tuple[np.ndarray, np.ndarray]:
    """Return the squares and thirds of a Spread."""
    squares, thirds = np.zeros(3), np.zeros(4)
    for arm, (p, q) in zip(arms, terms, strict=True):
        centred = arm.centred(p)
        p, q = centred, centred if q is p else arm.centred(q)
        pp, pq, qq = p * p, p * q, q * q
        squares += [pp.sum(), 2 * pq.sum(), qq.sum()]
        thirds += [pp @ p, 3 * (pp @ q), 3 * (qq @ p), qq @ q]
    return squares, thirds
