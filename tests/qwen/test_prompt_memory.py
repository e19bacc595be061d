"""The memory of prompts on a GPU is known before weights are read, and batches are compared in rooms of all sizes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

import octorec
from octorec.engine.config import EngineConfig
from octorec.engine.needs import Needs, needs_of
from octorec.engine.reader import ROWS
from octorec.errors import InputError
from octorec.kernels.fused_shapes import Shapes
from octorec.kernels.products import card_with
from octorec.models.families import maker
from octorec.models.hf_folder import Checkpoint
from octorec.quant.load import empty_model
from tests.qwen.made_models import Made

CUDA = torch.device("cuda")
ROW = 2 * 2 * 2 * 16 * 2  # bytes of a token: layers, keys and values, groups, width of a head, bfloat16


@pytest.fixture
def needs(made: Callable[[str], Made]) -> Callable[..., Needs]:
    one, shapes = made("openonerec"), Shapes(card_with((9, 0)))
    model: Any = empty_model(maker(Checkpoint(one.folder), shapes), None, torch.bfloat16)

    def measured(**changes: Any) -> Needs:
        settings = {"batch_sizes": (4,), "beam_widths": (8,), "default_beam_width": 8, **changes}
        return needs_of(model, one.catalog, EngineConfig(**settings), shapes, CUDA)

    return measured


def test_a_pool_has_a_row_for_each_token_of_a_batch(needs: Callable[..., Needs]) -> None:
    small, large = needs(batch_tokens=1024), needs(batch_tokens=1024 + 4096)
    assert large.context - small.context == 4096 * (ROW + 3 * 8)  # and a token, its position and its row
    assert small.context == pytest.approx(1025 * ROW, rel=0.3)
    assert large.weights == small.weights > 0
    assert needs(batch_tokens=32768).graphs == needs(batch_tokens=16384).graphs  # chunks are no larger
    assert needs(batch_tokens=1024).graphs < needs(batch_tokens=8192).graphs
    assert needs().context == needs(batch_tokens=32768).context


def test_more_requests_and_beams_take_more_beside_the_pool(needs: Callable[..., Needs]) -> None:
    few = needs(batch_sizes=(1,))
    assert few.graphs < needs(batch_sizes=(32,)).graphs
    assert few.graphs < needs(batch_sizes=(1,), beam_widths=(512,)).graphs
    assert needs(batch_sizes=(32,)).context - few.context < 10**5


def test_what_is_kept_of_prompts_counts_and_is_named(needs: Callable[..., Needs]) -> None:
    found = needs(prefix_cache_bytes=3 * 10**9)
    assert found.total - needs().total == found.prefixes == 3 * 10**9
    with pytest.raises(InputError, match=r"prefix cache 3\.0 GB.*lower prefix_cache_bytes"):
        found.check(10**9)


def test_on_a_cpu_what_is_kept_counts_too(made: Callable[[str], Made], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octorec.engine.load.free_bytes", lambda device: 10**9)
    octorec.load(made("openonerec").folder, prefix_cache_bytes=5 * 10**8)
    with pytest.raises(InputError, match=r"memory: got '2\.0 GB for .*prefix cache 2\.0 GB"):
        octorec.load(made("openonerec").folder, prefix_cache_bytes=2 * 10**9)


def test_the_margin_is_measured_in_rooms_of_many_sizes(
    made: Callable[[str], Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = octorec.load(made("openonerec").folder, batch_sizes=(1, 4), beam_widths=(8, 16), default_beam_width=8)
    reader = engine.reader
    assert reader is not None
    reader.fix(4)
    read: list[int] = []
    one = reader.model.read
    monkeypatch.setattr(
        reader.model, "read", lambda packed, *rest: read.append(len(packed.tokens)) or one(packed, *rest)
    )
    monkeypatch.setattr("octorec.engine.probe.CHUNK", 512)
    engine.measure_margin()
    assert read == [512] * 4
    assert engine.margin == 0  # on a CPU
    assert reader.least == 0
    engine.search([engine.parse(engine.any_request())])
    assert read[4:] == [ROWS]
