"""Give items codes of which no two have the same.

Letters: n items, D vector width, L levels, V codes of the last level.
"""

from collections.abc import Iterator

import numpy as np

from octorec.catalog.codebook import Codebook
from octorec.errors import InputError

DISTANCES = 2**22  # distances in memory at a time: 32 MB
EXACT = 1e-12  # relative error that these distances stay below


def assign_unique(codebook: Codebook, vectors: np.ndarray, taken: np.ndarray | None = None) -> np.ndarray:
    """Return codes [n, L] int32 as `Codebook.assign` gives them, but no tuple twice, nor one of `taken` [m, L].

    The first item of a tuple keeps it; the others move, one after the other, to the nearest last-level code that is
    free below the same prefix. A prefix with more items than last-level codes is an InputError.
    """
    codes, rest = codebook.assign_with_rest(vectors)
    every = codes if taken is None else np.concatenate([taken, codes])
    keeps = np.zeros(len(every), bool)
    keeps[np.unique(every, axis=0, return_index=True)[1]] = True
    offset = len(every) - len(codes)  # rows of `taken` come first, so that none of them moves
    groups = [(rows[~keeps[rows]] - offset, every[rows[keeps[rows]], -1]) for rows in _crowded(every[:, :-1], ~keeps)]
    centroids = codebook.centroids[-1].astype(np.float64)
    for moving, used in groups:
        if len(moving) + len(used) > len(centroids):
            found = f"{len(used) + len(moving)} items below prefix {tuple(codes[moving[0], :-1].tolist())}"
            allowed = f"unique codes need a last level at least so large, not {len(centroids)}"
            raise InputError("codebook_sizes", found, allowed)
    at = np.concatenate([moving for moving, _ in groups]) if groups else np.empty(0, np.int64)
    distances = _distances(rest[at].astype(np.float64), centroids)
    for moving, used in groups:
        free = np.ones(len(centroids), bool)
        free[used] = False
        for row in moving:
            codes[row, -1] = _nearest_free(rest[row].astype(np.float64), centroids, next(distances), free)
            free[codes[row, -1]] = False
    return codes


def _distances(x: np.ndarray, centroids: np.ndarray) -> Iterator[np.ndarray]:
    """Yield for each row of `x` [n, D] its squared distances [V] to `centroids`, to within EXACT of the largest."""
    size = np.square(centroids).sum(1)
    step = max(1, DISTANCES // len(centroids))
    for start in range(0, len(x), step):
        rows = x[start : start + step]
        yield from np.square(rows).sum(1)[:, None] + size - 2 * (rows @ centroids.T)


def _nearest_free(x: np.ndarray, centroids: np.ndarray, distances: np.ndarray, free: np.ndarray) -> int:
    """Return the free code nearest to `x` [D], of equally near ones the lower: exact distances decide
    among those about as near.
    """
    codes = np.flatnonzero(free)
    error = EXACT * (np.square(x).sum() + distances.max())
    near = codes[distances[codes] <= distances[codes].min() + error]
    return int(near[np.square(x - centroids[near]).sum(1).argmin()])


def _crowded(prefixes: np.ndarray, moving: np.ndarray) -> list[np.ndarray]:
    """Return the places of equal rows of `prefixes` [n, L - 1], ascending: an array for each prefix
    that a row of `moving` has.
    """
    if not moving.any():
        return []
    number = np.zeros(len(prefixes), np.int64)
    if prefixes.shape[1]:
        number = np.unique(prefixes, axis=0, return_inverse=True)[1].reshape(-1)
    has_moving = np.zeros(number.max() + 1, bool)
    has_moving[number[moving]] = True
    rows = np.flatnonzero(has_moving[number])
    rows = rows[np.argsort(number[rows], kind="stable")]
    return np.split(rows, np.flatnonzero(np.diff(number[rows])) + 1)
