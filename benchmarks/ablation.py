"""What each fusion gives: from stock PyTorch in BF16, one step more a row, to the engine.

    python -m benchmarks.ablation --out results/ablation.jsonl

One model with balanced routers, one loop, one catalog; a step replaces operations of `unfused` by those of
`kernels.fused`, and keeps what the steps before it replaced. torch's grouped FP8 product takes no blocks on Hopper, so
experts have scales a channel until their own kernels come. The last row is the engine, measured as `engine` does.
"""

import argparse
import dataclasses
import gc
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks import program, records, unfused
from benchmarks.engine import N_ITEMS, Measured, eager, eager_search, host_to_host, kernels, measure_octorec, result
from benchmarks.random_model import random_catalog, random_model, random_requests
from benchmarks.rows import AblationFailure, AblationRow
from benchmarks.rows.engine import Wanted
from benchmarks.skew import EXPONENTS, skew
from benchmarks.timer import time_gpu
from octorec.engine.batch import ParsedRequest
from octorec.engine.engine import Engine, EngineConfig
from octorec.engine.rank import Found
from octorec.engine.request import Request
from octorec.kernels import fused, ops
from octorec.kernels.ops import Ops, Variant
from octorec.models.presets import preset

PRESET, BATCH, BEAM, CONTEXT = "moe-4b-a0.5b", 32, 512, 512
OTHERS = {"causal_attention", "rope", "prefill_attention", "beam_attention", "log_norm"}  # OneRec-V2's answers use none
OPERATIONS = [name for name in ops.OPERATIONS if name not in OTHERS]


@dataclasses.dataclass(frozen=True)
class Step:
    """`replaces` names the operations that become kernels; recipe: `bf16` or that of the FP8 weights."""

    name: str
    recipe: str
    replaces: tuple[str, ...] = ()


STEPS = (
    Step("stock BF16", "bf16"),
    Step("FP8 products, casts apart", "fp8-channel"),
    Step("norm and cast in one", "fp8-channel", ("rms_norm", "maybe_quantize")),
    Step("SwiGLU and cast in one", "fp8-channel", ("swiglu",)),
    Step("residual added in the product", "fp8-channel", ("linear",)),
    Step("experts: gather and cast, SwiGLU and cast in the product, combine", "fp8", ("route", "moe")),
    Step("self-attention by parents, no cache moved", "fp8", ("self_attention",)),
    Step("cross-attention over the shared context", "fp8", ("cross_attention",)),
    Step("beam step in one read", "fp8", ("beam_step",)),
)
ENGINE = "all levels in one CUDA graph: the engine"


class EagerEngine(Engine):
    """An engine without graphs: each operation is launched by Python, batch after batch."""

    @torch.inference_mode()
    def launch(self, parsed: Sequence[ParsedRequest]) -> Callable[[], Found]:
        searched = eager_search(self, parsed)()
        first_leaf = self.device_catalog.first_nodes[-1]

        def found() -> Found:
            scores, nodes, bounds = (column.cpu().numpy() for column in searched)
            return Found(scores, nodes, bounds, first_leaf, self.catalog)

        return found


def replaced(number: int) -> list[str]:
    """The operations that are kernels at a step."""
    return [name for step in STEPS[: number + 1] for name in step.replaces]


def mix(mixture: Variant, kernels: list[str]) -> None:
    """Let `mixture`, which a model runs on, be the stock operations, but for `kernels`."""
    for name in OPERATIONS:
        setattr(mixture, name, getattr(fused if name in kernels else unfused, name))


def balanced_engine(recipe: str, ops: Ops) -> EagerEngine:
    config = preset(PRESET)
    limits = EngineConfig(CONTEXT, batch_sizes=(BATCH,), beam_widths=(BEAM,), default_beam_width=BEAM)
    model = random_model(config, recipe, ops=ops)
    engine = EagerEngine(model, random_catalog(config, N_ITEMS), limits, "cuda", ops)
    skew(model, eager(engine, requests()), EXPONENTS["balanced"])
    return engine


def measure(engine: EagerEngine, runs: int) -> Measured:
    asked = requests()
    run = eager(engine, asked)
    timing, host = time_gpu(run, runs), host_to_host(lambda: engine.recommend(asked), runs)
    return Measured(timing, host, kernels=kernels(run))


def requests() -> list[Request]:
    """Those of a batch."""
    return random_requests(BATCH, N_ITEMS, CONTEXT, BEAM)


def row_of(name: str, recipe: str, measured: Measured, kernels: Sequence[str]) -> AblationRow:
    row = Wanted(name, PRESET, "bf16" if recipe == "bf16" else "fp8", BATCH, BEAM, CONTEXT)
    return AblationRow(**vars(result(row, measured)), recipe=recipe, replaced=tuple(kernels))


@torch.inference_mode()
def run(steps: list[int], with_engine: bool, runs: int, out: Path) -> None:
    mixture = Variant(unfused)
    engine, recipe = None, ""
    for number in steps:
        step = STEPS[number]
        mix(mixture, replaced(number))
        if step.recipe != recipe:
            engine = None  # before the next one takes its memory
            engine, recipe = balanced_engine(step.recipe, mixture), step.recipe
        torch.cuda.reset_peak_memory_stats()
        assert engine is not None
        try:
            report(out, row_of(step.name, recipe, measure(engine, runs), replaced(number)))
        except Exception as error:  # a step that fails must not take the others with it
            traceback.print_exc()
            records.append(out, AblationFailure(system=step.name, error=records.error_text(error)))
    engine = None
    gc.collect()
    torch.cuda.empty_cache()
    if with_engine:
        torch.cuda.reset_peak_memory_stats()
        measured = measure_octorec(Wanted("octorec", PRESET, "fp8", BATCH, BEAM, CONTEXT), runs)
        report(out, row_of(ENGINE, "fp8", measured, OPERATIONS))


def report(out: Path, row: AblationRow) -> None:
    records.append(out, row)
    seconds = f"({time.perf_counter() - START:.0f} s)"
    print(f"{row.system:70s} {row.ms_per_batch:8.2f} ms {row.requests_per_s:7.1f}/s {seconds}", flush=True)


START = time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="", help="texts of which one must be in a step's name, with commas")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--out", type=Path, default=records.RESULTS / "ablation.jsonl")
    options = parser.parse_args()
    texts = options.rows.split(",")
    chosen = [number for number, step in enumerate(STEPS) if any(text in step.name for text in texts)]
    with_engine = any(text in ENGINE for text in texts)
    if options.list:
        print("\n".join([STEPS[number].name for number in chosen] + [ENGINE] * with_engine))
        return
    run(chosen, with_engine, options.runs, options.out)


if __name__ == "__main__":
    program.run(main, "cuda")
