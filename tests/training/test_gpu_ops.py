"""The training operations of a GPU are the references, forward and backward, in another order of sums."""

import pytest
import torch

from octorec.kernels import reference
from octorec.models.onerec import OneRecV2, initialize
from octorec.models.onerec_context import ContextBatch
from octorec.models.presets import preset
from octorec.training import gpu_ops
from octorec.training.trainer import nll


def test_they_have_every_name_of_the_references() -> None:
    operations = {name for name in vars(reference) if callable(vars(reference)[name]) and name.islower()}
    operations -= {"quantize", "dequantize"}
    assert {name for name in operations if not name.startswith("_")} <= set(vars(gpu_ops))


@pytest.mark.parametrize("changes", [{}, {"g_kv": 1}, {"s_kv": 2, "l_kv": 3}])
def test_loss_and_gradients_are_the_references(changes: dict) -> None:
    generator = torch.Generator().manual_seed(0)
    config = preset("tiny", **changes)
    sizes = config.codebook_sizes
    context = torch.stack([torch.randint(0, size, (9, 12), generator=generator) for size in sizes], -1)
    batch = ContextBatch(torch.randint(1, 13, (9,), generator=generator), context, torch.zeros(9, 0))
    codes = torch.stack([torch.randint(0, size, (9,), generator=generator) for size in sizes], 1)
    models = [OneRecV2(config, ops) for ops in (reference, gpu_ops)]
    for model in models:
        initialize(model, seed=1)
        loss = nll(model(batch, codes), codes)
        loss.backward()
    for (name, a), b in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        assert a.grad is not None, name
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")
