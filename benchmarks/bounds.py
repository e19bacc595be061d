"""What bounds a batch: of the time in kernels, how much waits for memory and how much for arithmetic.

A whole batch runs once under torch's profiler. Each of PyTorch's operations, and each of `kernels.fused`, becomes a
range that knows its floating-point operations and the bytes it reads and writes. A kernel belongs to the range in which
it was launched; it is bound by arithmetic where the range's FLOP per byte exceed the ratio of the card's measured
ceilings, by memory otherwise. Bytes are those of arguments and results: caches would make them fewer, never more.

Letters: T rows, K and N of a product, B requests, W beams, S context items, H heads, D head width, E experts, R experts
a row.
"""

import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.traffic import moved, size, tensors
from octorec.kernels.fp8 import Quantized, values_of
from octorec.kernels.ops import OPERATIONS, Ops, Variant

PRODUCT = re.compile(r"gemm|nvjet|cutlass|cross_attention|fmha|flash|cudnn|[^a-z]mm[^a-z]", re.I)  # of a kernel's name
PRODUCTS = ("linear", "matmul", "mm", "bmm", "_scaled_mm", "_grouped_mm", "_scaled_grouped_mm")
RANGE = "octorec#"  # a range's name goes on with its number
LAUNCHES = ("cuda_runtime", "cuda_driver")
BY = ("memory", "arithmetic", "unknown")  # what bounds a kernel


@dataclass(frozen=True)
class Work:
    """One operation as it ran: floating-point operations, bytes, and whether its products are of FP8 values."""

    operation: str
    flop: float
    bytes: float
    eight_bit: bool


@dataclass(frozen=True)
class Part:
    """One kernel of a batch: the work it belongs to (None where it was launched outside of every range)."""

    kernel: str
    ms: float
    work: Work | None


class Ranges(TorchDispatchMode):
    """Puts every operation that runs while it is entered into a range of its own; `work` holds them by number."""

    def __init__(self) -> None:
        super().__init__()
        self.work: list[Work] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func.namespace == "profiler":  # what begins and ends a range
            return func(*args, **(kwargs or {}))
        name = str(func).removeprefix("aten.").split(".")[0]
        return self.ranged(
            name, lambda: func(*args, **(kwargs or {})), lambda out: of_torch(name, func, (args, kwargs), out)
        )

    def ranged(self, name: str, call: Callable[[], Any], count: Callable[[Any], Work]) -> Any:
        """The result of `call`, made in a range; `count` says from the result what work it was."""
        number = len(self.work)
        self.work.append(Work(name, 0, 0, False))
        with torch.profiler.record_function(f"{RANGE}{number}"):
            out = call()
        self.work[number] = count(out)
        return out

    def around(self, ops: Ops) -> Ops:
        """`ops` with a range around each operation."""
        return Variant(ops, **{name: self._around(name, getattr(ops, name)) for name in OPERATIONS})

    def _around(self, name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            return self.ranged(
                name, lambda: operation(*args, **kwargs), lambda out: of_ours(name, (*args, *kwargs.values()), out)
            )

        return call


def of_torch(name: str, func: Any, arguments: Any, out: Any) -> Work:
    """The work of one of PyTorch's operations: products and attention by their shapes, one FLOP a value otherwise."""
    given, result = list(tensors(arguments)), list(tensors(out))
    eight_bit = any(t.dtype == torch.float8_e4m3fn for t in given)
    through = float(moved(func, arguments, out))
    flop = float(sum(t.numel() for t in result)) if through else 0.0
    if name in PRODUCTS:
        flop = 2.0 * result[0].numel() * given[0].shape[-1]
    elif name in ("addmm", "addmm_", "baddbmm"):
        flop = 2.0 * result[0].numel() * given[1].shape[-1]
    elif "attention" in name and len(given) >= 3:
        q, k = given[:2]  # [B, H, W, D], [B, H, S, D]
        flop = 4.0 * q.numel() * k.shape[-2]
    return Work(name, flop, through, eight_bit)


def of_ours(name: str, args: tuple, out: Any) -> Work:
    """The work of one of `kernels.fused`'s operations; of `moe` that of its products."""
    given = list(tensors(args))
    eight_bit = name in ("linear", "moe") and any(isinstance(t, Quantized) for t in args)
    flop, through = float(sum(t.numel() for t in tensors(out))), float(size(given) + size(tensors(out)))
    if name in ("linear", "head"):
        weight = values_of(args[1])
        flop = 2.0 * values_of(args[0]).numel() * weight.shape[0]
    elif name == "cross_attention":
        q, keys = args[0], args[1]  # [B, W, H, D], [B, S, G, D]
        flop, through = 4.0 * q.numel() * keys.shape[1], through - (size([keys]) if args[2] is keys else 0)
    elif name == "moe":
        flop, through = _of_experts(args)
    elif name == "beam_step":
        flop, through = 5.0 * args[0].numel(), float(args[0].nbytes)
    return Work(name, flop, through, eight_bit)


def _of_experts(args: tuple) -> tuple[float, float]:
    """FLOP and bytes of both grouped products: x [T, C], gate_up [E, 2F, C], down [E, C, F], each row R times."""
    x, routing, gate_up, down = args[:4]
    parts = len(x) * routing.experts.shape[1]
    up, back = values_of(gate_up), values_of(down)
    flop = 2.0 * parts * (up[0].numel() + back[0].numel())
    rows = parts * (up.shape[2] + back.shape[2]) * up.element_size() + parts * back.shape[1] * x.element_size()
    return flop, float(rows + up.nbytes + back.nbytes)


def parts_of(ranges: Ranges, run: Callable[[], object], trace: Path) -> list[Part]:
    """Every kernel of one call of `run`, which works within `ranges`; the profiler's trace is written to `trace`."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile, ranges:
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    profile.export_chrome_trace(str(trace))
    return read_trace(json.loads(trace.read_text())["traceEvents"], ranges.work)


def read_trace(events: Iterable[dict[str, Any]], work: list[Work]) -> list[Part]:
    """The kernels of a trace: each with the innermost range in which the host launched it."""
    events = [event for event in events if event.get("ph") == "X"]
    ranges = sorted(
        (event["ts"], event["ts"] + event["dur"], int(event["name"].removeprefix(RANGE)))
        for event in events
        if event["name"].startswith(RANGE) and event.get("cat") != "gpu_user_annotation"
    )
    launched = {event["args"]["correlation"]: event["ts"] for event in events if event.get("cat") in LAUNCHES}
    starts = [start for start, _, _ in ranges]

    def innermost(at: float) -> Work | None:
        """Ranges nest two deep, ours around PyTorch's, so that the one sought began among the last few."""
        last = bisect_right(starts, at)
        return next((work[number] for _, end, number in reversed(ranges[max(0, last - 64) : last]) if end >= at), None)

    kernels = [event for event in events if event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]
    times = [(event, launched.get(event["args"].get("correlation"))) for event in kernels]
    return [Part(event["name"], event["dur"] / 1e3, None if at is None else innermost(at)) for event, at in times]


def bound(part: Part, ceilings: dict[str, float]) -> str:
    """`arithmetic`, `memory`, or `unknown` for a kernel of no range. ceilings: TFLOP/s of bf16 and fp8, GB/s of memory.

    Only products and attention can be bound by arithmetic; a kernel beside them in one operation moves memory.
    """
    if part.work is None:
        return "unknown"
    peak = ceilings["fp8" if part.work.eight_bit else "bf16"]
    intense = part.work.flop > part.work.bytes * 1e3 * peak / ceilings["memory"]
    return "arithmetic" if intense and PRODUCT.search(part.kernel) else "memory"


def shares(parts: list[Part], ceilings: dict[str, float]) -> dict[str, float]:
    """Milliseconds by what bounds them."""
    out = dict.fromkeys(BY, 0.0)
    for part in parts:
        out[bound(part, ceilings)] += part.ms
    return out
