"""Which FP8 product serves which weight: ours, torch's and DeepGEMM's at the MoE-4B's shapes, each with its error.

    python -m benchmarks.products --out results/products.jsonl

A row is one product at T rows by one implementation, timed in a CUDA graph of calls on different weights, with all that
the model needs of it: the residual added, or SwiGLU and the cast, inside of the product or by a kernel after it. `sums`
says where the sums of K are kept: in `float32` every 128 values, or left to the tensor cores (`fast`). `error` is that
of some rows against float64 on the same operands, `rounding` that of the float64 result in the output's type.

DeepGEMM (the extra `deepgemm`) is measured where it is installed; it compiles its kernels at first use, with nvcc.
`octorec.kernels.products.TABLE` follows these rows.

Letters: T rows, N and K of a weight, E experts, R experts a row, P slots (`kernels.plan`).
"""

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from benchmarks import records, unfused
from benchmarks.kernel_cases import EXPERTS, PLAN_ROWS, PRODUCTS, TOP_K, C
from benchmarks.kernel_checks import relative_error
from benchmarks.kernel_inputs import cast, normal, random_routing
from benchmarks.program import run
from benchmarks.rows import ProductFailure, ProductRow
from benchmarks.speed_report import is_right
from benchmarks.timer import time_graph
from octorec.kernels import fused
from octorec.kernels.fp8 import Quantized, dequantize
from octorec.kernels.gemm import gemm
from octorec.kernels.linear import linear
from octorec.kernels.ops import Operand
from octorec.kernels.plan import ExpertPlan, plan_experts
from octorec.kernels.products import Accumulate, Fusion

SHARED = 1
COLD_BYTES = 120e6  # of all weights of a graph, more than the L2 cache holds
SAMPLE = 256  # rows that are held against float64
Scales = Literal["rows", "groups"]
Product = Callable[[Quantized], Operand]  # of a weight


@dataclass(frozen=True)
class Case:
    """One product: scales by `rows` (token and channel) or `groups` (group and block), and what comes with it."""

    name: str
    n: int
    k: int
    scales: Scales
    experts: bool = False
    adds: bool = False
    swiglu: bool = False

    @property
    def of_x(self) -> Literal["token", "group"]:
        return "token" if self.scales == "rows" else "group"


def cases() -> list[Case]:
    out = []
    for scales in ("rows", "groups"):
        out += [
            *(Case(name, n, k, scales, adds=adds) for name, n, k, adds in PRODUCTS),
            Case("experts: gate, up, SwiGLU, cast", 2 * C, C, scales, experts=True, swiglu=True),
            Case("experts: down", C, C, scales, experts=True),
        ]
    return out


@dataclass(frozen=True)
class Inputs:
    """x [T, K], or in its slots [P, K]; several weights, which together do not fit the L2 cache."""

    x: Quantized
    weights: list[Quantized]
    residual: Tensor | None
    plan: ExpertPlan | None
    expert: Tensor | None  # [P] int32 of each slot, -1 behind the last
    ends: Tensor | None  # [E] int32: the slot behind each expert's last tile


def inputs(case: Case, rows: int) -> Inputs:
    torch.manual_seed(case.n + case.k)
    plan, expert, ends, shape = None, None, None, torch.Size((case.n, case.k))
    slots = rows
    if case.experts:
        routing = random_routing(rows, EXPERTS, TOP_K, SHARED, torch.ones(EXPERTS))
        plan = plan_experts(routing.experts, EXPERTS + SHARED, PLAN_ROWS)
        expert = plan.tile_expert.repeat_interleave(PLAN_ROWS)
        numbers = torch.arange(EXPERTS + SHARED, device=expert.device)
        ends = (expert[None, :] == numbers[:, None]).sum(1).cumsum(0).int()
        slots, shape = plan.slots, torch.Size((EXPERTS + SHARED, *shape))
    copies = min(12, max(2, int(COLD_BYTES / shape.numel()) + 1))
    of_weight: Literal["channel", "block"] = "channel" if case.scales == "rows" else "block"
    weights = [cast(normal(*shape, std=0.03), of_weight) for _ in range(copies)]
    residual = normal(slots, case.n) if case.adds else None
    return Inputs(cast(normal(slots, case.k), case.of_x), weights, residual, plan, expert, ends)


def candidates(case: Case, given: Inputs) -> Iterator[tuple[str, Accumulate, Product]]:
    """(whose, where it keeps its sums, product with a weight)."""
    if case.scales == "groups":
        yield "ours", "float32", partial(ours, case, given, True)
        if importlib.util.find_spec("deep_gemm") is not None:
            yield "DeepGEMM", "float32", partial(deep_gemm, case, given)
        return
    for sums in ("fast", "float32"):
        yield "ours", sums, partial(ours, case, given, sums == "float32")
        yield "torch", sums, partial(torch_grouped if case.experts else torch_linear, case, given, sums)


def ours(case: Case, given: Inputs, promote: bool, weight: Quantized) -> Operand:
    fusion: Fusion = "residual" if case.adds else "none"
    if case.swiglu:
        fusion = "swiglu_cast" if case.scales == "groups" else "swiglu"
    out = gemm(given.x, weight, given.plan, fusion, "float32" if promote else "fast", given.residual)
    return fused.maybe_quantize(out, case.of_x) if case.swiglu and isinstance(out, Tensor) else out


def torch_linear(case: Case, given: Inputs, sums: Accumulate, weight: Quantized) -> Operand:
    return finished(case, given, linear(given.x, weight, None, sums, "torch"))


def torch_grouped(case: Case, given: Inputs, sums: Accumulate, weight: Quantized) -> Operand:
    out = torch._scaled_grouped_mm(
        given.x.values, weight.values.mT, given.x.scale[:, 0], weight.scale[..., 0],
        offs=given.ends, out_dtype=weight.dtype, use_fast_accum=sums == "fast",
    )  # fmt: skip
    return finished(case, given, out)


def deep_gemm(case: Case, given: Inputs, weight: Quantized) -> Operand:
    library = importlib.import_module("deep_gemm")
    out = torch.empty(len(given.x.values), case.n, dtype=weight.dtype, device=weight.values.device)
    x, scaled = (given.x.values, given.x.scale), (weight.values, weight.scale)
    if given.expert is None:
        library.fp8_gemm_nt(x, scaled, out)
    else:
        library.m_grouped_fp8_gemm_nt_contiguous(x, scaled, out, given.expert)
    return finished(case, given, out)


def finished(case: Case, given: Inputs, out: Tensor) -> Operand:
    """What a product that knows nothing of it leaves to do."""
    if given.residual is not None:
        return out.add_(given.residual)
    return fused.swiglu(out, case.of_x) if case.swiglu else out


def expected(case: Case, given: Inputs, rows: int) -> tuple[Tensor, Tensor, float]:
    """Some rows of the result, their values in float64, and the relative error of these in the output's type."""
    chosen = torch.randperm(rows, device=given.x.values.device)[:SAMPLE]
    weight = dequantize(given.weights[0]).double()
    if given.plan is not None and given.expert is not None:
        chosen = given.plan.slot_of[chosen].flatten().long()
        experts = given.expert[chosen].tolist()
        x = dequantize(given.x)[chosen].double()
        exact = torch.stack([row @ weight[expert].T for row, expert in zip(x, experts, strict=True)])
    else:
        exact = dequantize(given.x)[chosen].double() @ weight.T
    if given.residual is not None:
        exact += given.residual[chosen].double()
    rounded = exact.bfloat16()
    if case.swiglu:
        exact, rounded = unfused.swiglu(exact, None), unfused.swiglu(rounded.double(), None).bfloat16()
        rounded = dequantize(cast(rounded, case.of_x))
    return chosen, exact, relative_error(rounded, exact)


def error(out: Operand, chosen: Tensor, exact: Tensor) -> float:
    """The relative error of the `chosen` rows of a result."""
    dense = dequantize(out) if isinstance(out, Quantized) else out
    return relative_error(dense[chosen], exact)


def measure(case: Case, rows: int, out: Path) -> bool:
    """Check, time and record each candidate; whether all of ours were right."""
    given, held = inputs(case, rows), True
    chosen, exact, rounding = expected(case, given, rows)
    flop = 2.0 * rows * (TOP_K + SHARED if case.experts else 1) * case.n * case.k
    for by, sums, product in candidates(case, given):
        about: dict[str, Any] = {"product": case.name, "N": case.n, "K": case.k, "scales": case.scales, "T": rows}
        about |= {"by": by, "sums": sums}
        row: ProductRow | ProductFailure
        try:
            found = error(product(given.weights[0]), chosen, exact)
            held &= is_right(found, rounding, sums) or by != "ours"
            timing = time_graph([partial(product, weight) for weight in given.weights])
            row = ProductRow(
                **about,
                us=round(timing.median * 1e3, 1),
                us_p20=round(timing.p20 * 1e3, 1),
                us_p80=round(timing.p80 * 1e3, 1),
                tflops=round(flop / timing.median / 1e9),
                error=found,
                rounding=rounding,
            )
            said = f"{row.us:8.1f} us {row.tflops:5} TFLOP/s, error {found:.2e}, rounding {rounding:.2e}"
        except Exception as failure:  # a library that refuses a shape must not take the others with it
            held &= by != "ours"
            said = records.error_text(failure)
            row = ProductFailure(**about, failure=said)
        records.append(out, row)
        print(f"{case.scales:6} {case.name:32} T {rows:5} {by:8} {sums:7} {said}", flush=True)
    return held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=records.RESULTS / "products.jsonl")
    options = parser.parse_args()
    with torch.inference_mode():
        held = [measure(case, rows, options.out) for rows in (16384, 512) for case in cases()]
    sys.exit(0 if all(held) else 1)


if __name__ == "__main__":
    run(main, "cuda")
