"""A codebook turns item vectors into semantic IDs, by the centroids of one level after the other.

Letters: n items, D vector width, L levels, V codes a level.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from octorec.errors import InputError

if TYPE_CHECKING:
    from octorec.catalog.nearest import Nearest

MOST_CODES = 2**31 - 1  # a level: codes are int32
ALLOWED = "must hold level.0, level.1, ... float32 [codes, width], finite"


@dataclass(frozen=True)
class Fit:
    """A Fit says how a codebook was fitted.

    vectors: how many there were; used: how many of them each level was fitted to. iterations of each level, 0 where
    each distinct vector became a centroid. errors: the vectors' mean squared length, and what each level leaves of it.
    """

    vectors: int
    used: tuple[int, ...]
    iterations: tuple[int, ...]
    errors: tuple[float, ...]

    def __str__(self) -> str:
        """Return one line for people."""
        used = ", ".join(f"{number:,}" for number in self.used)
        iterations = ", ".join(map(str, self.iterations))
        errors = " -> ".join(f"{error:.4g}" for error in self.errors)
        said = f"{used} of {self.vectors:,} vectors used a level, {iterations} iterations over them"
        return f"{said}; mean squared residual {errors}"


@dataclass(frozen=True, eq=False)
class Codebook:
    """A Codebook holds the centroids of each level.

    centroids: one array [V, D] float32 a level; level l's describe what the levels before it left over.

    fit: None where that is not known, as after `load`.
    """

    centroids: tuple[np.ndarray, ...]
    fit: Fit | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(len(level) for level in self.centroids)

    @property
    def width(self) -> int:
        return self.centroids[0].shape[1]

    @cached_property
    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that name this codebook: SHA-256 over sizes and centroids."""
        return digest(self.sizes, *self.centroids)

    def assign(self, vectors: np.ndarray) -> np.ndarray:
        """Return the codes [n, L] int32 of `vectors` [n, D]: each level's nearest centroid, of equally
        near ones the lower code.

        A vector's codes do not depend on the vectors beside it, nor on threads or processor.
        """
        return self.assign_with_rest(vectors)[0]

    def assign_with_rest(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the codes [n, L] int32, and what the levels before the last leave over [n, D] float32."""
        rest = np.array(vectors, np.float32)
        assert rest.shape == (len(rest), self.width)
        codes = np.empty((len(rest), len(self.centroids)), np.int32)
        for level, centroids in enumerate(self.centroids):
            codes[:, level] = self._nearest[level].search(rest)[0][:, 0]
            if level < len(self.centroids) - 1:
                rest -= centroids[codes[:, level]]
        return codes, rest

    @cached_property
    def _nearest(self) -> "list[Nearest]":
        from octorec.catalog.nearest import Nearest  # loads faiss, which only these codes need

        return [Nearest(level) for level in self.centroids]

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


def check_sizes(codebook_sizes: Sequence[int]) -> None:
    """Raise InputError unless there are levels, each of 1 to 2^31 - 1 codes."""
    fits = [isinstance(size, (int, np.integer)) and 1 <= size <= MOST_CODES for size in codebook_sizes]
    if not fits or not all(fits):
        raise InputError("codebook_sizes", tuple(codebook_sizes), f"needs a size of 1 to {MOST_CODES} for each level")


def digest(sizes: Sequence[int], *parts: np.ndarray | bytes) -> str:
    """Return 16 hexadecimal digits of the SHA-256 over `sizes` and the bytes of `parts`."""
    sha = hashlib.sha256(repr(tuple(int(size) for size in sizes)).encode())
    for part in parts:
        sha.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).tobytes())
    return sha.hexdigest()[:16]
