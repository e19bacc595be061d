"""Blocks of prompts are kept, found by all that comes before them, and dropped when others need their room."""

import numpy as np
import pytest
import torch
from torch import Tensor

from octorec.engine.prefix_cache import BLOCK, PrefixCache, digests

LAYERS, ROWS, G, D = 2, 40 * BLOCK, 3, 2


def cache_of(blocks: int) -> PrefixCache:
    return PrefixCache(torch.zeros(LAYERS, 2, blocks * BLOCK + BLOCK // 2, G, D))


def pool_of(seed: int = 0) -> Tensor:
    return torch.randn(LAYERS, 2, ROWS, G, D, generator=torch.Generator().manual_seed(seed))


def prompt(blocks: int, seed: int, begins: np.ndarray | None = None) -> np.ndarray:
    """Return a prompt of whole blocks and five tokens more, which may begin with another one's tokens."""
    own = np.random.default_rng(seed).integers(0, 1000, blocks * BLOCK + 5)
    if begins is not None:
        own[: len(begins)] = begins
    return own


def kept(cache: PrefixCache, tokens: np.ndarray, pool: Tensor, first: int = 0, scope: str = "") -> None:
    cache.keep(digests(tokens, scope), pool, first)


def taken(cache: PrefixCache, tokens: np.ndarray, scope: str = "", first: int = 0) -> tuple[int, Tensor]:
    """Return how many tokens were there, and a pool of zeros that got them."""
    pool = torch.zeros(LAYERS, 2, ROWS, G, D)
    return cache.take(digests(tokens, scope), len(tokens), pool, first), pool


def test_a_prompt_that_was_kept_is_found_and_another_is_not() -> None:
    cache, pool, tokens = cache_of(8), pool_of(), prompt(3, 1)
    assert taken(cache, tokens)[0] == 0
    kept(cache, tokens, pool, first=100)
    count, got = taken(cache, tokens, first=7)
    assert count == 3 * BLOCK
    assert got[:, :, 7 : 7 + count].equal(pool[:, :, 100 : 100 + count])
    assert not got[:, :, :7].any()
    assert not got[:, :, 7 + count :].any()
    assert taken(cache, prompt(3, 2))[0] == 0


@pytest.mark.parametrize(("width", "dtype"), [(1, torch.bfloat16), (3, torch.float32), (16, torch.bfloat16)])
def test_rows_of_any_number_of_bytes_are_copied(width: int, dtype: torch.dtype) -> None:
    pool = torch.randn(3, 2, ROWS, 1, width).to(dtype)
    cache, tokens, got = PrefixCache(torch.zeros(3, 2, 4 * BLOCK, 1, width, dtype=dtype)), prompt(3, 1), pool * 0
    kept(cache, tokens, pool, first=10)
    assert cache.take(digests(tokens, ""), len(tokens), got, 20) == 3 * BLOCK
    assert got[:, :, 20 : 20 + 3 * BLOCK].equal(pool[:, :, 10 : 10 + 3 * BLOCK])
    assert cache.nbytes == 3 * BLOCK * 6 * width * dtype.itemsize


def test_the_last_token_is_never_found() -> None:
    cache, tokens = cache_of(8), prompt(3, 1)[: 2 * BLOCK]
    kept(cache, tokens, pool_of())
    assert len(cache) == 2
    assert taken(cache, tokens)[0] == BLOCK
    assert taken(cache, np.append(tokens, 5))[0] == 2 * BLOCK
    assert taken(cache, tokens[:BLOCK])[0] == 0
    assert taken(cache, tokens[:1])[0] == 0


def test_a_prompt_that_begins_alike_gets_what_is_the_same() -> None:
    cache, pool, tokens = cache_of(20), pool_of(), prompt(4, 1)
    kept(cache, tokens, pool)
    longer = prompt(6, 2, tokens[: 2 * BLOCK + 10])
    count, got = taken(cache, longer)
    assert count == 2 * BLOCK
    assert got[:, :, :count].equal(pool[:, :, :count])
    kept(cache, longer, pool_of(1))
    assert len(cache) == 4 + 4  # what was there already is not kept twice
    count, got = taken(cache, longer)
    assert count == 6 * BLOCK
    assert got[:, :, : 2 * BLOCK].equal(pool[:, :, : 2 * BLOCK])
    assert got[:, :, 2 * BLOCK : count].equal(pool_of(1)[:, :, 2 * BLOCK : count])


def test_the_same_tokens_after_others_are_another_block() -> None:
    cache, tokens = cache_of(20), prompt(3, 1)
    kept(cache, tokens, pool_of())
    assert taken(cache, np.concatenate([prompt(1, 2)[:BLOCK], tokens]))[0] == 0


def test_scopes_share_nothing() -> None:
    cache, tokens = cache_of(20), prompt(3, 1)
    kept(cache, tokens, pool_of(), scope="a")
    assert taken(cache, tokens, "b")[0] == taken(cache, tokens)[0] == 0
    kept(cache, tokens, pool_of(1), scope="b")
    assert len(cache) == 6
    for scope, seed in (("a", 0), ("b", 1)):
        count, got = taken(cache, tokens, scope)
        assert got[:, :, :count].equal(pool_of(seed)[:, :, :count])


def test_what_was_used_longest_ago_goes_first_and_the_budget_is_kept() -> None:
    cache = cache_of(6)
    prompts = [prompt(2, seed) for seed in range(4)]
    for seed, tokens in enumerate(prompts[:3]):
        kept(cache, tokens, pool_of(seed))
    assert (len(cache), cache.evicted) == (6, 0)
    assert cache.nbytes == 6 * BLOCK * LAYERS * 2 * G * D * 4
    assert taken(cache, prompts[0])[0] == 2 * BLOCK  # used again
    kept(cache, prompts[3], pool_of(3))
    assert (len(cache), cache.evicted) == (6, 2)
    assert [taken(cache, tokens)[0] // BLOCK for tokens in prompts] == [2, 0, 2, 2]
    for seed in (0, 2, 3):
        count, got = taken(cache, prompts[seed])
        assert got[:, :, :count].equal(pool_of(seed)[:, :, :count])


def test_a_prompts_end_goes_before_its_beginning() -> None:
    cache = cache_of(4)
    kept(cache, prompt(3, 1), pool_of())
    kept(cache, prompt(2, 2), pool_of())
    assert taken(cache, prompt(3, 1))[0] == 2 * BLOCK


def test_a_prompt_that_is_larger_than_the_cache_leaves_its_beginning() -> None:
    cache, pool = cache_of(4), pool_of()
    kept(cache, prompt(2, 1), pool_of(1))
    kept(cache, prompt(9, 2), pool)
    count, got = taken(cache, prompt(9, 2))
    assert count == 4 * BLOCK
    assert got[:, :, :count].equal(pool[:, :, :count])
    none = cache_of(0)
    kept(none, prompt(2, 1), pool)
    assert taken(none, prompt(2, 1))[0] == len(none) == 0


def test_many_prompts_at_random_get_what_they_kept() -> None:
    """What a block holds is a function of the tokens up to it, as with a model."""
    random, cache = np.random.default_rng(0), cache_of(12)
    bases = [prompt(6, seed) for seed in range(4)]

    def computed(tokens: np.ndarray) -> Tensor:
        values = torch.from_numpy(tokens).cumsum(0).float()
        return (values[:, None, None] * torch.ones(LAYERS, 2, 1, G, D)).contiguous()

    hits = 0
    for step in range(300):
        base = bases[random.integers(4)]
        cut = int(random.integers(1, len(base)))
        tokens = base[:cut] if step % 3 else np.concatenate([base[:cut], random.integers(0, 1000, 70)])
        count, got = taken(cache, tokens)
        assert got[:, :, :count].equal(computed(tokens)[:, :, :count])
        assert count < len(tokens)
        hits += count > 0
        kept(cache, tokens, computed(tokens))
        assert len(cache) <= 12
    assert hits > 50
    assert cache.evicted > 50
