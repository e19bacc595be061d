"""The cases time the same work on both sides, and count it as one would by hand."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import kernel_cases, kernel_checks, kernel_inputs, kernels, records
from benchmarks.kernel_cases import CASES
from benchmarks.kernel_checks import CHECKS
from benchmarks.rows import KernelFailure, KernelRow
from benchmarks.speed_report import percent_of_ceiling
from benchmarks.timer import of_samples
from benchmarks.traffic import Traffic
from octorec.kernels import reference
from octorec.kernels.fp8 import Quantized, dequantize
from octorec.kernels.ops import Beams

SMALL = {"C": 256, "FFN": 512, "HEADS": 2, "EXPERTS": 5, "TOP_K": 2, "CODES": 64, "BEAMS": 32, "SETS": 1}
FOUND = {"copy": 2400.0, "add": 3000.0, "read": 3200.0, "bf16": 700.0, "fp8": 1400.0}


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small shapes, the references as our kernels."""
    torch.manual_seed(0)
    for name, value in SMALL.items():
        monkeypatch.setattr(kernel_cases, name, value)
    monkeypatch.setattr(kernel_inputs, "DEVICE", "cpu")
    for module in (kernel_cases, kernel_checks, kernel_inputs):
        monkeypatch.setattr(module, "fused", reference)
    monkeypatch.setattr(kernel_cases, "_moe_parts", lambda *_: iter(()))


def close(got: Any, expected: Any) -> None:
    if isinstance(got, tuple):
        for a, b in zip(got, expected, strict=True):
            close(a, b)
        return
    got, expected = (dequantize(t) if isinstance(t, Quantized) else t for t in (got, expected))
    assert got.shape == expected.shape
    assert (got.double() - expected.double()).norm() <= 0.06 * expected.double().norm()


@pytest.mark.parametrize("op", [op for op in CASES if op not in ("moe", "beam_step")])
def test_ours_and_stock_do_the_same(op: str) -> None:
    for case in CASES[op](64, []):
        for ours, stock in zip(case.calls, case.stock, strict=True):
            close(ours(), stock())
        with Traffic() as counted:
            case.stock[0]()
        assert counted.bytes >= kernels.fewest_bytes(case) * (0.5 if case.stock_is else 1)


def test_experts_do_the_same() -> None:
    cases = list(CASES["moe"](32, []))
    assert [case.name for case in cases] == ["whole, balanced", "whole, balanced, 16 bit", "whole, skewed"]
    close(cases[1].calls[0](), cases[1].stock[0]())


def test_beam_steps_do_the_same() -> None:
    trie = kernel_inputs.random_trie(3000, 64)
    without, *with_trie = CASES["beam_step"](64, trie)
    assert without.stock
    for case in with_trie:
        got, expected = case.calls[0](), case.stock[0]()
        assert isinstance(got, Beams)
        torch.testing.assert_close(got.scores, expected.scores, rtol=0, atol=1e-5)


@pytest.mark.parametrize("inference", [False, True])
def test_traffic_by_hand(inference: bool) -> None:
    x, at = torch.ones(100, 8), torch.zeros(10, dtype=torch.long)
    with torch.inference_mode(inference), Traffic() as counted:
        x.view(8, 100).T.to(torch.float32)  # nothing
        x.add(1)  # 3200 in, 3200 out
        x[at].half()  # 10 indices of 8 bytes, 320 in, 320 out; 320 in, 160 out
        x.T.reshape(800)  # 3200 in, 3200 out
    assert counted.bytes == 6400 + 80 + 640 + 480 + 6400


def test_what_bounds() -> None:
    assert kernels.bound(400, 1000, 3000) == "arithmetic"  # the ridge is at 333 FLOP per byte
    assert kernels.bound(300, 1000, 3000) == "memory"


def test_a_row_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    (case, _) = CASES["norm"](32, [])
    times = iter([of_samples([0.002]), of_samples([0.008])])
    monkeypatch.setattr(kernels, "time_graph", lambda *_: next(times))
    row = kernels.measure(case, 32, FOUND, 1)
    moved = 32 * 256 * 2 + 256 * 2 + 32 * 256 + 32 * 4  # rows and weight in, E4M3 values and scales out
    assert row.gb_s == round(moved / 2e-6 / 1e9)
    assert row.flop_per_byte == round(8 * 32 * 256 / moved, 1)
    assert (row.bound, row.times_stock, row.stock_us) == ("memory", 4.0, 8.0)
    assert percent_of_ceiling(row, kernels.ceilings_row(FOUND)) == round(100 * moved / 2e-6 / 1e9 / 3200)
    assert row.flop_per_byte_before is not None
    assert row.flop_per_byte_before < row.flop_per_byte


CHECKED = ["cast", "norm", "swiglu", *(pytest.param(op, marks=pytest.mark.slow) for op in ("self_attention", "head"))]


@pytest.mark.parametrize("op", CHECKED)
def test_checks_hold_for_the_reference(op: str) -> None:
    assert kernels.failure(op, []) is None


@pytest.mark.parametrize("op", CHECKED)
def test_checks_fail_for_a_wrong_kernel(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def off(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrong(*args: Any) -> Any:
            out = function(*args)
            return dataclasses.replace(out, scale=out.scale * 1.02) if isinstance(out, Quantized) else out * 1.01

        return wrong

    name = {"cast": "maybe_quantize", "norm": "rms_norm"}.get(op, op)
    monkeypatch.setattr(reference, name, off(getattr(reference, name)))
    assert "AssertionError" in (kernels.failure(op, []) or "")


def test_every_operation_has_a_check() -> None:
    assert set(CHECKS) == set(CASES)


def test_a_case_that_fails_is_recorded_and_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "time_graph", lambda calls, runs: calls[0]() and None)
    (case, _) = CASES["norm"](32, [])
    broken = dataclasses.replace(case, calls=[lambda: 1 / 0])
    assert not kernels.timed(broken, 32, FOUND, 1, tmp_path / "rows.jsonl")
    (row,) = records.read(tmp_path / "rows.jsonl", KernelRow, KernelFailure)
    assert isinstance(row, KernelFailure)
    assert (row.op, row.T) == ("norm", 32)
    assert row.error.startswith("ZeroDivisionError")
