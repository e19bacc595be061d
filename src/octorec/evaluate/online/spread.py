"""How T(r) of a contrast varies: its standard error, degrees of freedom and skewness, each at the r that is asked for.

They differ much from one r to another where the arms do. A treatment that lost nearly all of its hits leaves few units
to tell how much is lost, yet many to tell that it is more than a margin.

Letters: U units of one arm, S stages that both arms have.
"""

from dataclasses import dataclass

import numpy as np

from octorec.evaluate.online.arms import Arm

Terms = tuple[np.ndarray, np.ndarray]  # p and q of an arm's units [U]: a unit is p + r q


@dataclass(frozen=True)
class Spread:
    """The moments of p + r q as forms in (1, r).

    parts [2, S, 2, 2]: what each stage of control and treatment adds to the variance of T. counts [2, S]: units.
    squares [3] and thirds [4]: sums of a unit's second and third power about its stage's mean, over both arms, as
    coefficients of r's powers.
    """

    parts: np.ndarray
    counts: np.ndarray
    squares: np.ndarray
    thirds: np.ndarray

    def error(self, r: np.ndarray | float) -> np.ndarray:
        """The standard error of T(r) at each of r [...]."""
        return np.asarray(np.sqrt(self._shares(r).sum((-2, -1))))

    def freedom(self, r: np.ndarray) -> np.ndarray:
        """Welch's degrees of freedom (1947, *Biometrika* 34) at each of r [...]."""
        shares = self._shares(r)
        return np.asarray(shares.sum((-2, -1)) ** 2 / (shares**2 / (self.counts - 1)).sum((-2, -1)))

    def skew(self, r: np.ndarray) -> np.ndarray:
        """The skewness of T(r) at each of r [...].

        A unit's is that of both arms together, as a small arm alone does not show its own well enough.
        """
        squares = np.polynomial.polynomial.polyval(r, self.squares)
        thirds = np.polynomial.polynomial.polyval(r, self.thirds)
        known = squares > 0
        unit = np.where(known, thirds, 0.0) * self.counts.sum() ** 0.5 / np.where(known, squares, 1.0) ** 1.5
        shares = self._shares(r)
        signs = np.array([[-1.0], [1.0]]) / np.sqrt(self.counts)
        return np.asarray(unit * (signs * shares**1.5).sum((-2, -1)) / shares.sum((-2, -1)) ** 1.5)

    def _shares(self, r: float | np.ndarray) -> np.ndarray:
        """What each stage of each arm adds to the variance of T(r) [..., 2, S]."""
        at = np.stack([np.ones_like(r, float), r], -1)
        return np.maximum(np.einsum("...i,asij,...j->...as", at, self.parts, at), 0.0)


def powers(arms: tuple[Arm, Arm], terms: tuple[Terms, Terms]) -> tuple[np.ndarray, np.ndarray]:
    """The squares and thirds of a Spread."""
    squares, thirds = np.zeros(3), np.zeros(4)
    for arm, (p, q) in zip(arms, terms, strict=True):
        p, q = arm.centred(p), arm.centred(q)
        pp, pq, qq = p * p, p * q, q * q
        squares += [pp.sum(), 2 * pq.sum(), qq.sum()]
        thirds += [pp @ p, 3 * (pp @ q), 3 * (qq @ p), qq @ q]
    return squares, thirds
