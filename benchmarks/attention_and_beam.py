"""Attention, routing and the beam step at the model's shapes: checked, timed, compared with stock PyTorch, and swept.

    python -m benchmarks.attention_and_beam --out benchmarks/results/attention_and_beam.jsonl

Each case is captured into a CUDA graph as several calls on different memory, so that neither launches nor the L2 cache
are measured; a row is the time of one call. Bytes are the fewest that must move: each input once, each output once.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import records
from benchmarks.attention_and_beam_checks import check_all, flat_level, normal, random_beams, random_filter, random_trie
from benchmarks.timer import time_graph
from octorec.kernels import beam_step as beam
from octorec.kernels import cross_attention as cross
from octorec.kernels import route as routing
from octorec.kernels.reference import TrieLevel
from octorec.kernels.self_attention import self_attention

COPY_TB_S = 3.0  # what a device-to-device copy reached on an H100
SETS = 3  # calls on different memory in a graph
COLUMNS = (8, 8, 8, 6, 6, 8, 9, 8)  # widths in the table
Call = Callable[[], object]


@dataclass
class Case:
    """One operation at one shape: `calls` on different memory, `stock` the same in PyTorch's own operations.

    moved: bytes of a call. flop: floating-point operations on the tensor cores of a call.
    """

    op: str
    shape: str
    calls: list[Call]
    moved: float
    flop: float = 0
    variant: str = ""
    stock: list[Call] = field(default_factory=list)


def on_each(given: Sequence[tuple[Any, ...]], operation: Callable[..., object], *rest: object) -> list[Call]:
    """Calls of `operation` on each of the inputs, followed by `rest`."""
    return [partial(operation, *inputs, *rest) for inputs in given]


def measure(case: Case, runs: int) -> dict[str, Any]:
    timing = time_graph(case.calls, runs)
    stock = time_graph(case.stock, runs).median if case.stock else None
    rate = case.moved / timing.median / 1e6  # GB/s
    return {
        "op": case.op,
        "shape": case.shape,
        "variant": case.variant,
        "us": round(timing.median * 1e3, 1),
        "us_p20": round(timing.p20 * 1e3, 1),
        "us_p80": round(timing.p80 * 1e3, 1),
        "gb_s": round(rate),
        "percent_of_copy": round(rate / COPY_TB_S / 10),
        "tflops": round(case.flop / timing.median / 1e9, 1) if case.flop else None,
        "stock_us": round(stock * 1e3, 1) if stock else None,
        "times_stock": round(stock / timing.median, 2) if stock else None,
    }


def self_attention_cases() -> Iterator[Case]:
    for batch, heads, earlier in ((32, 11, (1,)), (32, 11, (1, 512)), (32, 14, (1, 512)), (1, 11, (1, 512))):
        width, rows = heads * 128, batch * 512
        given = [_self_inputs(batch, heads, earlier) for _ in range(SETS)]
        read = rows * width * 2 * (3 + 2 * sum(count > 1 for count in earlier))
        for granularity in (None, "token", "group"):
            yield Case(
                "self_attention",
                f"B{batch} W512 H{heads} positions {len(earlier) + 1}",
                on_each(given, self_attention, granularity),
                read + rows * width * (2 if granularity is None else 1),
                variant=granularity or "bf16",
                stock=on_each(given, _stock_self) if granularity is None else [],
            )


def _self_inputs(batch: int, heads: int, earlier: tuple[int, ...]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    past = [normal(batch, count, 3, heads, 128) for count in earlier]
    ancestors = [torch.randint(0, count, (batch, 512), device="cuda").sort(1).values for count in earlier]
    return normal(batch, 512, 3, heads, 128), past, ancestors


def _stock_self(qkv: Tensor, past: list[Tensor], ancestors: list[Tensor]) -> Tensor:
    rows = torch.arange(len(qkv), device="cuda")[:, None]
    positions = [level[rows, at, 1:] for level, at in zip(past, ancestors, strict=True)] + [qkv[:, :, 1:]]
    kv = torch.stack([p.flatten(0, 1) for p in positions], 3)  # [T, 2, H, positions, D]
    return F.scaled_dot_product_attention(qkv[:, :, 0].flatten(0, 1)[:, :, None], kv[:, 0], kv[:, 1])


CROSS_SHAPES = [  # B, W, S, H
    (32, 512, 512, 11, "full"), (32, 512, 512, 11, "ragged"), (8, 512, 3000, 11, "full"), (1, 512, 512, 11, "full"),
    (32, 512, 512, 14, "full"), (32, 1, 512, 11, "full"), (32, 512, 512, 11, "keys and values"),
]  # fmt: skip
CROSS_SWEEP = [(128, 128, 8, 2), (128, 128, 8, 3), (128, 64, 8, 3), (64, 128, 4, 2), (64, 64, 4, 3), (64, 64, 4, 2)]
ROUTE_SWEEP = [(64, 64, 4, 4), (64, 128, 4, 4), (128, 64, 8, 4), (32, 128, 4, 4), (64, 64, 8, 4)]


def cross_attention_cases(sweep: bool) -> Iterator[Case]:
    for batch, beams, items, heads, kind in CROSS_SHAPES:
        given = [_cross_inputs(batch, beams, items, heads, kind) for _ in range(SETS)]
        share = float(given[0][3].float().mean()) / items
        rows, width = batch * beams, heads * 128
        context = batch * items * width * 2 * share * (2 if kind == "keys and values" else 1)
        shape = f"B{batch} W{beams} S{items} H{heads} {kind}"
        flop = 4.0 * rows * items * share * width
        calls = on_each(given, cross.cross_attention, None)
        stock = on_each(given, _stock_cross) if kind != "ragged" else []
        yield Case("cross_attention", shape, calls, context + 4 * rows * width, flop, "bf16", stock)
        if (batch, beams, kind) == (32, 512, "full") and heads == 11:
            for granularity in ("token", "group"):
                calls = on_each(given, cross.cross_attention, granularity)
                yield Case("cross_attention", shape, calls, context + 3 * rows * width, flop, granularity)
        if sweep and beams == 512 and heads == 11 and kind in ("full", "ragged"):
            for tile in CROSS_SWEEP:
                calls = on_each(given, cross.cross_attention, None, cross.Tiling(*tile))
                yield Case("cross_attention", shape, calls, context + 4 * rows * width, flop, f"sweep {tile}")


def _cross_inputs(batch: int, beams: int, items: int, heads: int, kind: str) -> tuple[Tensor, ...]:
    keys = normal(batch, items, heads, 128)
    values = normal(batch, items, heads, 128) if kind == "keys and values" else keys
    lengths = torch.full((batch,), items, device="cuda")
    if kind == "ragged":
        lengths = torch.linspace(1, items, batch, device="cuda").long()
    return normal(batch, beams, heads, 128), keys, values, lengths


def _stock_cross(q: Tensor, keys: Tensor, values: Tensor, _: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2))


def route_cases(sweep: bool) -> Iterator[Case]:
    gate, bias = normal(53, 1408) * 0.02, torch.randn(53, device="cuda") * 0.1
    for rows in (16384, 512):
        xs = [(normal(rows, 1408),) for _ in range(2 * SETS)]
        moved, flop = rows * (1408 * 2 + 4 * 12), 2.0 * rows * 1408 * 53
        calls = on_each(xs, routing.route, gate, bias, 3, 1)
        stock = on_each(xs, _stock_route, gate, bias)
        yield Case("route", f"T{rows}", calls, moved, flop, "", stock)
        for tile in (
            ((64, 64, 4, 4), (64, 128, 4, 4), (128, 64, 8, 4), (32, 128, 4, 4), (64, 64, 8, 4)) if sweep else ()
        ):
            calls = on_each(xs, routing.route, gate, bias, 3, 1, routing.Tiling(*tile))
            yield Case("route", f"T{rows}", calls, moved, flop, f"sweep {tile}")


def _stock_route(x: Tensor, gate: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    scores = F.linear(x, gate).float().sigmoid()
    chosen = (scores + bias).topk(3).indices
    weights = scores.gather(1, chosen)
    return chosen, weights / weights.sum(1, keepdim=True)


def beam_cases(trie: list[TrieLevel], sweep: bool) -> Iterator[Case]:
    levels = [("no trie", flat_level(8192), 512)] + [
        (f"10M items, level {i}", trie[i], 512 if i else 1) for i in range(3)
    ]
    for batch in (32, 1):
        widths = torch.full((batch,), 512, device="cuda")
        for name, level, beams in levels:
            logits = [(normal(batch, beams, 8192, dtype=torch.float32) * 3,) for _ in range(SETS)]
            scores, nodes = random_beams(batch, beams, level)
            shape, moved = f"B{batch} W{beams} V8192 {name}", 4.0 * logits[0][0].numel()
            forbid = random_filter(batch, level, nodes, 64) if level is trie[2] else None
            calls = on_each(logits, beam.beam_step, scores, nodes, level, widths, 512, forbid)
            stock = on_each(logits, _stock_beam, scores) if name == "no trie" else []
            yield Case("beam_step", shape, calls, moved, 0, "64 banned" if forbid else "", stock)
            if batch == 32:
                _print_kernels(shape, calls[0])
            if forbid is not None:
                sets = torch.randint(0, 64, (len(level.child_code), 1), device="cuda")
                limited = level._replace(child_sets=sets)
                calls = on_each(logits, beam.beam_step, scores, nodes, limited, widths, 512, forbid)
                yield Case("beam_step", shape, calls, moved, 0, "64 banned, sets")
            for tiling in BEAM_SWEEP if sweep and batch == 32 and beams == 512 else ():
                calls = on_each(logits, beam.beam_step, scores, nodes, level, widths, 512, forbid, tiling)
                yield Case("beam_step", shape, calls, moved, 0, f"sweep {_changed(tiling)}")


BEAM_SWEEP = [
    beam.Tiling(scan_warps=4), beam.Tiling(scan_warps=16), beam.Tiling(block=4096), beam.Tiling(chunk=512),
    beam.Tiling(block=4096, scan_warps=4), beam.Tiling(block=2048, scan_warps=4), beam.Tiling(chunk=2048),
    beam.Tiling(tile=512), beam.Tiling(subtile=32), beam.Tiling(choose_warps=32), beam.Tiling(choose_warps=8),
]  # fmt: skip


def _changed(tiling: beam.Tiling) -> str:
    return " ".join(f"{k}={v}" for k, v in vars(tiling).items() if v != getattr(beam.Tiling(), k))


def _stock_beam(logits: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    total = logits.log_softmax(-1) + scores[..., None]
    return total.flatten(1).topk(512)


def _print_kernels(shape: str, call: Call) -> None:
    """Time by kernel of one operation, of ten calls."""
    call()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(10):
            call()
        torch.cuda.synchronize()
    times = {event.key: event.self_device_time_total / event.count for event in profile.key_averages()}
    print(
        f"  kernels of {shape}: " + ", ".join(f"{name} {us:.1f} us" for name, us in times.items() if us > 0), flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", default="self_attention,cross_attention,route,beam_step", help="operations, with commas"
    )
    parser.add_argument("--sweep", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--items", type=int, default=10_000_000, help="of the random catalog")
    parser.add_argument("--out", type=Path, default=records.RESULTS / "attention_and_beam.jsonl")
    parser.add_argument("--runs", type=int, default=50)
    options = parser.parse_args()
    trie = random_trie(options.items, 8192)
    check_all(trie)
    print("all kernels agree with the references", flush=True)
    cases = {
        "self_attention": self_attention_cases,
        "cross_attention": lambda: cross_attention_cases(options.sweep),
        "route": lambda: route_cases(options.sweep),
        "beam_step": lambda: beam_cases(trie, options.sweep),
    }
    heads = ("us", "p20", "p80", "GB/s", "% copy", "TFLOP/s", "stock us", "x stock")
    print(f"{'':68} " + " ".join(f"{head:>{width}}" for head, width in zip(heads, COLUMNS, strict=True)))
    for name in options.only.split(","):
        for case in cases[name]():
            row = measure(case, options.runs)
            records.append(options.out, row)
            label = f"{row['op']} {row['shape']} {row['variant']}"
            numbers = (row["us"], row["us_p20"], row["us_p80"], row["gb_s"], row["percent_of_copy"], row["tflops"])
            cells = zip((*numbers, row["stock_us"], row["times_stock"]), COLUMNS, strict=True)
            print(f"{label:68} " + " ".join(f"{'' if x is None else x:>{w}}" for x, w in cells), flush=True)
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
