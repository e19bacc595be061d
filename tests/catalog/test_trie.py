"""The flat trie against one of Python dictionaries."""

import time
import tracemalloc

import numpy as np
import pytest

from octorec.catalog import trie as catalog_trie
from octorec.catalog.trie import build_trie, code_order
from octorec.kernels import ops


def random_codes(n, sizes, seed=0):
    codes = np.random.default_rng(seed).integers(0, sizes, (n, len(sizes)), dtype=np.int32)
    return codes[code_order(codes, sizes)]


def walk(trie, level, node, prefix):
    """Every node below `node` as (prefix, live, sets), read the way the beam step reads them."""
    arrays = trie.levels[level]
    for child in range(arrays.child_start[node], arrays.child_start[node + 1]):
        path = (*prefix, int(arrays.child_code[child]))
        sets = None if arrays.child_sets is None else tuple(arrays.child_sets[child].tolist())
        yield child, path, int(arrays.child_live[child]), sets
        if level + 1 < len(trie.levels):
            yield from walk(trie, level + 1, child, path)


def expected_nodes(codes, live, bits):
    """prefix -> (live items, union of their sets)."""
    nodes = {}
    for row, alive, sets in zip(codes.tolist(), live, bits.tolist(), strict=True):
        for level in range(1, len(row) + 1):
            count, union = nodes.get(tuple(row[:level]), (0, [0] * len(sets)))
            if alive:
                union = [a | b for a, b in zip(union, sets, strict=True)]
            nodes[tuple(row[:level])] = count + int(alive), union
    return nodes


@pytest.mark.parametrize("sizes", [(4, 3, 5), (7,), (2, 2, 2, 2, 2), (3, 40000)])
def test_matches_a_dictionary(sizes):
    rng = np.random.default_rng(1)
    codes = random_codes(300, sizes)
    live = rng.random(300) < 0.3
    bits = rng.integers(-(2**63), 2**63, (300, 2))
    trie = build_trie(codes, sizes, live, bits)
    expected = expected_nodes(codes, live, bits)
    found = {}
    for child, path, count, sets in walk(trie, 0, 0, ()):
        if len(path) == len(sizes):
            items = range(trie.leaf_items[child], trie.leaf_items[child + 1])
            assert [tuple(codes[item]) for item in items] == [path] * len(items)
        assert sets == tuple(expected[path][1])
        found[path] = count
    assert found == {path: count for path, (count, _) in expected.items()}
    assert trie.leaf_items[-1] == 300


def test_nodes_ascend_by_prefix():
    trie = build_trie(random_codes(200, (5, 5, 5)), (5, 5, 5))
    by_level = [[], [], []]
    for child, path, _, _ in walk(trie, 0, 0, ()):
        by_level[len(path) - 1].append((child, path))
    for nodes in by_level:
        assert [child for child, _ in nodes] == list(range(len(nodes)))
        assert [path for _, path in nodes] == sorted(path for _, path in nodes)


def test_fields_and_types_are_those_of_the_beam_step():
    assert catalog_trie.TrieLevel._fields == ops.TrieLevel._fields
    for size, code_type in [(32768, np.int16), (32769, np.int32)]:
        codes = np.array([[0, size - 1], [1, 0]], np.int32)
        bits = np.zeros((2, 1), np.int64)
        trie = build_trie(codes, (2, size), set_bits=bits)
        assert [array.dtype for array in trie.levels[1]] == [np.int32, code_type, np.int32, np.int64]
        assert build_trie(codes, (2, size)).levels[1].child_sets is None
        assert trie.leaf_items.dtype == np.int32
        assert trie.levels[1].child_code.tolist() == [size - 1, 0]


def test_another_live_mask_shares_the_structure():
    codes = random_codes(500, (6, 6, 6))
    bits = np.random.default_rng(2).integers(0, 8, (500, 1))
    live = np.random.default_rng(3).random(500) < 0.1
    all_live = build_trie(codes, (6, 6, 6), set_bits=bits)
    masked = all_live.with_live(live, bits)
    built = build_trie(codes, (6, 6, 6), live, bits)
    for a, b, c in zip(masked.levels, built.levels, all_live.levels, strict=True):
        np.testing.assert_array_equal(a.child_live, b.child_live)
        assert a.child_start is c.child_start
        assert a.child_code is c.child_code
    np.testing.assert_array_equal(masked.levels[-1].child_sets, built.levels[-1].child_sets)
    assert all_live.levels[0].child_live.sum() == 500
    assert masked.with_live(np.zeros(500, bool), bits).levels[0].child_live.tolist() == [0] * 6


@pytest.mark.parametrize("sizes", [(8192, 8192, 8192), (2**20, 2**20, 2**20, 2**20)])
def test_code_order_sorts_and_breaks_ties(sizes):
    codes = np.random.default_rng(0).integers(0, 3, (500, len(sizes)), dtype=np.int32)
    codes[:20, 1] += np.int32(sizes[1] - 3)
    ties = np.random.default_rng(1).permutation(500)
    expected = sorted(range(500), key=lambda item: (*codes[item].tolist(), ties[item]))
    assert code_order(codes, sizes, ties).tolist() == expected
    expected = sorted(range(500), key=lambda item: tuple(codes[item].tolist()))
    assert code_order(codes, sizes).tolist() == expected


def test_unsorted_codes_are_our_own_error():
    with pytest.raises(AssertionError):
        build_trie(np.array([[0, 1], [0, 0]], np.int32), (2, 2))


@pytest.mark.slow
def test_ten_million_items():
    sizes = (8192, 8192, 8192)
    codes = np.random.default_rng(0).integers(0, 8192, (10_000_000, 3), dtype=np.int32)
    tracemalloc.start()
    start = time.process_time()
    codes = codes[code_order(codes, sizes)]
    trie = build_trie(codes, sizes)
    seconds = time.process_time() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    start = time.process_time()
    trie.with_live(np.ones(len(codes), bool))
    again = time.process_time() - start
    print(f"\n10M items: {seconds:.1f} s with sorting, {trie.nbytes / 1e6:.0f} MB of arrays, peak {peak / 1e6:.0f} MB")
    print(f"beyond the codes given; another live mask {again:.2f} s")
    assert seconds < 120
    assert trie.nbytes <= 200e6
    assert trie.levels[0].child_live.sum() == 10_000_000
