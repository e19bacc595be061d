"""The rows of `engine`, `kernels`, `products`, `ablation`, `start` and `correctness` as tables, and one figure."""

from collections.abc import Sequence
from typing import Any

from benchmarks.records import Row
from benchmarks.rows import (
    AblationRow,
    EngineCheck,
    EngineRow,
    KernelCeilings,
    KernelRow,
    LayerCheck,
    ProductRow,
    StartRow,
    recorded,
)
from benchmarks.speed_figure import Bars
from benchmarks.tables import newest, table
from octorec.kernels.products import ACCUMULATE, HOPPER, Accumulate, Fusion, Problem, product_for

MAIN, MAIN_SHAPE = "moe-4b-a0.5b", (32, 512, 512)
DEEP = 5632  # the larger K of the model's products
GOALS_GPU = "NVIDIA H100"  # the card that the goals are set for


def gpu(row: Row) -> str:
    """The whole name of the card that a row was measured on."""
    return row.environment.gpu or ""


def engine_rows() -> list[EngineRow]:
    """The newest of each card, system and shape, skewed and not: the main model's first, large batches first."""
    rows = recorded("engine.jsonl", EngineRow)
    found = newest(rows, lambda row: (gpu(row), row.system, row.preset, row.precision, row.shape, row.skewed))
    return sorted(found, key=lambda row: (gpu(row), row.preset != MAIN, -row.batch, -row.beam, row.skewed))


def engine() -> str:
    """The main model at the paper's shape, in brief: of each card the rows of the commit last measured in FP8 there."""
    measured = recorded("engine.jsonl", EngineRow)
    rows = [row for row in measured if row.preset == MAIN and row.shape == MAIN_SHAPE and not row.skewed]
    last = {gpu(row): row.environment.commit for row in rows if (row.system, row.precision) == ("octorec", "fp8")}
    together = [row for row in rows if row.environment.commit == last.get(gpu(row), row.environment.commit)]
    chosen = newest(together, lambda row: (gpu(row), row.system, row.precision))
    cells = [
        [
            f"{row.system}, {row.precision}",
            f"{row.ms_per_batch:.1f}",
            f"{row.requests_per_s:.1f}",
            f"{row.tflops:.0f}",
            "" if row.p50_ms is None else f"{row.p50_ms:.1f}",
            row.environment.card,
        ]
        for row in sorted(chosen, key=lambda row: (gpu(row), row.requests_per_s))
    ]
    return table(["system", "ms a batch", "requests/s", "TFLOP/s", "p50 ms, host to host", "GPU"], cells)


def engine_all() -> str:
    """Every system, model, shape and card that was measured."""
    columns = ["system", "model", "batch / beam / context", "routing", "ms a batch", "requests/s", "TFLOP/s", "MFU"]
    cells = [
        [
            f"{row.system}, {row.precision}",
            row.preset,
            " / ".join(map(str, row.shape)),
            row.routing if row.busiest_expert is None else f"{row.routing}, busiest {row.busiest_expert}x",
            f"{row.ms_per_batch:.1f}",
            f"{row.requests_per_s:.1f}",
            f"{row.tflops:.0f}",
            f"{row.mfu:.0%}",
            "" if row.p50_ms is None else f"{row.p50_ms:.1f} / {row.p99_ms:.1f}",
            f"{row.memory_gb:.1f}",
            row.environment.card,
            row.environment.commit,
        ]
        for row in engine_rows()
    ]
    return table([*columns, "p50 / p99 ms, host to host", "GB", "GPU", "commit"], cells)


def bars() -> Bars:
    """Requests a second of the main model with 512 beams on GOALS_GPU, by shape and system, slow systems first."""
    names = [
        f"{system}, {kind}" for system in ("stock eager", "stock graph", "octorec") for kind in ("fp16", "bf16", "fp8")
    ]
    found: Bars = {}
    rows = [row for row in engine_rows() if gpu(row).startswith(GOALS_GPU)]
    chosen = [row for row in rows if row.preset == MAIN and row.beam == 512 and not row.skewed]
    for row in sorted(chosen, key=lambda row: (-row.batch, names.index(f"{row.system}, {row.precision}"))):
        panel = found.setdefault(f"batch {row.batch}, context {row.context}", {})
        panel[f"{row.system}, {row.precision}"] = row.requests_per_s
    return found


def ablation() -> str:
    """The newest row of each step: what its kernels take, and with what Python takes to launch them."""
    ordered = newest(recorded("ablation.jsonl", AblationRow), lambda row: row.system)
    timed = [(row, row.kernels_ms) for row in ordered if row.kernels_ms is not None]
    if not timed:
        return nothing("ablation")
    cells, before = [], None
    for row, ms in timed:
        gain = "" if before is None else f"{before - ms:+.1f}"
        times = f"{timed[0][0].ms_per_batch / row.ms_per_batch:.2f}x"
        spent = [f"{ms:.1f}", gain, f"{row.ms_per_batch:.1f}"]
        cells.append([row.system, row.recipe, *spent, f"{row.requests_per_s:.0f}", times])
        before = ms
    columns = ["one more a row", "weights", "ms in kernels", "saved", "ms a batch", "requests/s", "over the first"]
    return table(columns, cells) + "\n\n" + where(timed[-1][0])


def kernels() -> str:
    """The newest row of each operation and shape, below the ceilings they were measured against."""
    timed = newest(recorded("kernels.jsonl", KernelRow), lambda row: (row.op, row.name, row.T))
    if not timed:
        return nothing("kernels")
    found = recorded("kernels.jsonl", KernelCeilings)[-1]
    columns = [
        "operation",
        "T",
        "us",
        "TFLOP/s",
        "GB/s",
        "% of ceiling",
        "bound by",
        "FLOP/byte",
        "stock us",
        "x stock",
    ]
    streams = ", ".join(f"{name} {rate}" for name, rate in found.streams.items())
    said = f"Ceilings: {streams} GB/s; products of 16 bit {found.bf16} and of FP8 {found.fp8} TFLOP/s."
    return table(columns, (kernel_cells(row, found) for row in timed)) + f"\n\n{said} {where(timed[-1])}"


def percent_of_ceiling(row: KernelRow, found: KernelCeilings) -> int:
    """Share of what bounds an operation: a large product's rate, or that of the fastest way through memory."""
    if row.bound == "arithmetic":
        return round(100 * row.tflops / found.products[row.precision])
    return round(100 * row.gb_s / found.memory)


def kernel_cells(row: KernelRow, found: KernelCeilings) -> list[object]:
    bound, work, stock = str(row.bound), f"{row.flop_per_byte:g}", ["", ""]
    if row.stock is not None:
        bound = bound if row.bound_before == bound else f"{row.bound_before} → {bound}"
        work = f"{row.flop_per_byte_before:g} → {work}"
        other = "" if row.stock == "the same, unfused" else f" ({row.stock})"
        stock = [f"{row.stock_us:.1f}{other}", f"{row.times_stock:.2f}"]
    name = f"{row.op.replace('_', '-')}: {row.name}"
    rates = [f"{row.us:.1f}", f"{row.tflops:.0f}", row.gb_s, percent_of_ceiling(row, found)]
    return [name, row.T, *rates, bound, work, *stock]


def products() -> str:
    """The newest time of each FP8 product by each implementation, in bold what serves; then the plain ones' errors."""
    rows = [row for row in recorded("products.jsonl", ProductRow) if is_right(row.error, row.rounding, row.sums)]
    if not rows:
        return nothing("products")
    found = newest(rows, lambda row: (row.scales, row.product, row.T, row.by, row.sums))
    ways = list(dict.fromkeys((row.by, row.sums) for row in sorted(found, key=lambda row: row.by != "ours")))
    lines: dict[tuple[str, str, int, str], dict[tuple[str, str], str]] = {}
    for row in found:
        line = lines.setdefault((row.scales, row.product, row.T, f"{row.N} x {row.K}"), {})
        line[row.by, row.sums] = f"**{row.us:.1f}**" if serves(row) else f"{row.us:.1f}"
    cells = [
        [name, shape, scales, batch, *(line.get(way, "") for way in ways)]
        for (scales, name, batch, shape), line in lines.items()
    ]
    columns = ["product", "N x K", "scales by", "T", *(f"{by}, {sums}: us" for by, sums in ways)]
    return "\n\n".join([table(columns, cells), product_errors(found), where(found[-1])])


def is_right(error: float, rounding: float, sums: str) -> bool:
    """Whether a product's error is that of its result's rounding, twice where a residual is added by another kernel."""
    return error < 1.5 * rounding + (5e-3 if sums == "fast" else 0)


def product_errors(found: list[ProductRow]) -> str:
    """The largest error of the plain products of each way, by K, beside the output's rounding."""
    plain = [row for row in found if "residual" not in row.product and "SwiGLU" not in row.product]
    plain += [row for row in found if row.K == DEEP]  # only a product with a residual is that deep
    worst = newest(sorted(plain, key=lambda row: row.error), lambda row: (row.by, row.sums, row.K))
    cells = [
        [f"{row.by}, {row.sums}", row.K, f"{row.error:.2%}", f"{row.rounding:.2%}"]
        for row in sorted(worst, key=lambda row: (row.K, row.by != "ours", row.by, row.sums))
    ]
    return table(["product by", "K", "error against float64", "of it the result's rounding"], cells)


def serves(row: ProductRow) -> bool:
    """Whether the model's product on Hopper is this one."""
    experts = "experts" in row.product
    sums: Accumulate = "float32" if experts or row.scales == "groups" else ACCUMULATE
    fusion: Fusion = "residual" if "residual" in row.product else "none"
    by = product_for(HOPPER, Problem(row.scales, row.N, row.K, fusion, sums, experts))
    return (row.by, row.sums) == ("torch" if by == "torch" else "ours", sums)


def start() -> str:
    """The newest start of a process with compiled kernels on disk, or of any."""
    rows = recorded("start.jsonl", StartRow)
    if not rows:
        return nothing("start")
    row = ([r for r in rows if r.kernels_compiled == 0] or rows)[-1]
    cells = [[phase, f"{seconds:.1f}"] for phase, seconds in row.phases.items()]
    cells += [["**all**", f"**{row.seconds:.1f}**"]]
    buckets = [[b.batch_size, b.beam_width, f"{b.seconds:.2f}", f"{b.megabytes:.0f}"] for b in row.buckets]
    said = f"{row.preset}, {row.precision}, {row.kernels_compiled} kernels compiled anew. {where(row)}"
    tables = table(["phase", "seconds"], cells), table(["batch size", "beam width", "seconds", "MB"], buckets)
    return "\n\n".join([*tables, said])


def correctness() -> str:
    """The newest check of each trained checkpoint."""
    checked = [row for row in recorded("correctness.jsonl", EngineCheck) if row.checkpoint is not None]
    cells = [
        [
            row.checkpoint,
            row.precision,
            f"{row.top10_overlap:.3f}",
            f"{row.beam_overlap:.3f}",
            f"{row.mean_drift:.4f} / {row.max_drift:.2f}",
            f"{row.beyond_noise:.2f}",
            f"{row.differing} in {row.mixes} mixes",
            f"{row.invalid} in {row.batches:,} batches, {row.memory_gained_mb:.0f} MB gained",
            "held" if row.held else "not held",
        ]
        for row in newest(checked, lambda row: (row.checkpoint, row.precision))
    ]
    columns = ["checkpoint", "precision", "top 10 shared", "128 beams shared"]
    differences = ["log-probabilities, mean / max difference", "beyond noise"]
    return table([*columns, *differences, "answers that differ", "invalid", "bounds"], cells)


def layers() -> str:
    """The newest errors of each layer."""
    found = newest(recorded("correctness.jsonl", LayerCheck), lambda row: (row.layer, row.precision))
    if not found:
        return nothing("correctness --layers")
    cells = []
    for row in found:
        errors = [f"{value:.2e}" if value else "" for value in (row.error, row.rounding, row.quantization, row.bound)]
        cells.append([row.layer, row.precision, *errors, "yes" if row.held else "**no**"])
    columns = ["layer", "precision", "error", "rounding", "quantization", "bound", "held"]
    return table(columns, cells) + "\n\n" + where(found[-1])


def nothing(program: str) -> str:
    return f"Not measured yet: `python -m benchmarks.{program}`."


def commits(rows: Sequence[Any]) -> str:
    """The commit of the newest row of each precision: FP8 at a1b2c3d and BF16 at d4e5f6a."""
    newest = {row.precision: row.environment.commit for row in rows}
    return " and ".join(f"{precision.upper()} at {commit}" for precision, commit in newest.items())


def where(row: Row) -> str:
    """The card, the versions and the command of a row."""
    here = row.environment
    return f"{here.card}, torch {here.torch}, triton {here.triton}, commit {here.commit}: `{here.command}`."
