"""Every operation at the MoE-4B's shapes, ours beside stock PyTorch's, with the work and the bytes of both.

Bytes of ours are the fewest that its kernels must move: each input once, each output once, and what passes from one of
its kernels to the next. Bytes of stock are those of every operation that PyTorch runs, counted as it runs (`Traffic`).

Letters: T rows, C model width, F FFN width, E experts, R experts a row, P = T * R, B requests, W beams.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import kernel_inputs as inputs
from benchmarks import unfused
from benchmarks.kernel_inputs import cast, normal
from benchmarks.skew import EXPONENTS, zipf
from octorec.kernels import fused
from octorec.kernels.gemm import gemm
from octorec.kernels.moe import combine, dispatch
from octorec.kernels.ops import Operand, Routing, TrieLevel
from octorec.kernels.plan import plan_experts

C, FFN, HEADS, EXPERTS, TOP_K, CODES, BEAMS = 1408, 5632, 11, 53, 3, 8192, 512
PLAN_ROWS = 128  # rows of a tile of the grouped product
SETS = 3  # calls on different memory, so that the L2 cache is not measured
Call = Callable[[], Any]


@dataclass
class Case:
    """One operation at one shape: `calls` on different memory; `stock` the same work in PyTorch's own operations.

    flop: floating-point operations. moved: bytes of a call; None: those of its arguments and its result. precision: of
    the tensor cores' inputs, which says what peak it has. stock_is: what `stock` is, where it is not the like.
    """

    op: str
    name: str
    calls: Sequence[Call]
    flop: float
    stock: Sequence[Call] = ()
    moved: float | None = None
    precision: str = "bf16"
    stock_is: str = ""


def on_each(given: list[tuple], operation: Callable[..., Any], *rest: object) -> list[Call]:
    """Calls of `operation` on each of the inputs, followed by `rest`."""
    return [partial(operation, *inputs, *rest) for inputs in given]


def cast_cases(rows: int, _: list[TrieLevel]) -> Iterator[Case]:
    given = [(normal(rows, C),) for _ in range(2 * SETS)]
    for granularity in ("token", "group"):
        stock = on_each(given, unfused.maybe_quantize, granularity)
        yield Case("cast", f"{C} by {granularity}", on_each(given, cast, granularity), 4.0 * rows * C, stock)


def norm_cases(rows: int, _: list[TrieLevel]) -> Iterator[Case]:
    given = [(normal(rows, C), normal(C), 1e-6) for _ in range(2 * SETS)]
    for granularity in ("token", None):
        rest, name = (granularity,), f"{C}, cast by {granularity}" if granularity else f"{C}, 16 bit"
        stock = on_each(given, unfused.rms_norm, *rest)
        yield Case("norm", name, on_each(given, fused.rms_norm, *rest), 8.0 * rows * C, stock)


def swiglu_cases(rows: int, _: list[TrieLevel]) -> Iterator[Case]:
    given = [(normal(rows, 2 * FFN), "token") for _ in range(SETS)]
    stock = on_each(given, unfused.swiglu)
    yield Case("swiglu", f"{FFN}, cast by token", on_each(given, fused.swiglu), 12.0 * rows * FFN, stock)


PRODUCTS = [("q", C, C, False), ("qkv", 3 * C, C, False), ("o + residual", C, C, True), ("gate, up", 2 * FFN, C, False),
            ("down + residual", C, FFN, True)]  # fmt: skip


def linear_cases(rows: int, _: list[TrieLevel]) -> Iterator[Case]:
    for name, n, k, adds in PRODUCTS:
        plain = [(normal(rows, k), normal(n, k, std=0.02), normal(rows, n) if adds else None) for _ in range(SETS)]
        eight = [(cast(x, "token"), cast(weight, "channel"), residual) for x, weight, residual in plain]
        stock, flop = on_each(plain, unfused.linear), 2.0 * rows * n * k
        label = f"{name}: {n} x {k}"
        yield Case("linear", label, on_each(eight, fused.linear), flop, stock, precision="fp8", stock_is="BF16")


def route_cases(rows: int, _: list[TrieLevel]) -> Iterator[Case]:
    rest = normal(EXPERTS, C, std=0.02), normal(EXPERTS, std=0.1, dtype=torch.float32), TOP_K, 1
    given = [(normal(rows, C),) for _ in range(2 * SETS)]
    stock = on_each(given, unfused.route, *rest)
    yield Case(
        "route", f"{C} to {EXPERTS}, top {TOP_K}", on_each(given, fused.route, *rest), 2.0 * rows * C * EXPERTS, stock
    )


def moe_cases(rows: int, _: list[TrieLevel]) -> Iterator[Case]:
    gate_up, down = normal(EXPERTS + 1, 2 * C, C, std=0.02), normal(EXPERTS + 1, C, C, std=0.02)
    blocks, channels = ((cast(gate_up, kind), cast(down, kind)) for kind in ("block", "channel"))
    xs = [(normal(rows, C), normal(rows, C)) for _ in range(SETS)]
    flop = 2.0 * rows * (TOP_K + 1) * 3 * C * C
    for kind, exponent in EXPONENTS.items():
        loads = zipf(EXPERTS, exponent).float()
        routing = inputs.random_routing(rows, EXPERTS, TOP_K, 1, loads)
        ours, stock = _moe_calls(xs, routing, blocks, "group"), _moe_calls(xs, routing, channels, "token", unfused.moe)
        moved = _moe_bytes(rows, 1)
        yield Case("moe", f"whole, {kind}", ours, flop, stock, moved, "fp8", "FP8 by channel")
        if kind == "balanced":
            ours, stock = (_moe_calls(xs, routing, (gate_up, down), None, moe) for moe in (fused.moe, unfused.moe))
            yield Case("moe", f"whole, {kind}, 16 bit", ours, flop, stock, _moe_bytes(rows, 2))
            yield from _moe_parts(xs, routing, *blocks)


def _moe_calls(
    xs: list[tuple[Tensor, Tensor]],
    routing: Routing,
    weights: tuple[Operand, Operand],
    kind: str | None,
    moe: Callable[..., Tensor] = fused.moe,
) -> list[Call]:
    return [partial(moe, x, routing, *weights, kind, residual) for x, residual in xs]


def _moe_bytes(rows: int, width: int) -> float:
    """Bytes moved by a whole MoE, operands of `width` bytes a value: gathered rows, hidden, parts, weights, sums."""
    parts = rows * (TOP_K + 1) * C
    return (
        2 * rows * C
        + 2 * parts * width
        + 2 * parts * width
        + 2 * parts * 2
        + 4 * rows * C
        + (EXPERTS + 1) * 3 * C * C * width
    )


def _moe_parts(xs: list[tuple[Tensor, Tensor]], routing: Routing, gate_up: Operand, down: Operand) -> Iterator[Case]:
    """The kernels of `moe` one by one; only slots that hold a row count as moved."""
    rows = len(xs[0][0])
    parts, weight = rows * (TOP_K + 1) * C, (EXPERTS + 1) * C * C
    plan = plan_experts(routing.experts, EXPERTS + 1, PLAN_ROWS)
    plans = [partial(plan_experts, routing.experts, EXPERTS + 1, PLAN_ROWS)] * SETS
    yield Case("moe", "order rows by expert", plans, float(routing.experts.numel()))
    calls = [partial(dispatch, x, plan, "group") for x, _ in xs]
    yield Case("moe", "gather, cast by group", calls, 4.0 * rows * C, moved=2 * rows * C + parts)
    slots = dispatch(xs[0][0], plan, "group")
    up = partial(gemm, slots, gate_up, plan, "swiglu_cast")
    hidden = up()
    name = f"gate, up: {EXPERTS + 1} x {2 * C} x {C}, SwiGLU and cast"
    yield Case("moe", name, [up] * SETS, 4.0 * parts * C, moved=2 * parts + 2 * weight, precision="fp8")
    product = partial(gemm, hidden, down, plan)
    name = f"down: {EXPERTS + 1} x {C} x {C}"
    yield Case("moe", name, [product] * SETS, 2.0 * parts * C, moved=3 * parts + weight, precision="fp8")
    given = [(product(), plan, routing.weights, residual) for _, residual in xs]
    calls = on_each(given, combine)
    yield Case("moe", "combine + residual", calls, 2.0 * parts, moved=2 * parts + 4 * rows * C)


def self_attention_cases(rows: int, _: list[TrieLevel]) -> Iterator[Case]:
    batch = rows // BEAMS
    given = [(*inputs.random_self(batch, BEAMS, HEADS, 128, (1, BEAMS)), "token") for _ in range(SETS)]
    moved = rows * C * (2 * 5 + 1)  # its own q, k, v and its parent's k, v; the first level's are one row a request
    calls, stock = on_each(given, fused.self_attention), on_each(given, unfused.self_attention)
    yield Case("self_attention", "3 positions, cast by token", calls, 12.0 * rows * C, stock, moved)


def cross_attention_cases(rows: int, _: list[TrieLevel]) -> Iterator[Case]:
    batch = rows // BEAMS
    for size, items in [(batch, 512)] + [(8, 3000)] * (batch > 8):
        given = [inputs.random_cross(size, BEAMS, items, HEADS, 128) for _ in range(SETS)]
        t, flop = size * BEAMS, 4.0 * size * BEAMS * items * C
        for granularity, width in ((None, 2), ("token", 1)):
            name = f"B {size}, context {items}, " + ("16 bit" if granularity is None else "cast by token")
            calls, stock = (on_each(given, ops.cross_attention, granularity) for ops in (fused, unfused))
            moved = t * C * (2 + width) + size * items * C * 2
            yield Case("cross_attention", name, calls, flop, stock, moved)


def head_cases(rows: int, _: list[TrieLevel]) -> Iterator[Case]:
    given = [(normal(rows, C), normal(CODES, C, std=0.02)) for _ in range(SETS)]
    stock = on_each(given, _stock_head)
    yield Case("head", f"{C} to {CODES}, float32", on_each(given, fused.head), 2.0 * rows * C * CODES, stock)


def _stock_head(x: Tensor, weight: Tensor) -> Tensor:
    return F.linear(x, weight).float()


def beam_step_cases(rows: int, trie: list[TrieLevel]) -> Iterator[Case]:
    batch = rows // BEAMS
    widths = torch.full((batch,), BEAMS, device=inputs.DEVICE)
    levels = [
        ("no trie", inputs.flat_level(CODES), 0),
        ("trie, level 1", trie[1], 0),
        ("trie, level 2", trie[2], 0),
        ("trie, level 2, 64 banned", trie[2], 64),
    ]
    for name, level, banned in levels:
        scores, nodes = inputs.random_beams(batch, BEAMS, level)
        logits = [normal(batch, BEAMS, CODES, dtype=torch.float32) * 3 for _ in range(SETS)]
        forbid = inputs.random_filter(batch, level, nodes, banned) if banned else None
        rest = scores, nodes, level, widths, BEAMS, forbid, forbid is not None
        stock: list[Call] = [partial(unfused.beam_step, x, *rest) for x in logits]
        if name == "no trie":
            stock = [partial(_stock_beams, x, scores) for x in logits]
        calls = [partial(fused.beam_step, x, *rest) for x in logits]
        yield Case(
            "beam_step", f"{BEAMS} x {CODES}, {name}", calls, 5.0 * logits[0].numel(), stock, 4.0 * logits[0].numel()
        )


def _stock_beams(logits: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    return (logits.log_softmax(-1) + scores[..., None]).flatten(1).topk(BEAMS)


CASES: dict[str, Callable[[int, list[TrieLevel]], Iterator[Case]]] = {
    "cast": cast_cases,
    "norm": norm_cases,
    "swiglu": swiglu_cases,
    "linear": linear_cases,
    "route": route_cases,
    "moe": moe_cases,
    "self_attention": self_attention_cases,
    "cross_attention": cross_attention_cases,
    "head": head_cases,
    "beam_step": beam_step_cases,
}
