"""Items are found by words of their titles, whatever their case and accents, or by their ids.

The titles lie in one column of text whose accents and case are gone, made when somebody first asks. Arrow's kernels
make and search it, and leave the interpreter to requests meanwhile.
"""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from octorec.catalog.catalog import Catalog
from octorec.serve.refusal import Refusal

LONGEST = 100  # characters of what is searched for
MOST_WORDS = 8  # of it that count
MOST_FOUND = 50
LONGEST_S = 2.0  # that a search may take
MOST_WAITING = 8  # searches at a time, of which one runs
LETTERS = {"ß": "ss", "ø": "o", "æ": "ae", "œ": "oe", "ł": "l", "đ": "d", "ı": "i"}  # that no accent was put on


@dataclass(frozen=True)
class FoundItems:
    """FoundItems are the best of those that match, and how many match. places [m]: in the catalog."""

    places: np.ndarray
    total: int


class Titles:
    """Titles finds items of one catalog. Where no item has a title, ids are searched in their place."""

    def __init__(self, catalog: Catalog):
        self.catalog = catalog
        self._making = threading.Lock()

    @cached_property
    def titled(self) -> int:
        """Return how many items have a title."""
        return int(pc.sum(pc.not_equal(self.catalog.title_column, "")).as_py() or 0)

    def find(self, text: str, most: int) -> FoundItems:
        """Return live items that have every word of a text in their titles, and the item whose id it is.

        That one comes first, then titles that begin with the first word; popular ones first, as far as that is known.
        """
        catalog = self.catalog
        words = folded(pa.array([text]))[0].as_py().split()[:MOST_WORDS]
        places = np.zeros(0, np.int64)
        begins = np.zeros(0, bool)
        if words:
            mask = catalog.live.copy()
            for word in words:
                mask &= np.asarray(pc.match_substring(self._column, word))
            places = np.flatnonzero(mask)
            begins = np.asarray(pc.starts_with(self._column.take(pa.array(places)), words[0]))
        popular = np.zeros(len(places)) if catalog.interactions is None else -catalog.interactions[places]
        places = places[np.lexsort((places, popular, ~begins))]
        own = catalog.places([text.strip()])
        if own[0] >= 0 and catalog.live[own[0]]:
            places = np.concatenate((own, places[places != own[0]]))
        return FoundItems(places[:most], len(places))

    @property
    def _column(self) -> Any:
        with self._making:
            return self._folded

    @cached_property
    def _folded(self) -> Any:
        column = self.catalog.title_column
        if not self.titled:
            column = pa.array(list(self.catalog.item_ids), pa.large_string())
        return folded(column)


class TitleSearch:
    """A TitleSearch finds items beside the event loop, one search at a time."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(1, "titles")
        self._titles: WeakKeyDictionary[Catalog, Titles] = WeakKeyDictionary()
        self._waiting = 0

    async def find(self, catalog: Catalog, text: str, most: int) -> FoundItems:
        """Return what `Titles.find` does; a Refusal where too many search, or it takes too long."""
        found: FoundItems = await self._beside(self.of(catalog).find, text, most)
        return found

    async def titled(self, catalog: Catalog) -> int:
        """Return how many items of a catalog have a title."""
        found: int = await self._beside(lambda: self.of(catalog).titled)
        return found

    def of(self, catalog: Catalog) -> Titles:
        if catalog not in self._titles:
            self._titles[catalog] = Titles(catalog)
        return self._titles[catalog]

    async def _beside(self, work: Any, *given: Any) -> Any:
        if self._waiting >= MOST_WAITING:
            raise Refusal("queue_full", f"{self._waiting} searches for titles are waiting already")
        running = asyncio.get_running_loop().run_in_executor(self._threads, work, *given)
        self._waiting += 1
        running.add_done_callback(self._ended)
        try:
            async with asyncio.timeout(LONGEST_S):
                return await asyncio.shield(running)
        except TimeoutError:
            raise Refusal("queue_full", "titles are still being searched, or made ready for that: ask again") from None

    def _ended(self, running: Any) -> None:
        self._waiting -= 1
        if not running.cancelled():
            running.exception()  # somebody has been told of it, or nobody waits any more


def folded(column: Any) -> Any:
    """Return a column of texts without accents and case."""
    plain = pc.replace_substring_regex(pc.utf8_normalize(column, "NFKD"), pattern=r"\p{Mn}+", replacement="")
    plain = pc.utf8_lower(plain)
    for letter, written in LETTERS.items():
        plain = pc.replace_substring(plain, pattern=letter, replacement=written)
    return plain
