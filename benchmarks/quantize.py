"""Seconds and peak memory of quantizing a random checkpoint of a published size.

    python -m benchmarks.quantize --preset moe-4b-a0.5b --recipe fp8

Writes the checkpoint under --folder (for the MoE 4B 8 GB of BF16, then 4 GB of FP8; both are removed at the end),
quantizes it in a process of its own and samples that process's RssAnon: memory-mapped pages of the shards belong to the
page cache and are not counted. Appends one row to results/quantize.jsonl. Seconds are the process's whole life.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import program
from benchmarks.records import RESULTS, append, as_json
from benchmarks.rows import QuantizeRow
from octorec.kernels import reference
from octorec.models.hf_folder import write_config, write_tensors
from octorec.models.onerec import OneRecV2
from octorec.models.onerec_config import OneRecConfig
from octorec.models.presets import PRESETS
from octorec.models.weights import disk_tensors, stored
from octorec.output.write import new_folder
from octorec.quant.carried import REPORT
from octorec.quant.convert import quantize_checkpoint
from octorec.quant.load import empty_model
from octorec.quant.shipped import shipped_recipes


def write_random(folder: Path, config: OneRecConfig, seed: int = 0) -> int:
    """A BF16 checkpoint of normal weights, one shard in memory at a time. Returns its bytes."""
    generator = torch.Generator().manual_seed(seed)
    shapes = disk_tensors(empty_model(partial(OneRecV2, config, reference), None, torch.bfloat16))

    def tensors() -> Iterator[tuple[str, Tensor]]:
        for name, empty in shapes.items():
            yield name, stored(name, torch.randn(empty.shape, generator=generator) * 0.02, torch.bfloat16)

    with new_folder(folder) as scratch:
        write_config(scratch, {**config.to_dict(), "torch_dtype": "bfloat16"})
        return write_tensors(scratch, tensors())


def measure(source: Path, out: Path, recipe: str) -> tuple[float, float]:
    """Quantize in a fresh process -> its seconds and its largest RssAnon in MB."""
    child = multiprocessing.get_context("spawn").Process(target=quantize_checkpoint, args=(source, out, recipe))
    start, peak = time.perf_counter(), 0
    child.start()
    while child.is_alive():
        peak = max(peak, rss_anon_kb(child.pid))
        child.join(0.02)
    assert child.exitcode == 0
    return time.perf_counter() - start, peak / 1024


def rss_anon_kb(pid: int | None) -> int:
    """RssAnon of a process, 0 when it has just ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon:")), 0)


def cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def run(preset: str, recipe: str, folder: Path) -> QuantizeRow:
    try:
        before = write_random(folder / "bf16", PRESETS[preset])
        load = os.getloadavg()[0]
        seconds, peak = measure(folder / "bf16", folder / "fp8", recipe)
        report = json.loads((folder / "fp8" / REPORT).read_text())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return QuantizeRow(
        what="quantize",
        preset=preset,
        recipe=recipe,
        seconds=round(seconds, 1),
        peak_rss_anon_mb=round(peak),
        bytes_before=before,
        bytes_after=report["total_bytes_after"],
        quantized_ratio=round(report["quantized_ratio"], 4),
        cores=len(os.sched_getaffinity(0)),
        load_before=round(load, 2),
        cpu_model=cpu_model(),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="moe-4b-a0.5b", choices=list(PRESETS))
    parser.add_argument("--recipe", default="fp8", choices=shipped_recipes())
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark-quantize"), help="must not exist; removed")
    args = parser.parse_args()
    if args.folder.exists():
        parser.error(f"--folder {args.folder} exists already: choose another")
    row = run(args.preset, args.recipe, args.folder)
    append(RESULTS / "quantize.jsonl", row)
    print(json.dumps(as_json(row)))


if __name__ == "__main__":
    program.run(main)
