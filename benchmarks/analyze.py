"""Seconds a billion parameters and peak memory of analyzing a checkpoint with Qwen3-8B's layout.

    python -m benchmarks.analyze

Writes a BF16 folder of random weights under --folder with Qwen3-8B's names, shapes and shards (8.2 billion parameters,
16.4 GB; fewer with --layers), runs `octorec analyze` on it as a process and samples that process's RssAnon:
memory-mapped pages of the shards belong to the page cache and are not counted. Removes the folder at the end; appends
one row to results/analyze.jsonl. Seconds are the process's whole life, its start and its report included; what fits of
the folder, just written, lies in the page cache.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import program
from benchmarks.quantize import cpu_model, rss_anon_kb
from benchmarks.records import RESULTS, append, as_json
from benchmarks.rows import AnalyzeRow
from octorec.models.hf_folder import write_config, write_tensors
from octorec.output.write import new_folder

CONFIG = {  # of Qwen/Qwen3-8B
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 4096, "intermediate_size": 12288,
    "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
    "vocab_size": 151936, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip
SHARD_BYTES = 4 * 10**9
TARGET_SECONDS, TARGET_MB = 45, 2000  # a billion parameters on 2 idle cores; anonymous memory


def shapes(layers: int) -> dict[str, tuple[int, ...]]:
    """Qwen3-8B's tensors, with `layers` of its 36 layers."""
    out: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (151936, 4096)}
    for layer in range(layers):
        base = f"model.layers.{layer}"
        out |= {f"{base}.{norm}.weight": (4096,) for norm in ("input_layernorm", "post_attention_layernorm")}
        out |= {f"{base}.self_attn.{norm}_norm.weight": (128,) for norm in "qk"}
        out |= {f"{base}.self_attn.{p}_proj.weight": (4096 if p == "q" else 1024, 4096) for p in "qkv"}
        out |= {f"{base}.self_attn.o_proj.weight": (4096, 4096), f"{base}.mlp.down_proj.weight": (4096, 12288)}
        out |= {f"{base}.mlp.{p}_proj.weight": (12288, 4096) for p in ("gate", "up")}
    return out | {"model.norm.weight": (4096,), "lm_head.weight": (151936, 4096)}


def write_random(folder: Path, layers: int, seed: int = 0) -> int:
    """Normal weights of deviation 0.02, norms 1, a shard in memory at a time. Returns the parameters."""
    generator = torch.Generator().manual_seed(seed)

    def tensors() -> Iterator[tuple[str, Tensor]]:
        for name, shape in shapes(layers).items():
            if len(shape) == 1:
                yield name, torch.ones(shape, dtype=torch.bfloat16)
            else:
                yield name, torch.empty(shape, dtype=torch.bfloat16).normal_(std=0.02, generator=generator)

    with new_folder(folder) as scratch:
        write_config(scratch, {**CONFIG, "num_hidden_layers": layers})
        return write_tensors(scratch, tensors(), SHARD_BYTES) // 2


def measure(source: Path, out: Path) -> tuple[float, float]:
    """`octorec analyze` as a process -> its seconds and its largest RssAnon in MB."""
    command = [sys.executable, "-m", "octorec", "analyze", str(source), "--out", str(out), "--json"]
    start, peak = time.perf_counter(), 0
    with open(os.devnull, "w") as nowhere:
        child = subprocess.Popen(command, stdout=nowhere)
        while child.poll() is None:
            peak = max(peak, rss_anon_kb(child.pid))
            time.sleep(0.02)
    assert child.returncode == 0
    return time.perf_counter() - start, peak / 1024


def run(layers: int, folder: Path) -> AnalyzeRow:
    try:
        parameters = write_random(folder / "bf16", layers)
        load = os.getloadavg()[0]
        seconds, peak = measure(folder / "bf16", folder / "out")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    per_billion = seconds / parameters * 1e9
    return AnalyzeRow(
        what="analyze",
        layout="Qwen3-8B",
        layers=layers,
        parameters=parameters,
        seconds=round(seconds, 1),
        seconds_per_billion=round(per_billion, 1),
        peak_rss_anon_mb=round(peak),
        held=per_billion <= TARGET_SECONDS and peak <= TARGET_MB,
        cores=len(os.sched_getaffinity(0)),
        load_before=round(load, 2),
        cpu_model=cpu_model(),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=CONFIG["num_hidden_layers"], help="of Qwen3-8B's 36")
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark-analyze"), help="must not exist; removed")
    args = parser.parse_args()
    if args.folder.exists():
        parser.error(f"--folder {args.folder} exists already: choose another")
    need = 2 * sum(torch.Size(shape).numel() for shape in shapes(args.layers).values())
    args.folder.mkdir(parents=True)
    free = shutil.disk_usage(args.folder).free
    if free < 1.1 * need:
        args.folder.rmdir()
        parser.error(f"--layers {args.layers} needs {need / 1e9:.1f} GB on disk, {free / 1e9:.1f} GB are free")
    row = run(args.layers, args.folder)
    append(RESULTS / "analyze.jsonl", row)
    print(json.dumps(as_json(row)))


if __name__ == "__main__":
    program.run(main)
