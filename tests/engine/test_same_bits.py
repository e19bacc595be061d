"""A code tuple scores the same, to the bit, whatever the width of the beam that found it: exact rests on that."""

import pytest
import torch

from benchmarks.random_model import random_catalog, random_model, random_requests
from octorec.engine.engine import Engine, EngineConfig
from octorec.engine.request import Answer, Request
from octorec.kernels.device import ops_for
from octorec.models.onerec_config import OneRecConfig
from octorec.models.presets import preset

ON_GPU = pytest.param("cuda", marks=pytest.mark.gpu)
# Of so few codes that nearly all tuples are items: a model spends little probability on what is none.
MODELS = {
    "cpu": preset("demo", codebook_sizes=(16, 16, 16)),
    "cuda": preset("moe-4b-a0.5b", n_layer=4, max_context=64, codebook_sizes=(64, 64, 64)),
}
LOGITS = 5.0  # their standard deviation
WIDTHS = {"cpu": (8, 16, 64, 128), "cuda": (32, 64, 128, 512, 1024)}


def answers(device: str, recipe: str, config: OneRecConfig, widths: tuple[int, ...]) -> dict[int, list[Answer]]:
    """Each width's answers to the same requests."""
    n = 10_000 if device == "cpu" else 400_000
    ops = ops_for(torch.device(device))
    model = random_model(config, recipe, ops=ops, device=device)
    with torch.no_grad():
        for head in model.head:
            head.weight.mul_(LOGITS / (0.02 * config.d_model**0.5))  # so sharp that narrow beams are certified too
    limits = EngineConfig(config.max_context, batch_sizes=(4,), beam_widths=widths, default_beam_width=widths[-1])
    engine = Engine(model, random_catalog(config, n), limits, device, ops)
    drawn = random_requests(4, n, config.max_context, widths[0])
    return {
        width: engine.recommend([Request(request.history, k=5, beam_width=width) for request in drawn])
        for width in widths
    }


@pytest.mark.parametrize("recipe", ["bf16", "fp8", "fp8-channel", "fp8-block"])
@pytest.mark.parametrize("device", ["cpu", ON_GPU])
def test_scores_have_the_same_bits_at_every_width(device: str, recipe: str) -> None:
    found = answers(device, recipe, MODELS[device], WIDTHS[device])
    *narrow, widest = found.values()
    exact = 0
    for at_width in narrow:
        for answer, wide in zip(at_width, widest, strict=True):
            known = dict(zip(wide.codes, wide.scores, strict=True))
            both = zip(answer.codes, answer.scores, strict=True)
            assert all(known.get(codes, score) == score for codes, score in both)
            if answer.exact:
                exact += 1
                assert (answer.items, answer.scores) == (wide.items, wide.scores)
    assert exact > 0
