"""Every candidate is held against float64 on its own operands, and the table of backends follows what was measured."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks import kernel_inputs, products, records, speed_report
from benchmarks.products import Case, Inputs
from benchmarks.rows import FILES, ProductFailure, ProductRow, recorded
from octorec.kernels import reference
from octorec.kernels.fp8 import Quantized, dequantize
from octorec.kernels.products import ACCUMULATE, HOPPER, Problem, product_for

SMALL = [
    Case("o + residual", 128, 256, "rows", adds=True),
    Case("qkv", 256, 128, "groups"),
    Case("experts: gate, up, SwiGLU, cast", 256, 128, "groups", experts=True, swiglu=True),
    Case("experts: gate, up, SwiGLU, cast", 256, 128, "rows", experts=True, swiglu=True),
    Case("experts: down", 128, 256, "rows", experts=True),
]


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(kernel_inputs, "DEVICE", "cpu")
    for name, value in (("EXPERTS", 4), ("COLD_BYTES", 0), ("SAMPLE", 16)):
        monkeypatch.setattr(products, name, value)
    for module in (products, kernel_inputs):
        monkeypatch.setattr(module, "fused", reference)


def plain(given: Inputs, weight: Quantized) -> Tensor:
    """The product alone, as a library gives it."""
    x, matrices = dequantize(given.x), dequantize(weight).view(-1, *weight.values.shape[-2:])
    experts = [0] * len(x) if given.expert is None else given.expert.clamp(min=0).tolist()
    return torch.stack([row @ matrices[expert].T for row, expert in zip(x, experts, strict=True)]).bfloat16()


@pytest.mark.parametrize("case", SMALL, ids=lambda case: f"{case.scales}, {case.name}")
def test_a_right_product_is_told_from_a_wrong_one(case: Case) -> None:
    given = products.inputs(case, 24)
    assert given.ends is None or given.ends[-1] == 128 * given.plan.n_tiles
    chosen, exact, rounding = products.expected(case, given, 24)
    errors = []
    for weight in given.weights:
        out = products.finished(case, given, plain(given, weight))
        assert isinstance(out, Quantized) == case.swiglu
        errors.append(products.error(out, chosen, exact))
    right, wrong = errors
    assert 0 < rounding < 0.05
    assert speed_report.is_right(right, rounding, "float32")
    assert not speed_report.is_right(wrong, rounding, "float32")


def test_rows_of_each_candidate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exact(case: Case, given: Inputs, promote: bool, weight: Quantized) -> Tensor:
        return (dequantize(given.x) @ dequantize(weight).T + given.residual).bfloat16()

    monkeypatch.setattr(products, "ours", exact)
    monkeypatch.setattr(products, "torch_linear", lambda case, given, sums, weight: 1 / 0)
    monkeypatch.setattr(products, "time_graph", lambda calls: type("T", (), {"median": 1.0, "p20": 0.9, "p80": 1.1}))
    out = tmp_path / "products.jsonl"
    assert products.measure(SMALL[0], 24, out)
    written = records.read(out, *FILES["products.jsonl"])
    assert [(row.by, row.sums, isinstance(row, ProductFailure)) for row in written] == [
        ("ours", "fast", False),
        ("torch", "fast", True),
        ("ours", "float32", False),
        ("torch", "float32", True),
    ]
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    assert "| rows | 24 | **1000.0** | 1000.0 |" in speed_report.products()
    monkeypatch.setattr(products, "ours", lambda case, given, promote, weight: given.residual)
    assert not products.measure(SMALL[0], 24, out)


def test_the_faster_serves() -> None:
    rows = [row for row in recorded("products.jsonl", ProductRow) if row.sums == ACCUMULATE]
    for name in ("q", "qkv", "gate, up"):
        found = [row for row in rows if (row.product, row.scales) == (name, "rows")]
        ours, torchs = (math.prod(row.us for row in found if row.by == by) for by in ("ours", "torch"))
        problem = Problem("rows", found[0].N, found[0].K, sums=ACCUMULATE)
        assert product_for(HOPPER, problem) == ("hopper" if ours < torchs else "torch"), name
