"""Prompts are read in parts, into memory that is made for a batch or fixed: what is left is that of one pass."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from octorec.engine import reader as reading
from octorec.engine.prefix_cache import BLOCK
from octorec.engine.reader import Memory, Reader, memory_rows, rooms_for
from octorec.errors import InputError
from octorec.models.model import Reading, blank_inputs
from octorec.quant.load import load_model
from tests.models.qwen_made import reference_model, save

CPU = torch.device("cpu")
PROMPTS = [np.random.default_rng(seed).integers(0, 90, length) for seed, length in enumerate((150, 1, 7, 64, 65, 200))]
WHOSE = [""] * len(PROMPTS)


@pytest.fixture(scope="module", params=["qwen3", "qwen2"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp(request.param)
    return load_model(save(reference_model(request.param, max_position_embeddings=512), folder))


def read(reader: Reader, prompts: list[np.ndarray]) -> tuple[Memory, list[int]]:
    with torch.inference_mode():
        return reader.read(prompts, WHOSE[: len(prompts)])


def left(memory: Memory, count: int) -> list[Tensor]:
    """Return what reading left of each of some requests: hidden, keys and values."""
    spans = memory.spans
    found = []
    for row in range(count):
        first, length = int(spans.first[row]), int(spans.lengths[row])
        found += [memory.hidden[row].clone(), memory.pool[:, :, first : first + length].clone()]
    return found


def same(found: list[Tensor], others: list[Tensor]) -> bool:
    return all(one.equal(other) for one, other in zip(found, others, strict=True))


def near(found: list[Tensor], others: list[Tensor]) -> bool:
    """Tell whether values differ in their last bits at most: some machines round products of other sizes otherwise."""
    return all(one.allclose(other, rtol=1e-5, atol=2e-5) for one, other in zip(found, others, strict=True))


def whole(model: Any) -> list[Tensor]:
    """Return what reading leaves of each prompt alone."""
    return [part for prompt in PROMPTS for part in left(read(Reader(model, CPU, 1, 512), [prompt])[0], 1)]


def test_a_batch_leaves_what_prefill_does(model: Any) -> None:
    memory, cached = read(Reader(model, CPU, 8, 512), PROMPTS)
    assert cached == [0] * len(PROMPTS)
    inputs = blank_inputs(model.inputs(200), len(PROMPTS))
    for row, prompt in enumerate(PROMPTS):
        model.write(
            Reading(np.empty((0, 3)), (), tokens=prompt),
            lambda name, values, row=row: inputs[name][row].view(-1)[: values.size].copy_(torch.from_numpy(values)),
        )
    with torch.inference_mode():
        state, begun = model.prefill(inputs), memory.state(model, len(PROMPTS))
    assert begun.hidden.equal(state.hidden)
    assert begun.lengths.tolist() == state.lengths.tolist() == [len(prompt) for prompt in PROMPTS]
    assert same(left(memory, len(PROMPTS)), whole(model))


@pytest.mark.parametrize("most", [64, 128])
def test_chunks_of_any_size_leave_the_same(model: Any, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "CHUNK", most)
    asked: list[int] = []
    one = model.read
    monkeypatch.setattr(model, "read", lambda packed, *rest: asked.append(len(packed.tokens)) or one(packed, *rest))
    memory, _ = read(Reader(model, CPU, 8, 512), PROMPTS)
    found = left(memory, len(PROMPTS))
    assert sum(asked) == sum(map(len, PROMPTS))
    assert asked[:-1] == [most] * (len(asked) - 1) != []
    monkeypatch.undo()
    assert near(found, whole(model))


@pytest.mark.parametrize("chunk", [128, 8192])
def test_fixed_memory_leaves_the_same_whatever_fills_it_up(
    model: Any, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU's: blank requests, tokens of none, and what earlier batches left."""
    expected = whole(model)
    monkeypatch.setattr(reading, "CHUNK", chunk)
    reader = Reader(model, CPU, 8, 512)
    reader.fix(8)
    for order in (slice(None), slice(3, None), slice(1, 2), slice(None)):
        prompts = PROMPTS[order]
        memory, _ = read(reader, prompts)
        places = [*range(len(PROMPTS))[order]]
        assert near(left(memory, len(prompts)), [expected[2 * at + part] for at in places for part in (0, 1)])
        assert memory.spans.lengths[len(prompts) :].tolist() == [1] * (8 - len(prompts))
    reader.least = 400
    assert reader.room(min(151, chunk)) == min(512, chunk)
    memory, _ = read(reader, PROMPTS[:2])
    assert near(left(memory, 2), expected[:4])


@pytest.mark.parametrize(
    ("most", "last", "rows"), [(1000, 1024, 1024), (8000, 8064, 8064), (40_000, 8192, 40_064), (1, 64, 128)]
)
def test_graphs_hold_every_chunk(most: int, last: int, rows: int) -> None:
    """So a batch of as many tokens as may come is not launched by Python."""
    assert rooms_for(most)[-1] == last
    assert memory_rows(most) == rows


def test_more_tokens_than_there_is_room_for_are_refused(model: Any) -> None:
    with pytest.raises(AssertionError, match="487 tokens in a batch of at most 480"):
        read(Reader(model, CPU, 8, 480), PROMPTS)


@pytest.mark.parametrize("wrong", [[], [97], [-1], [1] * 600])
def test_what_is_no_prompt_is_refused_before_anything_is_read(model: Any, wrong: list[int]) -> None:
    with pytest.raises(InputError, match="input_ids"):
        read(Reader(model, CPU, 8, 1000), [PROMPTS[0], np.array(wrong, np.int64)])


@pytest.mark.parametrize("fixed", [False, True])
def test_what_was_cached_leaves_the_same_keys_and_values(model: Any, fixed: bool) -> None:
    reader = Reader(model, CPU, 8, 512, 20 * model.pool(BLOCK).nbytes)
    if fixed:
        reader.fix(8)
    first, none = read(reader, PROMPTS)
    before = left(first, len(PROMPTS))
    assert none == [0] * 6
    assert reader.cache is not None
    assert len(reader.cache) == 2 + 0 + 0 + 1 + 1 + 3
    second, cached = read(reader, PROMPTS)
    again = left(second, len(PROMPTS))
    assert cached == [128, 0, 0, 0, 64, 192]
    for found, known in zip(again, before, strict=True):
        torch.testing.assert_close(found, known, atol=1e-5, rtol=0)
    assert same(left(read(reader, PROMPTS)[0], len(PROMPTS)), again)
    assert same(left(read(reader, PROMPTS[5:])[0], 1), again[10:])  # the same cached length, alone


def test_a_cache_without_room_for_a_block_is_none(model: Any) -> None:
    size = model.pool(BLOCK).nbytes
    assert Reader(model, CPU, 8, 512).cache is None
    assert Reader(model, CPU, 8, 512, size - 1).cache is None
    assert Reader(model, CPU, 8, 512, size).cache is not None
