"""Histories become batches: every item is predicted from those before it, and items are left out at random.

Letters: B histories of a batch, n items of the longest, L levels, m items in all.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from octorec.catalog.catalog import Catalog
from octorec.data.interactions import Interactions
from octorec.models.sid_tokens import SidTokens

FEWEST = 2  # items that are always kept


class Batch(NamedTuple):
    """A Batch is histories of about one length.

    tokens [B, n * (L + 1)] int64: each item's begin token and codes, 0 behind the last. items [m] int64: the real ones
    among the B * n places of items.
    """

    tokens: np.ndarray
    items: np.ndarray


@dataclass(frozen=True)
class Histories:
    """Histories hold what users took. items [sum of lengths] int64: places in the catalog. starts [users + 1]."""

    items: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, interactions: Interactions, catalog: Catalog) -> "Histories":
        """Return the histories of all users; InputError for an item that the catalog lacks."""
        return cls(catalog.places(interactions.table["item_id"].to_pylist()), interactions.user_starts())


def item_tokens(catalog: Catalog, sids: SidTokens) -> np.ndarray:
    """Return the tokens [items, L + 1] int64 of each item of the catalog: begin, then its codes."""
    levels = [ids[catalog.codes[:, level]] for level, ids in enumerate(sids.levels)]
    return np.stack([np.full(len(catalog), sids.begin[""], np.int64), *levels], 1)


def left_out(histories: Histories, rate: float, random: np.random.Generator) -> Histories:
    """Leave out items. A history draws the share that goes from 0 to 2 * rate, at most 1; its last two may come back.

    So that histories of all lengths are learned, and what stood further back too, as `training.examples.drop_items`
    has it.
    """
    lengths = np.diff(histories.starts)
    shares = np.minimum(1, 2 * rate * random.random(len(lengths)))
    kept = random.random(len(histories.items)) >= shares.repeat(lengths)
    few = np.add.reduceat(kept, histories.starts[:-1], dtype=np.int64) < FEWEST
    for back in range(1, FEWEST + 1):
        kept[(histories.starts[1:] - back)[few & (lengths >= back)]] = True
    counts = np.add.reduceat(kept, histories.starts[:-1], dtype=np.int64)
    return Histories(histories.items[kept], np.append(0, counts.cumsum()))


def epoch(
    histories: Histories, tokens: np.ndarray, batch: int, longest: int, rate: float, random: np.random.Generator
) -> Iterator[Batch]:
    """Yield batches of at most `batch` places of items, in random order, of every history once.

    tokens: of each item of the catalog. longest: items of a history; of a longer one a random window is taken.
    """
    some = left_out(histories, rate, random)
    lengths = np.diff(some.starts)
    spare = np.maximum(lengths - longest, 0)
    first = some.starts[:-1] + (random.random(len(lengths)) * (spare + 1)).astype(np.int64)
    lengths = np.minimum(lengths, longest)
    order = np.lexsort((random.random(len(lengths)), lengths))
    cuts = _cuts(lengths[order], batch)
    for place in random.permutation(len(cuts) - 1):
        rows = order[cuts[place] : cuts[place + 1]]
        yield made(some.items, first[rows], lengths[rows], tokens)


def made(items: np.ndarray, first: np.ndarray, lengths: np.ndarray, tokens: np.ndarray) -> Batch:
    """Return the batch of histories that begin at `first` [B] in `items` and have `lengths` [B]."""
    slots = np.arange(lengths.max())
    real = slots < lengths[:, None]  # [B, n]
    places = items[np.where(real, first[:, None] + slots, 0)]
    found = np.where(real[..., None], tokens[places], 0)  # [B, n, L + 1]
    return Batch(found.reshape(len(first), -1), np.flatnonzero(real))


def _cuts(lengths: np.ndarray, batch: int) -> list[int]:
    """Cut ascending lengths into runs whose longest times their number is at most `batch`."""
    cuts = [0]
    while cuts[-1] < len(lengths):
        begin = cuts[-1]
        sizes = lengths[begin : begin + batch] * np.arange(1, len(lengths[begin : begin + batch]) + 1)
        cuts.append(begin + max(1, int(np.searchsorted(sizes, batch, "right"))))
    return cuts
