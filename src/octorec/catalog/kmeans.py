"""This k-means is for very many clusters, and the same to the bit for a seed, whatever the threads and the processor.

On a part of the vectors it draws twice as many centroids as wanted, far from each other, and merges the closest while
their means settle. So it needs few iterations over all vectors, and no draw of one centroid after the other.
Letters: n vectors, D width, V centroids.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from octorec.catalog.nearest import Nearest, distinct_rows

FIRST = 2  # centroids drawn for each one wanted
DRAWN_FROM = 32  # distinct vectors at most for each centroid wanted, from which they are drawn
DRAWS = 32  # batches in which they are drawn; distances are brought up to date between them
MERGES = 4  # rounds of merging until they are as many as wanted
ITERATIONS = 8  # most iterations over all vectors
ROWS = 2**16  # vectors summed at a time

Each = Callable[[int], None]  # called before each iteration with the number of those done


class Clusters(NamedTuple):
    """Clusters hold centroids [V, D] float32; iterations over all vectors, 0 where each distinct
    vector is a centroid.
    """

    centroids: np.ndarray
    iterations: int


def kmeans(x: np.ndarray, size: int, seed: int, each: Each | None = None) -> Clusters:
    """Cluster `x` [n, D] float32, finite, around `size` centroids, or fewer where `x` has fewer distinct rows."""
    if each:
        each(0)
    distinct = distinct_rows(x)
    if len(distinct) <= size:
        return Clusters(x[distinct], 0)
    rng = np.random.default_rng(seed)
    if len(distinct) > DRAWN_FROM * size:
        distinct = np.sort(rng.choice(distinct, DRAWN_FROM * size, replace=False))
    centroids = _start(x[distinct], size, rng)
    before = None
    for done in range(ITERATIONS):
        if each and done:
            each(done)
        codes = Nearest(centroids).search(x)[0][:, 0]
        if before is not None and np.array_equal(codes, before):
            return Clusters(centroids, done)
        centroids, before = _means(x, codes, np.ones(len(x)), centroids), codes
    return Clusters(centroids, ITERATIONS)


def _start(x: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return centroids [size, D] to begin with, from more than `size` distinct rows of `x` [n, D]."""
    centroids = _draw(x, FIRST * size, rng)
    for wanted in np.geomspace(len(centroids), size, MERGES + 1).round().astype(int)[1:]:
        codes = Nearest(centroids).search(x)[0][:, 0]
        weights = np.bincount(codes, minlength=len(centroids)).astype(np.float64)
        centroids = _means(x, codes, np.ones(len(x)), centroids)
        centroids = _merged(centroids, weights, len(centroids) - wanted)
    return centroids


def _draw(x: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Draw up to `most` different rows of `x` by their squared distance to those drawn before: k-means++ in batches.

    Fewer come back only where no other row differs from them.
    """
    batch = -(-most // DRAWS)
    drawn = new = _different(x, rng.choice(len(x), min(batch, len(x)), replace=False))
    squared = np.full(len(x), np.inf)
    while len(drawn) < most:
        np.minimum(squared, Nearest(x[new]).search(x)[1][:, 0], out=squared)
        far = np.flatnonzero(squared)
        if not len(far):
            break
        waits = rng.exponential(size=len(far)) / squared[far]  # each next row has a chance in proportion to `squared`
        new = _different(x, far[np.argsort(waits, kind="stable")[: min(batch, most - len(drawn))]])
        drawn = np.concatenate([drawn, new])
    return x[drawn]


def _different(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return those of `rows`, ascending, that are the first of their value."""
    rows = np.sort(rows)
    return rows[distinct_rows(x[rows])]


def _means(x: np.ndarray, codes: np.ndarray, weights: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """Return the weighted mean of each cluster [V, D] float32, summed in float64 row by row; an empty
    cluster gets its row of `empty`.
    """
    sums = np.zeros(empty.shape)
    for start in range(0, len(x), ROWS):
        part = slice(start, start + ROWS)
        rows = x[part].astype(np.float64)
        member = sp.csr_array((weights[part], codes[part], np.arange(len(rows) + 1)), shape=(len(rows), len(empty)))
        sums += member.T @ rows
    totals = np.bincount(codes, weights, minlength=len(empty))[:, None]
    return np.where(totals > 0, sums / np.where(totals > 0, totals, 1), empty).astype(np.float32)


def _merged(centroids: np.ndarray, weights: np.ndarray, count: int) -> np.ndarray:
    """Return `count` centroids [V, D] fewer: those whose merging with their neighbour adds least error (Ward's
    criterion) are merged.
    """
    codes, squared = Nearest(centroids).search(centroids, 2)
    itself = codes[:, 0] == np.arange(len(centroids))
    other, squared = (np.where(itself, found[:, -1], found[:, 0]) for found in (codes, squared))
    cost = squared * weights * weights[other] / np.maximum(weights + weights[other], 1)
    into = np.arange(len(centroids))
    kept = np.zeros(len(centroids), bool)  # other centroids were merged into it
    for code in np.argsort(cost, kind="stable").tolist():
        if count == 0:
            break
        if not kept[code] and other[code] != code:
            into[code] = into[other[code]]
            kept[into[code]] = True
            count -= 1
    stay, new = np.unique(into, return_inverse=True)
    return _means(centroids, new, weights, centroids[stay])
