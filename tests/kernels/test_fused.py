"""The GPU's operations are the references' by name and signature, and load where triton cannot."""

import inspect
import subprocess
import sys
import types
from importlib import import_module

import pytest
import torch
import triton
from closeness import assert_product

from octorec.errors import InputError
from octorec.kernels import fused, reference

OPERATIONS = [
    name
    for name, value in vars(reference).items()
    if isinstance(value, types.FunctionType) and value.__module__ == reference.__name__ and not name.startswith("_")
]


@pytest.mark.parametrize("name", OPERATIONS)
def test_same_signature_as_the_reference(name: str) -> None:
    assert inspect.signature(getattr(fused, name)) == inspect.signature(getattr(reference, name))


def test_maybe_quantize(device: str) -> None:
    x = torch.randn(3, 16, device=device)
    assert fused.maybe_quantize(x, None) is x
    assert torch.equal(fused.maybe_quantize(x, "token").scale, reference.maybe_quantize(x, "token").scale)


def test_loads_without_triton() -> None:
    program = "import sys; sys.modules['triton'] = None; import octorec.kernels.fused as f; f.linear; f.moe"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_cpu_is_refused_unless_triton_interprets(monkeypatch: pytest.MonkeyPatch) -> None:
    import_module("octorec.kernels.rms_norm")  # while Triton interprets: a kernel stays what it is at its import
    monkeypatch.setattr(triton.knobs.runtime, "interpret", False)
    with pytest.raises(InputError, match="octorec"):
        fused.rms_norm(torch.randn(2, 8), torch.ones(8), 1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_logits_are_never_rounded_to_16_bit(dtype: torch.dtype, device: str) -> None:
    x, weight = torch.randn(5, 64, device=device).to(dtype), torch.randn(24, 64, device=device).to(dtype)
    logits = fused.head(x, weight)
    assert logits.dtype == torch.float32
    assert_product(logits, x, weight)
