"""Residual k-means (RQ-KMeans): the codebook that turns item vectors into semantic IDs.

Letters: n items, D vector width, L levels, V codes a level.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from octorec.errors import InputError

Progress = Callable[[str, int, int], None]  # what begins now, steps done, steps in all

CHUNK = 2**24  # distances computed at a time: 64 MB
MOST_CODES = 2**31 - 1  # a level: codes are int32
ALLOWED = "must hold level.0, level.1, ... float32 [codes, width], finite"
LEVEL_BYTES = 2**31  # that the centroids of a level may take


@dataclass(frozen=True, eq=False)
class Codebook:
    """centroids: one array [V, D] float32 a level; level l's describe what the levels before it left over."""

    centroids: tuple[np.ndarray, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(len(level) for level in self.centroids)

    @property
    def width(self) -> int:
        return self.centroids[0].shape[1]

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that name this codebook: SHA-256 over sizes and centroids."""
        return digest(self.sizes, *self.centroids)

    def assign(self, vectors: np.ndarray) -> np.ndarray:
        """The codes [n, L] int32 of `vectors` [n, D]: each level's nearest centroid, a tie to the lower code."""
        return self._assign(vectors)[0]

    def assign_unique(self, vectors: np.ndarray, taken: np.ndarray | None = None) -> np.ndarray:
        """As `assign`, but no tuple is given twice, nor one of `taken` [m, L].

        The first item of a tuple keeps it; the others move, one after the other, to the nearest last-level code that is
        free below the same prefix. A prefix with more items than last-level codes is an InputError.
        """
        codes, rest = self._assign(vectors)
        every = codes if taken is None else np.concatenate([taken, codes])
        keeps = np.zeros(len(every), bool)
        keeps[np.unique(every, axis=0, return_index=True)[1]] = True
        prefix = _row_groups(every[:, :-1])
        offset = len(every) - len(codes)  # `taken` stands first, so that none of it moves
        moving = np.flatnonzero(~keeps[offset:])
        for rows in _split_by(prefix[offset + moving], moving):
            used = every[keeps & (prefix == prefix[offset + rows[0]]), -1]
            codes[rows, -1] = _nearest_free(rest[rows], self.centroids[-1], used, codes[rows[0], :-1])
        return codes

    def _assign(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Codes [n, L] int32, and what the levels before the last leave over [n, D]."""
        rest = np.array(vectors, np.float32)
        assert rest.shape == (len(rest), self.width)
        codes = np.empty((len(rest), len(self.centroids)), np.int32)
        for level, centroids in enumerate(self.centroids):
            codes[:, level] = _nearest(rest, centroids)
            if level < len(self.centroids) - 1:
                rest -= centroids[codes[:, level]]
        return codes, rest

    def save(self, path: Path) -> None:
        save_file({f"level.{level}": array for level, array in enumerate(self.centroids)}, path)
        path.chmod(0o644)  # safetensors leaves it to the owner alone

    @classmethod
    def load(cls, path: Path) -> "Codebook":
        """Read what `save` wrote; anything else is an InputError."""
        try:
            with safe_open(path, framework="numpy") as file:
                slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118, safe_open is no dictionary
                _check_header(path, {name: (part.get_dtype(), part.get_shape()) for name, part in slices.items()})
                centroids = tuple(file.get_tensor(f"level.{level}") for level in range(len(slices)))
        except (SafetensorError, OSError) as error:
            raise InputError(str(path), str(error), "is truncated or no safetensors file") from error
        for level, array in enumerate(centroids):
            if not np.isfinite(array).all():
                raise InputError(f"{path}: level.{level}", "NaN or infinity", ALLOWED)
        return cls(centroids)


def _check_header(path: Path, tensors: dict[str, tuple[str, list[int]]]) -> None:
    names = [f"level.{level}" for level in range(len(tensors))]
    if not names or set(names) != set(tensors):
        raise InputError(str(path), sorted(tensors), ALLOWED)
    width = tensors["level.0"][1][1:]
    for name, (kind, shape) in tensors.items():
        if kind != "F32" or len(shape) != 2 or 0 in shape or shape[1:] != width:
            raise InputError(f"{path}: {name}", f"{kind} {shape}", ALLOWED)


def fit_codebook(
    vectors: np.ndarray, codebook_sizes: Sequence[int], seed: int, progress: Progress | None = None
) -> Codebook:
    """Residual k-means over `vectors` [n, D]: level l clusters what the levels before it leave over.

    The first level needs as many distinct vectors as it has codes. Where a later level has fewer distinct residuals,
    its remaining codes repeat the first centroid and no item gets them (a tie goes to the lower code).
    One thread, so that a seed gives the same centroids to the bit.
    """
    check_sizes(codebook_sizes)
    rest = np.array(vectors, np.float32)
    if max(codebook_sizes) * rest.shape[1] * rest.itemsize > LEVEL_BYTES:
        most = LEVEL_BYTES // (rest.shape[1] * rest.itemsize)
        raise InputError("codebook_sizes", tuple(codebook_sizes), f"at most {most} of vectors of width {rest.shape[1]}")
    centroids = []
    for level, size in enumerate(codebook_sizes):
        if progress:
            progress(f"clustering level {level + 1}", level, len(codebook_sizes))
        distinct = len(np.unique(rest, axis=0))
        if level == 0 and distinct < size:
            raise InputError("codebook_sizes", tuple(codebook_sizes), f"at most {distinct}, the distinct item vectors")
        with threadpool_limits(1):
            fitted = KMeans(min(size, distinct), n_init=1, random_state=seed).fit(rest).cluster_centers_
            rest -= fitted[_nearest(rest, fitted)]
        unused = np.repeat(fitted[:1], size - len(fitted), axis=0)
        centroids.append(np.concatenate([fitted, unused]).astype(np.float32))
    return Codebook(tuple(centroids))


def check_sizes(codebook_sizes: Sequence[int]) -> None:
    """Raise InputError unless there are levels, each of 1 to 2^31 - 1 codes."""
    fits = [isinstance(size, (int, np.integer)) and 1 <= size <= MOST_CODES for size in codebook_sizes]
    if not fits or not all(fits):
        raise InputError("codebook_sizes", tuple(codebook_sizes), f"needs a size of 1 to {MOST_CODES} for each level")


def digest(sizes: Sequence[int], *parts: np.ndarray | bytes) -> str:
    """16 hexadecimal digits of the SHA-256 over `sizes` and the bytes of `parts`."""
    sha = hashlib.sha256(repr(tuple(int(size) for size in sizes)).encode())
    for part in parts:
        sha.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).tobytes())
    return sha.hexdigest()[:16]


def _nearest(x: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Index [n] of the centroid nearest to each row of `x` [n, D]."""
    rows = max(1, CHUNK // len(centroids))
    parts = [_distances(x[at : at + rows], centroids).argmin(1) for at in range(0, len(x), rows)]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _distances(x: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Squared distances [n, V] less each row's own |x|^2, which changes no comparison in it."""
    return (centroids * centroids).sum(1) - 2 * (x @ centroids.T)


def _nearest_free(x: np.ndarray, centroids: np.ndarray, used: np.ndarray, prefix: np.ndarray) -> np.ndarray:
    """A code of its own for each row of `x` [m, D], none of `used`: row by row the nearest that is still free."""
    distances = _distances(x, centroids)
    distances[:, used] = np.inf
    if len(x) > len(centroids) - len(used):
        found = f"{len(used) + len(x)} items below prefix {tuple(prefix.tolist())}"
        raise InputError(
            "codebook_sizes", found, f"unique codes need a last level at least so large, not {len(centroids)}"
        )
    codes = np.empty(len(x), np.int32)
    for row in range(len(x)):
        codes[row] = distances[row].argmin()
        distances[:, codes[row]] = np.inf
    return codes


def _row_groups(rows: np.ndarray) -> np.ndarray:
    """A number [n] for each row that equal rows share."""
    if rows.shape[1] == 0:
        return np.zeros(len(rows), np.int64)
    return np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)


def _split_by(keys: np.ndarray, values: np.ndarray) -> list[np.ndarray]:
    """`values` [n] in one array for each distinct key, their order kept."""
    if len(values) == 0:
        return []
    order = np.argsort(keys, kind="stable")
    return np.split(values[order], np.flatnonzero(np.diff(keys[order])) + 1)
