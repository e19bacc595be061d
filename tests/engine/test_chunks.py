"""Prompts are laid out for reading: each new token once, in its place, in chunks of any size."""

import numpy as np
import pytest

from octorec.engine.chunks import Layout

PROMPTS = [np.arange(10, 17), np.arange(100, 101), np.arange(200, 211)]


def layout(*cached: int) -> Layout:
    found = Layout.of(PROMPTS)
    found.cached[:] = cached
    return found


def test_new_tokens_lie_one_prompt_after_the_other() -> None:
    tokens, positions, rows = layout(3, 0, 10).packed()
    assert tokens.tolist() == [13, 14, 15, 16, 100, 210]
    assert positions.tolist() == [3, 4, 5, 6, 0, 10]
    assert rows.tolist() == [3, 4, 5, 6, 7, 18]  # contexts lie one after the other, what was cached too


def test_the_spans_of_one_chunk_are_those_of_all_prompts_and_blank_requests_follow() -> None:
    ((queries, first, lengths),) = layout(3, 0, 10).spans(5, 100)
    assert queries.tolist() == [0, 4, 5, 6, 6, 6]
    assert first.tolist() == [0, 7, 8, 0, 0]
    assert lengths.tolist() == [7, 1, 11, 1, 1]


@pytest.mark.parametrize("most", [1, 2, 3, 5, 6, 7])
@pytest.mark.parametrize("cached", [(0, 0, 0), (3, 0, 10), (6, 0, 0)])
def test_each_token_is_read_once_with_all_before_it(most: int, cached: tuple[int, ...]) -> None:
    """A token's context ends with it, as attention reads spans: the last new token ends the context of its chunk."""
    plan, size = layout(*cached), 4
    tokens, _, rows = plan.packed()
    chunks, seen, start = list(plan.spans(size, most)), [], 0
    for queries, first, lengths in chunks:
        for request in range(size):
            count = queries[request + 1] - queries[request]
            for place in range(count):
                row = start + queries[request] + place
                context = lengths[request] - count + place + 1
                assert rows[row] == first[request] + context - 1
                assert tokens[row] == PROMPTS[request][context - 1]
                seen.append((request, context - 1))
        assert queries[-1] <= most
        assert (np.diff(queries) >= 0).all()
        start += queries[-1]
    assert start == len(tokens) == plan.new
    assert seen == [(at, place) for at, prompt in enumerate(PROMPTS) for place in range(cached[at], len(prompt))]
    assert lengths.tolist() == [7, 1, 11, 1]  # the last chunk's are those of whole prompts
