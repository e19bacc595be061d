"""The trie of a catalog in a vocabulary's tokens: after which tokens of an item may which come."""

from functools import lru_cache

import numpy as np

from octorec.catalog.trie import Trie
from octorec.models.sid_tokens import SidTokens


class TokenTrie:
    """A TokenTrie answers which tokens may follow, as the function that transformers asks at each beam and step.

    Only live items count, and codes that have a token.
    """

    def __init__(self, trie: Trie, sids: SidTokens):
        self._trie, self._sids = trie, sids
        self.children = lru_cache(maxsize=None)(self._children)

    def _children(self, tokens: tuple[int, ...]) -> tuple[int, ...]:
        """Return the tokens that may follow `tokens`, ascending; none where no item begins so, or where it ends."""
        levels = len(self._sids.levels)
        node = self._node(tokens[:levels])
        if node is None:
            return ()
        if len(tokens) < levels:
            found = self._live(len(tokens), node)
            return tuple(sorted(found))
        ends = tuple(end.id for end in self._sids.end)
        done = len(tokens) - levels
        return ends[done : done + 1] if tokens[levels:] == ends[:done] else ()

    def _node(self, tokens: tuple[int, ...]) -> int | None:
        """Return the trie's node that tokens of codes lead to; None where there is none, or no live item below it."""
        node = 0
        for level, token in enumerate(tokens):
            found = self._live(level, node).get(token)
            if found is None:
                return None
            node = found
        return node

    def _live(self, level: int, node: int) -> dict[int, int]:
        """Return the children of a node by token."""
        arrays, ids = self._trie.levels[level], self._sids.levels[level]
        places = np.arange(arrays.child_start[node], arrays.child_start[node + 1])
        places = places[arrays.child_live[places] > 0]
        tokens = ids[arrays.child_code[places]]
        return {int(token): int(place) for token, place in zip(tokens, places, strict=True) if token >= 0}
