"""Our Qwen engine, stock PyTorch and Hugging Face's generate beside each other: one command, one card, random weights.

    python -m benchmarks.qwen_stock --out results/qwen_speed.jsonl

Rows are those of `benchmarks.qwen_speed`. `stock graph` is `benchmarks.stock_qwen`, compiled and in one CUDA graph,
from tokens on the host to codes there; in FP8 by torch's row-wise products. `transformers` is generate with beams in
BF16, one request a call as parity asks it; what has no memory is a row that says so. `, no trie`: any code may follow.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import records
from benchmarks.engine import captured
from benchmarks.program import run
from benchmarks.qwen_goals import BF16
from benchmarks.qwen_model import SHAPES, catalog_of, config_of, lengths_of, random_prompts
from benchmarks.qwen_speed import Measured, measure_octorec, model_of, recorded_rows
from benchmarks.rows.qwen_speed import QwenWanted
from benchmarks.stock_qwen import StockQwen
from benchmarks.timer import time_on
from octorec.engine.device_catalog import DeviceCatalog
from octorec.models.qwen_config import QwenConfig
from octorec.models.weights import disk_tensors
from octorec.parity.theirs import constrained_beams, free_beams
from octorec.parity.token_trie import TokenTrie

SHAPES_BESIDE = ((8, 256, 1000), (8, 64, 1000), (1, 256, 1000), (8, 256, 5000))
GENERATE_RUNS = 3
OURS = ("octorec", "bf16"), ("octorec", "fp8")
STOCK = ("stock graph", "bf16"), ("stock graph", "fp8")
OPEN = ("stock graph, no trie", "bf16"), ("stock graph, no trie", "fp8")
GENERATE = ("transformers", "bf16"), ("transformers, no trie", "bf16")


def rows() -> list[QwenWanted]:
    """Each system at each shape that it is asked for; the main shape first."""
    found = [
        QwenWanted(system, "1.7b", precision, *shape)
        for shape in SHAPES_BESIDE
        for system, precision in (*OURS, *STOCK, *(OPEN if shape == SHAPES_BESIDE[0] else ()))
    ]
    found += [QwenWanted(system, "8b", precision, *SHAPES_BESIDE[0]) for system, precision in (*OURS, *STOCK)]
    return found + [
        QwenWanted(*system, 1, 256, context) for context in (1000, 5000) for system in _with_model(GENERATE)
    ]


def _with_model(systems: tuple[tuple[str, str], ...]) -> list[tuple[str, str, str]]:
    return [(system, BF16.model, precision) for system, precision in systems]


def stock_of(row: QwenWanted, device: str) -> StockQwen:
    """The yardstick with our random weights and catalog."""
    model = model_of(row.model, "bf16", device)
    if "no trie" in row.system:
        return StockQwen(model, row.precision == "fp8", None)
    catalog = DeviceCatalog(catalog_of(row.model), SHAPES[row.model].n_items, torch.device(device))
    return StockQwen(model, row.precision == "fp8", catalog.levels)


def measure_stock(row: QwenWanted, runs: int, device: str = "cuda") -> Measured:
    assert row.lengths == "equal", "stock PyTorch takes prompts of one length"
    given = prompts_tensor(row)
    prompts, stock = given.to(device), stock_of(row, device)
    search: Callable[[], Any] = lambda: stock(prompts, row.beam)  # noqa: E731
    if device == "cuda":
        given = given.pin_memory()
        stock.compile()
        search = captured(search)

    def call() -> None:
        prompts.copy_(given, non_blocking=True)
        for found in search():
            found.cpu()

    return Measured(time_on(device, call, runs), n_items=None if stock.trie is None else SHAPES[row.model].n_items)


def prompts_tensor(row: QwenWanted) -> torch.Tensor:
    """Prompts of one length: int64 [B, S]."""
    return torch.stack([*map(torch.from_numpy, random_prompts(config_of(row.model), lengths_of(row)))])


def generating(row: QwenWanted, device: str) -> Any:
    """A model of transformers' with our random weights."""
    from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

    ours = model_of(row.model, "bf16", device)
    with torch.device(device):
        model: Any = Qwen3ForCausalLM._from_config(Qwen3Config(**_their_keys(ours.config)), attn_implementation="sdpa")
    model.load_state_dict(disk_tensors(ours), strict=not ours.config.tie_word_embeddings, assign=True)
    model.tie_weights()
    model.generation_config = GenerationConfig()
    return model.eval()


def _their_keys(config: QwenConfig) -> dict[str, Any]:
    return {key: value for key, value in config.to_dict().items() if key not in ("sid_tokens", "rope_theta")}


def measure_transformers(row: QwenWanted, runs: int, device: str = "cuda") -> Measured:
    assert row.batch == 1, "generate is asked one request a call"
    model, sids = generating(row, device), config_of(row.model).sids
    (prompt,) = random_prompts(config_of(row.model), lengths_of(row))
    if "no trie" in row.system:
        timing = time_on(device, lambda: free_beams(model, prompt, len(sids.levels), row.beam), GENERATE_RUNS, 1)
        return Measured(timing)
    trie = TokenTrie(catalog_of(row.model).trie, sids)
    timing = time_on(device, lambda: constrained_beams(model, prompt, trie, sids, row.beam), GENERATE_RUNS, 1)
    return Measured(timing, n_items=SHAPES[row.model].n_items)


MEASURES = {"octorec": measure_octorec, "stock": measure_stock, "transformers": measure_transformers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="", help="texts of which one must be in a row's name, with commas")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--out", type=Path, default=records.RESULTS / "qwen_speed.jsonl")
    options = parser.parse_args()
    chosen = [row for row in rows() if any(text in row.name for text in options.rows.split(","))]
    if options.list:
        print("\n".join(row.name for row in chosen))
        return
    start = time.perf_counter()
    for _ in recorded_rows(chosen, options.runs, options.out, MEASURES):
        pass
    print(f"{len(chosen)} rows in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    run(main, "cuda")
