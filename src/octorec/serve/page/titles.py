"""Items are found by words of their titles, whatever case and accents these have."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from octorec.catalog.catalog import Catalog

BLOCK = 2**18  # characters that are looked through at once, in well under a millisecond: other threads wait so long
MOST_MATCHES = 2000  # titles that are ranked; of more, the first in code order
END = "\n"


def plain(text: str) -> str:
    """Return a title as it is searched: without case, accents and line ends."""
    if not text.isascii():
        text = "".join(one for one in unicodedata.normalize("NFKD", text) if not unicodedata.combining(one))
    return " ".join(text.casefold().split())


@dataclass(frozen=True)
class Titles:
    """Titles are those of a catalog, in blocks of lines. first: the place of the first title of each block."""

    catalog: Catalog
    blocks: Sequence[str]
    first: Sequence[int]

    @classmethod
    def of(cls, catalog: Catalog) -> "Titles":
        """Make them of all titles; a second or two for a million."""
        blocks: list[str] = []
        first: list[int] = []
        lines: list[str] = []
        size = 0
        for place, title in enumerate(catalog.titles):
            if not lines:
                first.append(place)
            lines.append(plain(title))
            size += len(lines[-1]) + 1
            if size >= BLOCK:
                blocks.append(_block(lines))
                lines, size = [], 0
        if lines:
            blocks.append(_block(lines))
        return cls(catalog, blocks, first)

    def find(self, text: str, limit: int) -> list[int]:
        """Return the places of up to `limit` live items whose titles have all words of `text`, the best match first.

        A title that begins with the text goes before one in which a word does, that before any other; of equals, what
        was met more often goes first. An empty text finds what was met most often.
        """
        asked = plain(text)
        words = asked.split()
        if not words:
            return self._most_met(limit)
        found = [
            (_how_well(title, asked), -self._met(place), place)
            for place, title in self._with(max(words, key=len))
            if all(word in title for word in words)
        ]
        return [place for _, _, place in sorted(found)[:limit]]

    def _with(self, word: str) -> Iterator[tuple[int, str]]:
        """Yield places and titles of live items that have a word, `MOST_MATCHES` at most."""
        count = 0
        for block, first in zip(self.blocks, self.first, strict=True):
            line, counted, at = 0, 0, block.find(word)
            while at >= 0:
                start, end = block.rfind(END, 0, at) + 1, block.find(END, at)
                line += block.count(END, counted, start)
                if self.catalog.live[first + line]:
                    yield first + line, block[start:end]
                    count += 1
                    if count == MOST_MATCHES:
                        return
                counted, at = start, block.find(word, end)

    def _most_met(self, limit: int) -> list[int]:
        order = self.catalog.popular_order
        places = np.arange(len(self.catalog)) if order is None else order
        return places[self.catalog.live[places]][:limit].tolist()

    def _met(self, place: int) -> int:
        return 0 if self.catalog.interactions is None else int(self.catalog.interactions[place])


def _block(lines: list[str]) -> str:
    return END.join([*lines, ""])


def _how_well(title: str, asked: str) -> int:
    if title.startswith(asked):
        return 0
    return 1 if f" {asked}" in title else 2
