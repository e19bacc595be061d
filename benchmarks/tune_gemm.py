"""Matrix products at the model's shapes: checked against float64, then swept over tiles beside torch's own.

    python -m benchmarks.tune_gemm --out benchmarks/results/tune_gemm.jsonl

Takes under four minutes; `--seconds` bounds the sweep, `--only` keeps the cases whose name holds a word. Rows of one
run compare; a row is the time of one call in a CUDA graph of calls on different weights. The first tile of a case is
checked, and the others' results are compared with its bits. Tiles are compiled beforehand, in parallel.
"""

import argparse
import contextlib
import functools
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import records
from benchmarks.timer import time_graph
from octorec.kernels.gemm import HOPPER, Tile, gemm
from octorec.kernels.plan import ExpertPlan, plan_experts
from octorec.kernels.quantize import quantize
from octorec.kernels.quantized import Quantized, dequantize
from octorec.kernels.reference import Operand

EXPERTS, SHARED, TOP_K = 53, 1, 3
DENSE = [(4224, 1408), (1408, 1408), (11264, 1408), (1408, 5632)]
COLD_BYTES = 120e6  # weights of all calls in a graph, more than the L2 cache holds
GRANULARITY = {"rows": ("token", "channel"), "groups": ("group", "block")}


@dataclass(frozen=True)
class Case:
    """One product: T rows, scales as in `gemm`, R > 0 experts a row, what is fused into it."""

    name: str
    scales: str
    rows: int
    n: int
    k: int
    fused: tuple[tuple[str, bool], ...] = ()
    experts_a_row: int = 0

    @property
    def flop(self) -> float:
        return 2.0 * self.rows * max(1, self.experts_a_row) * self.n * self.k

    @property
    def swiglu(self) -> bool:
        return dict(self.fused).get("swiglu", False)

    @property
    def adds_products(self) -> bool:
        """Whether sums of 128 of K leave the tensor cores to be added in float32."""
        return self.scales != "none" and dict(self.fused).get("promote", True)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return (EXPERTS + SHARED, self.n, self.k) if self.experts_a_row else (self.n, self.k)


def cases() -> list[Case]:
    up, fast = (("swiglu", True), ("quantize", True)), (("promote", False),)
    out = []
    for rows in (16384, 512):
        routed = {"experts_a_row": TOP_K + SHARED}
        out += [
            Case(f"experts up, groups, T{rows}", "groups", rows, 2816, 1408, up, **routed),
            Case(f"experts down, groups, T{rows}", "groups", rows, 1408, 1408, **routed),
            Case(f"experts up, 16 bit, T{rows}", "none", rows, 2816, 1408, up[:1], **routed),
            Case(f"experts down, 16 bit, T{rows}", "none", rows, 1408, 1408, **routed),
        ]
        for n, k in DENSE:
            out.append(Case(f"{n} x {k}, rows, T{rows}", "rows", rows, n, k))
            out.append(Case(f"{n} x {k}, rows fast, T{rows}", "rows", rows, n, k, fast))
            if rows == 16384:
                out.append(Case(f"{n} x {k}, groups, T{rows}", "groups", rows, n, k))
    out.append(Case("11264 x 1408, rows, swiglu, T16384", "rows", 16384, 11264, 1408, up[:1]))
    return out


def tiles(case: Case) -> list[Tile]:
    """The first is the one without surprises. With few rows only those that could matter there."""
    one = replace(HOPPER, halves=1)
    found = [HOPPER, Tile(rows=64, warps=4, stages=2, resident=2)]
    if not case.swiglu:
        found += [one, Tile(rows=64, halves=1, warps=4, stages=2, resident=3)]
    if case.rows > 1024:
        found += [replace(HOPPER, band=16), replace(HOPPER, stages=3)]
        if not case.swiglu and not case.adds_products:  # without a second set of sums wider tiles fit
            found += [replace(one, warps=4, stages=2, resident=2)]
    if case.scales == "none":
        found = [replace(tile, depth=64) for tile in found]
    return found


@dataclass
class Inputs:
    """One input and several weights of a case, which together do not fit the L2 cache."""

    x: Operand
    weights: list[Operand]
    plan: ExpertPlan | None
    experts: Tensor | None


@functools.lru_cache(maxsize=1)
def inputs(case: Case) -> Inputs:
    torch.manual_seed(case.n + case.k)
    plan = experts = None
    slots = case.rows
    if case.experts_a_row:
        chosen = torch.rand(case.rows, EXPERTS, device="cuda").topk(TOP_K).indices
        shared = torch.full((case.rows, SHARED), EXPERTS, device="cuda")
        experts = torch.cat([chosen, shared], 1)
        plan = plan_experts(experts, EXPERTS + SHARED, HOPPER.rows)
        slots = plan.slots
    x = torch.randn(slots, case.k, device="cuda").bfloat16()
    bytes_a_weight = torch.Size(case.weight_shape).numel() * (2 if case.scales == "none" else 1)
    copies = min(12, max(2, int(COLD_BYTES / bytes_a_weight) + 1))
    weights = [(torch.randn(case.weight_shape, device="cuda") * 0.03).bfloat16() for _ in range(copies)]
    if case.scales == "none":
        return Inputs(x, list(weights), plan, experts)
    of_x, of_weight = GRANULARITY[case.scales]
    return Inputs(quantize(x, of_x), [quantize(weight, of_weight) for weight in weights], plan, experts)


def product(case: Case, weight: Operand, tile: Tile) -> Operand:
    given = inputs(case)
    return gemm(given.x, weight, given.plan, tile=tile, **dict(case.fused))


def bits(out: Operand, case: Case) -> Tensor:
    """The result's rows as integers, without slots that hold no row."""
    plan = inputs(case).plan
    values = out.values if isinstance(out, Quantized) else out
    values = values.view(torch.uint8)
    return values if plan is None else values[plan.slot_of.flatten().long()]


def error(case: Case, out: Operand, sample: int = 256) -> tuple[float, float]:
    """Relative error of some rows against float64, and that of the exact result rounded to the output's type alone."""
    given = inputs(case)
    weight, expert_of_slot = _dense(given.weights[0]).double(), None
    rows = torch.randperm(case.rows, device="cuda")[:sample]
    if given.plan is not None:
        rows, expert_of_slot = given.plan.slot_of[rows].flatten().long(), given.experts[rows].flatten()
    x = _dense(given.x)[rows].double()
    if expert_of_slot is None:
        exact = x @ weight.T
    else:
        exact = torch.stack([row @ weight[e].T for row, e in zip(x, expert_of_slot.tolist(), strict=True)])
    rounded = exact.bfloat16()
    if case.swiglu:
        exact, rounded = _swiglu(exact), _swiglu(rounded.double()).bfloat16()
    if isinstance(out, Quantized):
        rounded = dequantize(quantize(rounded, "group"))
    got = _dense(out)[rows].double()
    return _relative(got, exact), _relative(rounded.double(), exact)


def _dense(operand: Operand) -> Tensor:
    return dequantize(operand) if isinstance(operand, Quantized) else operand


def _swiglu(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.chunk(2, -1)
    return F.silu(gate) * up


def _relative(got: Tensor, exact: Tensor) -> float:
    return float((got - exact).norm() / exact.norm())


def stock(case: Case) -> Iterator[tuple[str, Callable[[Operand], Tensor]]]:
    """torch's own products of the same shape: (name, product with a weight). Experts' rows lie without padding."""
    given = inputs(case)
    if given.experts is None:
        if isinstance(given.x, Quantized) and case.scales == "rows":
            for fast in (True, False):
                yield f"torch._scaled_mm fast={fast}", functools.partial(_scaled_mm, given.x, fast)
            x16 = dequantize(given.x).bfloat16()
            yield "torch bf16", lambda weight: F.linear(x16, _as_16_bit(weight))
        return
    counts = given.experts.flatten().bincount(minlength=EXPERTS + SHARED)
    offsets = counts.cumsum(0).int()
    rows = torch.randn(case.rows * case.experts_a_row, case.k, device="cuda").bfloat16()
    if case.scales == "none":
        yield "torch._grouped_mm", lambda weight: torch._grouped_mm(rows, weight.mT, offs=offsets)
        return
    by_row = quantize(rows, "token")
    scale = torch.ones(EXPERTS + SHARED, case.n, device="cuda")
    for fast in (True, False):
        yield f"torch._scaled_grouped_mm rowwise fast={fast}", lambda weight, fast=fast: torch._scaled_grouped_mm(
            by_row.values, weight.values.mT, by_row.scale[:, 0], scale, offs=offsets, out_dtype=torch.bfloat16,
            use_fast_accum=fast,
        )  # fmt: skip


def _scaled_mm(x: Quantized, fast: bool, weight: Quantized) -> Tensor:
    scales = {"scale_a": x.scale, "scale_b": weight.scale.T}
    return torch._scaled_mm(x.values, weight.values.T, **scales, out_dtype=torch.bfloat16, use_fast_accum=fast)


@functools.lru_cache(maxsize=16)
def _as_16_bit_of(address: int, shape: torch.Size) -> Tensor:
    return torch.randn(shape, device="cuda").bfloat16()


def _as_16_bit(weight: Quantized) -> Tensor:
    """A 16-bit weight of the same shape, one for each FP8 weight."""
    return _as_16_bit_of(weight.values.data_ptr(), weight.values.shape)


def anonymous(case: Case) -> Case:
    """What a compiled kernel knows of a case."""
    return replace(case, name="", rows=0)


def compile_all(wanted: list[tuple[Case, Tile]]) -> None:
    """Fill Triton's cache on disk, in parallel; a tile that does not compile is met again where it would run."""
    distinct = {(anonymous(case), tile) for case, tile in wanted}
    workers = min(12, max(2, (os.cpu_count() or 4) - 2))
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_never_run) as pool:
        list(pool.map(_compile, *zip(*sorted(distinct, key=str), strict=True)))


def _never_run() -> None:
    """Have this process compile what it launches, and no more."""
    from triton.runtime.jit import JITFunction

    run = JITFunction.run
    JITFunction.run = lambda self, *args, grid, warmup, **kwargs: run(self, *args, grid=grid, warmup=True, **kwargs)


def _compile(case: Case, tile: Tile) -> None:
    with contextlib.suppress(Exception):
        x, weight, plan = _empty(512, case.k), _empty(*case.weight_shape), None
        if case.experts_a_row:
            experts = torch.zeros(512, case.experts_a_row, dtype=torch.long, device="cuda")
            plan = plan_experts(experts, EXPERTS + SHARED, HOPPER.rows)
            x = _empty(plan.slots, case.k)
        if case.scales != "none":
            x, weight = (quantize(t, g) for t, g in zip((x, weight), GRANULARITY[case.scales], strict=True))
        gemm(x, weight, plan, tile=tile, **dict(case.fused))


def _empty(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.bfloat16, device="cuda")


def one_line(failure: Exception) -> str:
    return f"{type(failure).__name__}: {str(failure)[:100]}".replace("\n", " ")


def describe(tile: Tile) -> str:
    wide = f"{tile.rows}x{tile.columns}" + ("x2" if tile.halves == 2 else "")
    return f"{wide}x{tile.depth} stages {tile.stages} band {tile.band} {tile.warps} warps resident {tile.resident}"


def report(out: Path, case: Case, what: str, milliseconds: float, **more: Any) -> float:
    """Print and append one row; gives the milliseconds back."""
    tflops = case.flop / milliseconds / 1e9
    print(f"{case.name:38} {what:58} {milliseconds * 1e3:8.1f} us {tflops:7.0f} TFLOP/s", flush=True)
    row = {"op": "gemm", "case": case.name, "scales": case.scales, "T": case.rows, "N": case.n, "K": case.k}
    records.append(out, {**row, "what": what, "us": milliseconds * 1e3, "tflops": tflops, **more})
    return milliseconds


def run_case(case: Case, out: Path, until: float) -> str:
    """Check and time a case; says which of its tiles was the fastest, and which of torch's."""
    given = inputs(case)
    times: dict[str, float] = {}
    first = tiles(case)[0]
    result = product(case, given.weights[0], first)
    found, floor = error(case, result)
    print(f"{case.name}: error {found:.2e} against float64, {floor:.2e} of it the output's rounding", flush=True)
    if not found < 1.3 * floor + (0 if case.adds_products or case.scales == "none" else 5e-3):
        return "FAILED: further from float64 than its rounding explains"
    expected = bits(result, case)
    for what, multiply in stock(case):
        try:
            first_product = multiply(given.weights[0])
        except (RuntimeError, NotImplementedError) as failure:  # torch's own, which differ between its versions
            print(f"{case.name:38} {what:58} {one_line(failure)}")
            continue
        if what.startswith("torch._scaled_mm") and not case.swiglu:
            found, floor = error(case, first_product)
            print(f"{'':38} {what}: error {found:.2e}, {floor:.2e} of it the output's rounding")
        calls = [functools.partial(multiply, weight) for weight in given.weights]
        times[what] = report(out, case, what, time_graph(calls, 10).median, error=found, rounding=floor)
    for tile in tiles(case):
        verdict = "not measured: out of time" if time.monotonic() > until and tile is not first else ""
        try:
            same = verdict == "" and torch.equal(bits(product(case, given.weights[0], tile), case), expected)
        except Exception as failure:  # too many registers or too much shared memory
            verdict = one_line(failure)
        if verdict:
            print(f"{case.name:38} {describe(tile):58} {verdict}")
            continue
        calls = [functools.partial(product, case, weight, tile) for weight in given.weights]
        what = describe(tile) + ("" if same else " OTHER BITS")
        times[what] = report(out, case, what, time_graph(calls, 10).median, tile=tile.__dict__, same_bits=same)
    ranked = sorted(times, key=times.__getitem__)
    best = [next((what for what in ranked if what.startswith("torch") == stocks), None) for stocks in (False, True)]
    return " | ".join(f"{what} {times[what] * 1e3:.1f} us" for what in best if what)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSONL file that rows are appended to")
    parser.add_argument("--only", default="", help="keep the cases whose name holds this")
    parser.add_argument("--seconds", type=float, default=200, help="no new tile is timed after so long")
    args = parser.parse_args()
    start = time.monotonic()
    chosen = [case for case in cases() if args.only in case.name]
    wanted = [(case, tile) for case in chosen for tile in tiles(case)]
    compile_all(wanted)
    print(f"{len(wanted)} tiles compiled in {time.monotonic() - start:.0f} s", flush=True)
    bests = {case.name: run_case(case, args.out, start + args.seconds) for case in chosen}
    print("\nbest of ours | best of torch's")
    for name, best in bests.items():
        print(f"{name:38} {best}")


if __name__ == "__main__":
    main()
