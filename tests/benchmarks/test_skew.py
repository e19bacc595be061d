"""Skewed routing is as skewed as its rows say."""

from functools import partial

import pytest
import torch

from benchmarks.skew import EXPONENTS, busiest, skew, skewed_bias, zipf
from benchmarks.stock import StockOneRec
from octorec.kernels import reference
from octorec.models.onerec import OneRecV2, initialize
from octorec.models.onerec_context import ContextBatch
from octorec.models.presets import preset


def test_the_busiest_expert_of_the_moe_has_four_times_the_mean() -> None:
    assert abs(float(zipf(53, EXPONENTS["skewed"])[0]) - 4) < 0.05


@pytest.mark.parametrize("exponent", EXPONENTS.values())
def test_loads_follow_zipf(exponent: float) -> None:
    torch.manual_seed(0)
    scores = (torch.randn(2048, 53) * 0.75).sigmoid()
    chosen = (scores + skewed_bias(scores, 3, exponent)).topk(3).indices.flatten()
    loads = chosen.bincount(minlength=53) / (2048 * 3 / 53)
    assert ((loads / zipf(53, exponent) - 1).abs() < 0.1).all()


def test_the_routers_of_a_model() -> None:
    config = preset("tiny", d_model=64, n_expert=8, codebook_sizes=(400, 400, 400))
    model = OneRecV2(config, reference)
    initialize(model, seed=0)
    lengths, codes = torch.full((4,), 6), torch.randint(0, 400, (4, 6, 3))
    context = ContextBatch(lengths, codes, torch.zeros(4, 0))
    decoded = torch.randint(0, 400, (2, 4, 200)), torch.zeros(4, 200, dtype=torch.long)
    run = partial(_decode, model, context, *decoded)
    with torch.no_grad():
        before = busiest(model, run)
        skew(model, run, 0.5)
        after = busiest(model, run)
    assert abs(before - after) > 0.3
    assert abs(after - float(zipf(8, 0.5)[0])) < 0.25


def _decode(model: OneRecV2, context: ContextBatch, codes: torch.Tensor, parents: torch.Tensor) -> None:
    kv = model.encode_context(context)
    model.decode_level(0, None, None, kv)
    model.decode_level(1, codes[0], parents, kv)


def test_stock_routers_are_balanced_by_the_same_biases() -> None:
    torch.manual_seed(0)
    config = preset("tiny", d_model=64, n_expert=8, codebook_sizes=(400, 400, 400))
    model = StockOneRec(config, torch.bfloat16)
    features = torch.randn(4, 6, 4 * config.embed_dim, dtype=torch.bfloat16)
    run = partial(model, features, 100)
    with torch.no_grad():
        before = busiest(model, run)
        skew(model, run, EXPONENTS["balanced"])
        codes, scores = model(features, 100)
        assert busiest(model, run) < min(1.5, before)
    assert codes.shape == (4, 100, 3)
    assert scores.isfinite().all()


@pytest.mark.parametrize(("routing", "most"), [("balanced", 1.35), ("skewed", 2.2)])
def test_every_level_is_as_even_as_said(routing: str, most: float) -> None:
    """Rows of a level share far more than sets them apart, as in a model with random weights."""
    torch.manual_seed(0)
    config = preset("tiny", d_model=64, n_expert=8, codebook_sizes=(400, 400, 400))
    model = OneRecV2(config, reference)
    initialize(model, seed=0)
    model.position.data += torch.randn(3, 64) * 0.05
    context = ContextBatch(torch.full((4,), 6), torch.randint(0, 400, (4, 6, 3)), torch.zeros(4, 0))
    codes, parents = torch.randint(0, 400, (2, 4, 200)), torch.zeros(4, 200, dtype=torch.long)

    def run() -> None:
        kv = model.encode_context(context)
        model.decode_level(0, None, None, kv)
        model.decode_level(1, codes[0], parents, kv)
        model.decode_level(2, codes[1], parents, kv)

    with torch.no_grad():
        before = busiest(model, run)
        skew(model, run, EXPONENTS[routing])
        assert busiest(model, run) < min(most, before)
