"""The references and the GPU's kernels are both `Ops`, and what a CPU needs loads where triton cannot."""

import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import triton
from closeness import assert_product

from benchmarks import unfused
from octorec.engine.engine import Engine, EngineConfig
from octorec.errors import InputError
from octorec.kernels import fused, reference
from octorec.kernels.device import ops_for
from octorec.kernels.ops import OPERATIONS, Ops, Variant
from octorec.quant.load import load_model
from octorec.training import gpu_ops


def parameters(operation: object) -> list[inspect.Parameter]:
    assert callable(operation)
    return [p for p in inspect.signature(operation).parameters.values() if p.name != "self"]


@pytest.mark.parametrize("ops", [reference, fused, gpu_ops, unfused], ids=lambda ops: ops.__name__)
@pytest.mark.parametrize("name", [*OPERATIONS, "check_device", "check_sizes", "check_beams"])
def test_each_operation_has_the_contracts_arguments(name: str, ops: Ops) -> None:
    expected, found = parameters(getattr(Ops, name)), parameters(getattr(ops, name))
    assert found[: len(expected)] == expected
    assert all(parameter.default is not inspect.Parameter.empty for parameter in found[len(expected) :])


def test_the_contract_says_everything_about_an_operation() -> None:
    for name in OPERATIONS:
        assert getattr(Ops, name).__doc__, name
    assert {name for name, value in vars(reference).items() if inspect.isfunction(value) and name[0] != "_"} <= {
        *OPERATIONS, "check_device", "check_sizes", "check_beams", "quantize", "dequantize"
    }  # fmt: skip


def test_a_variant_is_its_base_but_for_what_it_replaces() -> None:
    variant: Ops = Variant(reference, head=lambda x, weight: "another")
    assert variant.head(torch.ones(1, 1), torch.ones(1, 1)) == "another"
    assert variant.linear is reference.linear
    with pytest.raises(AssertionError, match="residual_add"):
        Variant(reference, residual_add=lambda: None)


def test_maybe_quantize(device: str) -> None:
    x = torch.randn(3, 16, device=device)
    assert fused.maybe_quantize(x, None) is x
    assert torch.equal(fused.maybe_quantize(x, "token").scale, reference.maybe_quantize(x, "token").scale)


@pytest.mark.slow
def test_a_cpus_operations_load_without_triton() -> None:
    program = """
import sys; sys.modules['triton'] = None
import torch, octorec.engine.load, studies.quality.run
from octorec.kernels.device import ops_for
ops_for(torch.device("cpu")).linear"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_gpu_gets_the_kernels_and_a_cpu_the_references() -> None:
    assert ops_for(torch.device("cuda:1")) is fused
    assert ops_for(torch.device("cpu")) is reference


def test_a_cpu_is_refused_unless_triton_interprets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton.knobs.runtime, "interpret", False)
    with pytest.raises(InputError, match=r"octorec.kernels.reference"):
        fused.check_device(torch.device("cpu"))
    with pytest.raises(InputError, match="device: got 'cpu'"):  # before anything else is looked at
        Engine(None, None, EngineConfig(8), "cpu", Variant(fused))  # type: ignore[arg-type]


LIMITS: list[tuple[dict[str, Any], str]] = [
    ({"d_model": 96, "n_head": 2}, "d_head: got 48"),
    ({"d_ff": 20000}, "row width: got 20000"),
    ({"n_expert": 300}, "n_expert: got 300"),
    ({"n_expert": 12, "top_k": 9}, "top_k: got 9"),
]


@pytest.mark.parametrize(("sizes", "said"), LIMITS)
def test_what_no_kernel_takes_is_refused_before_weights_are_read(
    sizes: dict[str, Any], said: str, make_checkpoint: Callable[..., Path]
) -> None:
    folder = make_checkpoint("tiny", **sizes)
    load_model(folder, reference)
    for file in folder.glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:-64] + b"\xff" * 64)  # NaN, which would be refused, were it read
    with pytest.raises(InputError, match=said):
        load_model(folder, fused)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_logits_are_never_rounded_to_16_bit(dtype: torch.dtype, device: str) -> None:
    x, weight = torch.randn(5, 64, device=device).to(dtype), torch.randn(24, 64, device=device).to(dtype)
    logits = fused.head(x, weight)
    assert logits.dtype == torch.float32
    assert_product(logits, x, weight)
