"""The bounds of each layer hold for the references, and break for a layer that is a little off."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from benchmarks import kernel_inputs, layer_errors
from octorec.kernels import reference
from octorec.kernels.ops import Routing, Variant
from octorec.models.presets import preset

CONFIG = preset("demo", d_model=256, n_head=2, n_expert=5, d_expert=128, codebook_sizes=(64, 64, 64))


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_inputs, "DEVICE", "cpu")
    for name, value in {"BATCH": 2, "BEAMS": 32, "CONTEXT": 40}.items():
        monkeypatch.setattr(layer_errors, name, value)


def test_the_references_are_within_the_bounds() -> None:
    rows = list(layer_errors.layer_errors(CONFIG, reference))
    assert len(rows) == 24
    assert all(row.held for row in rows), [row for row in rows if not row.held]
    eight = [row for row in rows if row.precision == "fp8" and row.quantization]
    assert all(row.error < row.quantization for row in eight)


def one_percent_off(function: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(*args: Any) -> Any:
        out = function(*args)
        if isinstance(out, Routing):
            return out._replace(weights=out.weights * 1.01)
        return out * 1.02 if isinstance(out, torch.Tensor) else out

    return wrong


@pytest.mark.parametrize(
    "name", ["linear", "rms_norm", "swiglu", "cross_attention", "self_attention", "route", "moe", "head"]
)
def test_a_layer_that_is_off_breaks_its_bound(name: str) -> None:
    ops = Variant(reference, **{name: one_percent_off(getattr(reference, name))})
    broken = [row.layer for row in layer_errors.layer_errors(CONFIG, ops) if not row.held]
    assert broken
    assert len(broken) <= 12  # the others still hold
