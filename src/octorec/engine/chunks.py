"""The prompts of a batch are laid out for reading, on the host: packed one after the other, in chunks of some tokens.

Letters: B requests, T tokens of a chunk.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Layout:
    """A Layout says where each prompt's context lies in a pool: one after the other, of any lengths.

    prompts: the tokens [n] int64 of each request. first [B]: the pool's row of each prompt's first token. cached [B]:
    how many tokens, from the first on, are there already; at least the last one of a prompt is not.
    """

    prompts: Sequence[np.ndarray]
    first: np.ndarray
    cached: np.ndarray

    @classmethod
    def of(cls, prompts: Sequence[np.ndarray]) -> "Layout":
        """Lay out prompts of which nothing is there yet; `cached` may be written."""
        lengths = np.array([len(prompt) for prompt in prompts])
        return cls(prompts, lengths.cumsum() - lengths, np.zeros_like(lengths))

    @property
    def lengths(self) -> np.ndarray:
        return np.array([len(prompt) for prompt in self.prompts])

    @property
    def new(self) -> int:
        """Return how many tokens are to be read."""
        return int((self.lengths - self.cached).sum())

    def packed(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the new tokens of all requests, their positions in their prompts, and their rows of the pool."""
        tokens = [prompt[start:] for prompt, start in zip(self.prompts, self.cached, strict=True)]
        positions = [np.arange(start, len(prompt)) for prompt, start in zip(self.prompts, self.cached, strict=True)]
        rows = [first + place for first, place in zip(self.first, positions, strict=True)]
        return np.concatenate(tokens), np.concatenate(positions), np.concatenate(rows)

    def spans(self, size: int, most: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield the spans of each chunk of at most `most` new tokens, for `size` requests, the last of which are blank.

        The spans are, as in `kernels.ops.Spans`, queries [size + 1], first [size] and lengths [size], of what is there
        once the chunk is read. A blank request has a context of one row, the pool's first.
        """
        count = len(self.prompts)
        first, cached, left = np.zeros((3, size), np.int64)
        first[:count], cached[:count], left[:count] = self.first, self.cached, self.lengths - self.cached
        begins = left.cumsum() - left
        for start in range(0, self.new, most):
            before, after = (np.clip(at - begins, 0, left) for at in (start, start + most))
            yield np.append(0, (after - before).cumsum()), first, np.maximum(cached + after, 1)
