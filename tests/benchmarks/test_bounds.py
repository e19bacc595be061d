"""What bounds a kernel follows from the work of the operation that launched it."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from benchmarks.bounds import RANGE, Part, Ranges, Work, bound, parts_of, read_trace, shares
from benchmarks.stock import StockOneRec
from octorec.kernels import reference
from octorec.kernels.fp8 import quantize
from octorec.models.presets import preset

CEILINGS = {"bf16": 800.0, "fp8": 1500.0, "memory": 4000.0}  # TFLOP/s, TFLOP/s, GB/s: 200 and 375 FLOP a byte


def test_products_and_attention_are_counted_by_their_shapes() -> None:
    x, weight = torch.ones(6, 4), torch.ones(8, 4)
    q, keys = torch.ones(2, 3, 5, 4), torch.ones(2, 3, 7, 4)
    with torch.inference_mode(), Ranges() as ranges:
        F.linear(x, weight)
        F.scaled_dot_product_attention(q, keys, keys)
        (x + 1).view(-1)
    found = {work.operation: work for work in ranges.work}
    assert found["linear"].flop == 2 * 6 * 4 * 8
    assert found["linear"].bytes == 4 * (6 * 4 + 8 * 4 + 6 * 8)
    assert next(work.flop for name, work in found.items() if "attention" in name) == 4 * 2 * 3 * 5 * 7 * 4
    assert (found["add"].flop, found["add"].bytes) == (24, 2 * 4 * 24)
    assert (found["view"].flop, found["view"].bytes) == (0, 0)


def test_our_operations_are_counted_with_their_operands() -> None:
    ranges = Ranges()
    ops = ranges.around(reference)
    x, weight = torch.randn(16, 256).bfloat16(), torch.randn(128, 256).bfloat16()
    eight = quantize(x, "token"), quantize(weight, "channel")
    ops.linear(x, weight)
    ops.linear(*eight)
    plain, quantized = ranges.work
    assert plain.flop == quantized.flop == 2 * 16 * 128 * 256
    assert (plain.eight_bit, quantized.eight_bit) == (False, True)
    assert plain.bytes == 2 * (16 * 256 + 128 * 256 + 16 * 128)
    assert quantized.bytes == 16 * 256 + 128 * 256 + 2 * 16 * 128 + 4 * (16 + 128)


def test_experts_count_the_rows_they_are_given() -> None:
    ranges = Ranges()
    ops = ranges.around(reference)
    x = torch.randn(10, 32)
    routing = ops.route(x, torch.randn(3, 32), torch.zeros(3), 2, 1)
    ops.moe(x, routing, torch.randn(4, 2 * 16, 32), torch.randn(4, 32, 16), None)
    work = ranges.work[-1]
    assert work.flop == 2 * 10 * 3 * (2 * 16 * 32 + 32 * 16)
    assert work.bytes == 4 * (10 * 3 * (32 + 16 + 32) + 4 * 3 * 16 * 32)


def test_a_whole_batch_of_the_yardstick_is_ranged() -> None:
    config = preset("tiny")
    with torch.inference_mode(), Ranges() as ranges:
        StockOneRec(config, torch.float32)(torch.randn(2, 5, 4 * config.embed_dim), 4)
    linear = sum(work.flop for work in ranges.work if work.operation == "linear")
    attention = sum(work.flop for work in ranges.work if "attention" in work.operation)
    rows = 2 * (1 + 4 + 4)
    assert len(ranges.work) > 50 * config.n_layer
    assert linear > 2 * rows * config.n_layer * 6 * config.d_model**2
    assert attention == 4 * rows * 5 * config.d_model * config.n_layer


@pytest.mark.filterwarnings("ignore:CUDA is not available")
def test_a_real_trace_holds_the_ranges(tmp_path: Path) -> None:
    ranges, trace = Ranges(), tmp_path / "trace.json"
    ops, x, weight = ranges.around(reference), torch.randn(16, 256).bfloat16(), torch.randn(128, 256).bfloat16()
    assert parts_of(ranges, lambda: ops.linear(ops.swiglu(ops.linear(x, weight), None), weight[:, :64]), trace) == []
    events = json.loads(trace.read_text())["traceEvents"]
    spans = {e["name"]: (e["ts"], e["ts"] + e["dur"]) for e in events if e["name"].startswith(RANGE)}
    assert set(spans) == {f"{RANGE}{number}" for number in range(len(ranges.work))}
    # A kernel that the host had launched in the middle of a range belongs to that range, or to one inside of it.
    names = [work.operation for work in ranges.work]
    outer, inner = spans[f"{RANGE}{names.index('swiglu')}"], spans[f"{RANGE}{names.index('neg')}"]
    assert outer[0] <= inner[0] <= inner[1] <= outer[1]
    launch = event("cuda_driver", "cuLaunchKernelEx", sum(inner) / 2, 0.01, 1)
    (part,) = read_trace([*events, launch, event("kernel", "neg", 1e9, 1000.0, 1)], ranges.work)
    assert (part.work and part.work.operation, part.ms) == ("neg", 1.0)


def event(cat: str, name: str, ts: float, dur: float, correlation: int | None = None) -> dict:
    return {"ph": "X", "cat": cat, "name": name, "ts": ts, "dur": dur, "args": {"correlation": correlation}}


def test_kernels_belong_to_the_innermost_range_of_their_launch() -> None:
    work = [Work("moe", 1, 1, False), Work("mm", 2, 1, False), Work("add", 3, 1, False)]
    events = [
        event("user_annotation", f"{RANGE}0", 0, 50),
        event("user_annotation", f"{RANGE}1", 10, 10),
        event("user_annotation", f"{RANGE}2", 60, 10),
        event("gpu_user_annotation", f"{RANGE}2", 500, 1000),
        event("cuda_driver", "cuLaunchKernelEx", 5, 1, 1),
        event("cuda_runtime", "cudaLaunchKernel", 12, 1, 2),
        event("cuda_runtime", "cudaLaunchKernel", 30, 1, 3),
        event("cuda_runtime", "cudaLaunchKernel", 65, 1, 4),
        event("cuda_runtime", "cudaLaunchKernel", 55, 1, 5),
        *(event("kernel", f"kernel {number}", 600 + number, 1000 * number, number) for number in range(1, 7)),
        {"ph": "M", "name": "process_name"},
    ]
    parts = read_trace(events, work)
    assert [(part.ms, part.work and part.work.operation) for part in parts] == [
        (1, "moe"), (2, "mm"), (3, "moe"), (4, "add"), (5, None), (6, None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kernel", "flop", "eight_bit", "expected"),
    [
        ("nvjet_sm90_tst_176x128_TNN", 201.0, False, "arithmetic"),
        ("nvjet_sm90_tst_176x128_TNN", 199.0, False, "memory"),
        ("_gemm_hopper", 376.0, True, "arithmetic"),
        ("_gemm_hopper", 374.0, True, "memory"),
        ("_cross_attention_hopper", 409.0, False, "arithmetic"),
        ("_dispatch", 409.0, False, "memory"),  # moves rows, beside the products of the same operation
        ("_self_attention", 1.0, False, "memory"),
    ],
)
def test_bound_by_arithmetic_where_flop_per_byte_exceed_the_ceilings(
    kernel: str, flop: float, eight_bit: bool, expected: str
) -> None:
    assert bound(Part(kernel, 1.0, Work("moe", flop, 1.0, eight_bit)), CEILINGS) == expected


def test_no_time_is_lost_in_the_shares() -> None:
    work = Work("mm", 1e6, 1.0, False)
    parts = [Part("_gemm", 2.0, work), Part("_combine", 3.0, work), Part("copy", 4.0, None)]
    assert shares(parts, CEILINGS) == {"memory": 3.0, "arithmetic": 2.0, "unknown": 4.0}
