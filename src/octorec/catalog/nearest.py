"""faiss finds the nearest of many centroids for each of many vectors, the same to the bit on every machine.

faiss's distances are float32 and depend in their last bits on thread, batch and processor. So they only say which
centroids may be the nearest; where that is more than one, distances in float64 decide, computed pair by pair.
Letters: n vectors, D width, V centroids.
"""

from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np

from octorec.threads import cores, threads

BLOCK = 4096  # vectors that a thread searches at a time; faiss is three times as slow with 1024
DISTANCES = 2**22  # float64 distances held at a time: 32 MB
MORE = 15  # centroids that are looked at beyond the nearest where one more does not decide
LARGEST = 1e37  # a squared distance above this may have overflowed float32
SMALLEST = 1e-36  # a difference below this may have underflowed it
EXACT = 1e-12  # relative error that float64 products of any width stay below


def workers() -> int:
    """Return how many threads search: as many as there are cores, because none waits for another; fewer where
    OMP_NUM_THREADS is below what `octorec.threads` sets.
    """
    asked = faiss.omp_get_max_threads()
    return asked if asked < threads() else cores()


class Nearest:
    """A Nearest searches one level's centroids [V, D] float32, which must be finite.

    Of equally near centroids the lower code is found.
    """

    def __init__(self, centroids: np.ndarray):
        first = distinct_rows(centroids)
        self._codes, self._centroids = first, centroids[first].astype(np.float64)
        self._origin = self._centroids.mean(0).astype(np.float32)  # distances from here lose fewer bits
        self._index = faiss.IndexFlatL2(centroids.shape[1])
        self._index.add(centroids[first] - self._origin)

    def search(self, x: np.ndarray, k: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Return the codes [n, k] int64 of the k centroids nearest to each row of `x` [n, D] float32, and their squared
        distances [n, k] float64, nearest first.

        Of equal centroids only the lowest code is found, so k may be less than asked.
        """
        k = min(k, len(self._centroids))
        codes = np.empty((len(x), k), np.int64)
        squared = np.empty((len(x), k))

        def one(start: int) -> None:
            rows = slice(start, start + BLOCK)
            codes[rows], squared[rows] = self._block(x[rows], k)

        starts = range(0, len(x), BLOCK)
        with ThreadPoolExecutor(
            max(1, min(workers(), len(starts))), initializer=faiss.omp_set_num_threads, initargs=(1,)
        ) as pool:
            list(pool.map(one, starts))
        return self._codes[codes], squared

    def _block(self, x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return places among the distinct centroids [n, k], and squared distances."""
        shifted = x - self._origin
        exact = x.astype(np.float64)
        places = np.empty((len(x), k), np.int64)
        left = np.arange(len(x))
        for count in (k + 1, k + MORE):
            if count >= len(self._centroids):
                every = np.broadcast_to(np.arange(len(self._centroids)), (len(left), len(self._centroids)))
                places[left] = self._order(exact[left], every)[:, :k]
                left = left[:0]
            if not len(left):
                break
            distances, found = self._index.search(shifted[left], count)
            sure = _decided(shifted[left], distances[:, k - 1], distances[:, count - 1])
            rows, found = left[sure], found[sure, :-1]
            places[rows] = found if count == 2 else self._order(exact[rows], found)[:, :k]
            left = left[~sure]
        step = max(1, DISTANCES // len(self._centroids))
        for start in range(0, len(left), step):
            rows = left[start : start + step]
            places[rows] = self._among_all(exact[rows], k)
        return places, np.stack([_squared(exact, self._centroids[places[:, i]]) for i in range(k)], 1)

    def _order(self, x: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Sort `places` [n, some] of each row, nearest first."""
        places = np.sort(places, 1)
        squared = np.stack([_squared(x, self._centroids[places[:, i]]) for i in range(places.shape[1])], 1)
        return np.take_along_axis(places, squared.argsort(1, kind="stable"), 1)

    def _among_all(self, x: np.ndarray, k: int) -> np.ndarray:
        """Return the places [n, k] of the nearest, from float64 distances to all centroids."""
        x_size, size = (np.square(rows).sum(1) for rows in (x, self._centroids))
        distances = x_size[:, None] + size - 2 * (x @ self._centroids.T)
        kth = np.partition(distances, k - 1, 1)[:, k - 1]
        error = EXACT * (x_size + size.max())
        near = distances <= (kth + error)[:, None]
        found = [self._order(row[None], np.flatnonzero(may)[None])[0, :k] for row, may in zip(x, near, strict=True)]
        return np.stack(found)


def _decided(x: np.ndarray, kth: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Tell whether no centroid [n] beyond the last one found can be as near as the k-th, for distances of float32.

    A product of width D errs by at most D roundings, so a squared distance by D (and a few) of (|x| + |centroid|)^2; a
    centroid as near as the k-th is at most |x| + its distance long.
    """
    length = np.sqrt(np.square(x.astype(np.float64)).sum(1))
    reach = 1.2 * (2 * length + np.sqrt(kth.astype(np.float64)))
    error = (x.shape[1] + 16) * 2.0**-24 * np.square(reach) + SMALLEST
    with np.errstate(invalid="ignore"):  # where float32 overflowed nothing is decided
        return (last.astype(np.float64) - kth > 2 * error) & (np.square(reach) < LARGEST)


def _squared(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the squared distance [n] of each row of `x` to that of `y`, both [n, D] float64; a row's
    bits depend on no other row.
    """
    return np.square(x - y).sum(1)


def distinct_rows(x: np.ndarray) -> np.ndarray:
    """Return the places, ascending, of the first row of each value in `x` [n, D] float32; 0 and -0 are one value."""
    rows = np.ascontiguousarray(x + np.float32(0))
    return np.sort(np.unique(rows.view(np.dtype((np.void, rows[0].nbytes))).ravel(), return_index=True)[1])
