"""Fit a codebook by residual k-means: each level clusters what the levels before it leave over.

Letters: n items, D vector width.
"""

from collections.abc import Callable, Sequence

import numpy as np

from octorec.catalog.codebook import Codebook, Fit, check_sizes
from octorec.catalog.kmeans import ITERATIONS, Clusters, kmeans
from octorec.catalog.nearest import Nearest
from octorec.errors import InputError
from octorec.progress import Progress, silent

LEVEL_BYTES = 2**31  # most bytes that the centroids of a level may take
PER_CODE = 256  # vectors at most for each code that a level is fitted to; more change its centroids little
LARGEST = 1e15  # largest number of a vector: float32 holds its square


def fit_codebook(
    vectors: np.ndarray, codebook_sizes: Sequence[int], seed: int, progress: Progress = silent
) -> Codebook:
    """Fit a codebook by residual k-means over `vectors` [n, D]: level l clusters what the levels before it leave over.

    The first level needs as many distinct vectors as it has codes. Where a later level has fewer distinct residuals,
    its remaining codes repeat the first centroid and no item gets them (a tie goes to the lower code).
    A seed gives the same centroids to the bit, whatever the number of threads (see `catalog.kmeans`).
    """
    check_sizes(codebook_sizes)
    rest = np.array(vectors, np.float32)
    _refuse_large(rest, codebook_sizes)
    centroids, used, iterations, errors = [], [], [], [_mean_square(rest)]
    for level, size in enumerate(codebook_sizes):
        clusters, count = _level(rest, size, seed, _iterations(progress, level, len(codebook_sizes)))
        found = clusters.centroids
        if level == 0 and len(found) < size:
            raise InputError(
                "codebook_sizes", tuple(codebook_sizes), f"at most {len(found)}, the distinct item vectors"
            )
        rest -= found[Nearest(found).search(rest)[0][:, 0]]
        centroids.append(np.concatenate([found, np.repeat(found[:1], size - len(found), axis=0)]))
        used.append(count)
        iterations.append(clusters.iterations)
        errors.append(_mean_square(rest))
    return Codebook(tuple(centroids), Fit(len(rest), tuple(used), tuple(iterations), tuple(errors)))


def _level(residuals: np.ndarray, size: int, seed: int, each: Callable[[int], None] | None) -> tuple[Clusters, int]:
    """Return the clusters of one level, and how many vectors it was fitted to."""
    if len(residuals) > PER_CODE * size:
        rows = np.sort(np.random.default_rng(seed).choice(len(residuals), PER_CODE * size, replace=False))
        clusters = kmeans(residuals[rows], size, seed, each)
        if clusters.iterations:  # without iterations the sample lacks distinct vectors that the others may have
            return clusters, len(rows)
    return kmeans(residuals, size, seed, each), len(residuals)


def _refuse_large(vectors: np.ndarray, codebook_sizes: Sequence[int]) -> None:
    """Raise InputError for centroids that take too much memory, and for numbers whose squares float32 does not hold."""
    width = vectors.shape[1]
    if max(codebook_sizes) * width * vectors.itemsize > LEVEL_BYTES:
        most = LEVEL_BYTES // (width * vectors.itemsize)
        raise InputError("codebook_sizes", tuple(codebook_sizes), f"at most {most} of vectors of width {width}")
    most_found = max(-float(vectors.min()), float(vectors.max()))
    if not most_found <= LARGEST:
        raise InputError("item vectors", most_found, f"numbers must be finite, from {-LARGEST:g} to {LARGEST:g}")


def _iterations(progress: Progress, level: int, levels: int) -> Callable[[int], None]:
    """Return `progress` for one level, told of each iteration."""
    steps = ITERATIONS * levels
    return lambda done: progress(
        ITERATIONS * level + done, steps, f"level {level + 1} of {levels}, iteration {done + 1}"
    )


def _mean_square(x: np.ndarray) -> float:
    """Return the mean over rows of `x` [n, D] of their squared length, summed in float64."""
    return float(np.square(x, dtype=np.float64).sum(1).mean())
