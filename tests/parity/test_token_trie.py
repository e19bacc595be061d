"""The trie in a vocabulary's tokens: after which tokens of an item may which come."""

import itertools

import numpy as np
import pytest

from octorec.catalog.trie import build_trie
from octorec.models.sid_tokens import EndToken, SidTokens
from octorec.parity.token_trie import TokenTrie

SIZES = (3, 2)
SIDS = SidTokens((np.array([7, 5, 6]), np.array([20, 10])), {"": 1}, (EndToken(30), EndToken(31)))
CODES = np.array([[0, 0], [0, 1], [2, 1]], np.int32)


def paths(trie: TokenTrie, tokens: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    """Every sequence that the trie lets one write to its end."""
    children = trie.children(tokens)
    return [path for child in children for path in paths(trie, (*tokens, child))] if children else [tokens]


def test_what_it_allows_are_the_items_and_their_ends() -> None:
    trie = TokenTrie(build_trie(CODES, SIZES), SIDS)
    assert paths(trie) == [(6, 10, 30, 31), (7, 10, 30, 31), (7, 20, 30, 31)]
    assert trie.children(()) == (6, 7)


@pytest.mark.parametrize("tokens", [(5,), (7, 7), (6, 20), (7, 20, 31), (7, 20, 30, 31), (7, 20, 30, 31, 1), (99,)])
def test_after_what_begins_no_item_nothing_may_come(tokens: tuple[int, ...]) -> None:
    assert TokenTrie(build_trie(CODES, SIZES), SIDS).children(tokens) == ()


def test_withdrawn_items_and_codes_without_a_token_are_left_out() -> None:
    live = np.array([True, False, True])
    assert paths(TokenTrie(build_trie(CODES, SIZES, live), SIDS)) == [(6, 10, 30, 31), (7, 20, 30, 31)]
    gap = SidTokens((np.array([7, 5, -1]), SIDS.levels[1]), SIDS.begin, SIDS.end)
    assert paths(TokenTrie(build_trie(CODES, SIZES), gap)) == [(7, 10, 30, 31), (7, 20, 30, 31)]


def test_any_trie_allows_its_tuples_alone() -> None:
    random = np.random.default_rng(0)
    for levels in (1, 2, 4):
        sizes = (5,) * levels
        every = np.array(list(itertools.product(range(5), repeat=levels)), np.int32)
        codes = every[np.sort(random.choice(len(every), min(len(every), 30), replace=False))]
        ids = [random.permutation(5).astype(np.int64) + 10 * level for level in range(levels)]
        trie = TokenTrie(build_trie(codes, sizes), SidTokens(tuple(ids)))
        expected = sorted(tuple(int(ids[level][code]) for level, code in enumerate(row)) for row in codes)
        assert paths(trie) == expected
