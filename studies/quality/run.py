"""One set's part of the proof in one command: train, quantize, judge, break.

    python -m studies.quality.run --data FOLDER --set beauty --out runs/quality

Writes `OUT/SET-MODEL-SEED/`: rows.jsonl (a row as each is done), outcomes.parquet (rank and NLL of every target under
every recipe, for `studies.quality.pool`), loss.svg (loss against SQNR), and the checkpoints `bf16/` and `fp8/` in
shards of at most 15 MB. A few minutes on an H100.
"""

import argparse
import dataclasses
import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from benchmarks import records
from benchmarks.program import run
from benchmarks.rows import FILES
from benchmarks.rows.quality import FloorRow, SetVerdict, Subject, TrainingRow
from octorec.catalog.catalog import Catalog
from octorec.engine.engine import Engine
from octorec.engine.load import engine_config, load
from octorec.kernels.device import open_device
from octorec.kernels.ops import Ops, Variant
from octorec.models.hf_folder import write_config, write_tensors
from octorec.models.onerec import OneRecV2
from octorec.models.weights import disk_tensors, stored
from octorec.output.write import new_folder
from octorec.quant.convert import quantize_checkpoint
from octorec.quant.load import load_model
from octorec.quant.modules import FP8Linear
from octorec.training import gpu_ops
from studies.quality import plots, settings
from studies.quality.answers import Answers, Asked, answers_of, ask_for, forced_batch, predictions_of
from studies.quality.data import SETS, Shop, catalog_of, read_shop
from studies.quality.judge import floors, judged, mean_sqnr
from studies.quality.outcomes import Outcomes, outcomes_of
from studies.quality.simulate import SIMULATIONS, simulate
from studies.quality.train import limits, search_ops, trained

SHARD_BYTES = 15_000_000
RECIPES = ("fp8", "fp8-channel", "fp8-block")
BATCH = 256
OTHER_BATCH = 64  # the noise floor's
BREAKERS = ("fp8", "experts-tensor", "tensor", "router-and-heads", "e5m2", "e5m2-tensor-everywhere")  # of SIMULATIONS
SIMULATED = " (simulated)"
WITHOUT_KERNELS = "values through fp8 and back around bf16 products"
SHIFTED = "fp8, scales one row off"
MEASURED = 1024  # targets on which SQNR is measured
S = TypeVar("S", bound=Subject)


class Run:
    """One set, one model, one seed: what its stages share."""

    def __init__(self, shop: Shop, catalog: Catalog, folder: Path, about: dict[str, Any], device: str):
        self.shop, self.catalog, self.folder, self.about, self.device = shop, catalog, folder, about, device
        self.examples = shop.examples
        self.options = limits(BATCH, settings.BEAM_WIDTH)
        self.start = time.perf_counter()
        self.systems: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # as `Outcomes` holds them

    def engine(self, checkpoint: Path, **changes: Any) -> Engine:
        return load(checkpoint, self.catalog, self.device, **{**self.options, **changes})

    def simulated(self, recipe: str | None) -> Engine:
        """An engine with plain weights: BF16 whose products go through FP8 and back, or (None) in float32."""
        dtype = torch.float32 if recipe is None or self.device == "cpu" else torch.bfloat16
        ops = gpu_ops if dtype == torch.float32 else self.search_ops
        model = load_model(self.folder / "bf16", ops, self.device, dtype)
        if recipe is not None:
            simulate(model, SIMULATIONS[recipe])
        return Engine(model, self.catalog, engine_config(self.options), self.device, self.search_ops)

    @property
    def search_ops(self) -> Ops:
        return search_ops(self.device)

    def judge(
        self, recipe: str, arithmetic: str, asked: Asked, baseline: Answers, candidate: Answers,
        more: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Add the recipe's row, and its outcomes to those that are kept."""
        row = self.row(SetVerdict, recipe, arithmetic, {**judged(asked, baseline, candidate), **(more or {})})
        ratio = row.relative_difference["recall@10"]
        ends = f" {ratio.value:+.4f} [{ratio.low:+.4f}, {ratio.high:+.4f}]" if ratio.low else ""
        self.say(recipe, f"recall@10 {row.recall_10}, ndcg@10 {row.ndcg_10}, NLL {row.nll}, top 10 shared "
                         f"{row.top10_overlap:.4f}{ends} {row.verdict}")  # fmt: skip
        one = outcomes_of({recipe: predictions_of(asked, candidate, settings.K)})
        self.systems |= one.systems
        Outcomes(one.user_ids, one.k, self.systems, exclude_seen=True).save(self.folder / "outcomes.parquet")

    def row(self, kind: type[S], recipe: str, arithmetic: str, found: dict[str, Any]) -> S:
        """Append a row of `kind`, whose other fields are `found`."""
        row = kind(**self.about, recipe=recipe, arithmetic=arithmetic, **found)
        records.append(self.folder / "rows.jsonl", row)
        return row

    def say(self, recipe: str, found: str) -> None:
        print(f"{time.perf_counter() - self.start:6.1f} s  {recipe:24s} {found}", flush=True)


def save_bf16(model: OneRecV2, catalog: Catalog, out: Path) -> None:
    with new_folder(out, force=True) as scratch:
        write_config(scratch, {**model.config.to_dict(), "torch_dtype": "bfloat16"})
        tensors = ((name, stored(name, tensor, torch.bfloat16)) for name, tensor in disk_tensors(model).items())
        write_tensors(scratch, tensors, SHARD_BYTES)
        catalog.save(scratch / "catalog")


def float32_sums() -> Ops:
    """The kernels with row-wise products whose sums are all in float32: fast accumulation off."""
    from octorec.kernels import fused  # imports triton

    return Variant(fused, linear=partial(fused.linear, accumulate="float32"))


def recipes(run: Run, scratch: Path) -> Iterator[tuple[str, str, Engine]]:
    """Name, arithmetic and engine of everything that runs on real FP8 operations."""
    kind = "fp8 kernels, fast row-wise sums" if run.device == "cuda" else "fp8 reference operations"
    for recipe in RECIPES:
        out = run.folder / "fp8" if recipe == "fp8" else scratch / recipe
        quantize_checkpoint(run.folder / "bf16", out, recipe, force=True, shard_bytes=SHARD_BYTES)
        yield recipe, kind, run.engine(out)
    if run.device == "cuda":
        model = load_model(run.folder / "fp8", float32_sums(), run.device, torch.bfloat16)
        options = engine_config(run.options)
        yield "fp8, float32 sums", "fp8 kernels", Engine(model, run.catalog, options, run.device, run.search_ops)


def shifted(engine: Engine) -> Engine:
    """The FP8 `engine` with a fault that a loader may have: each row's weights take the scale of the row before."""
    with torch.inference_mode():
        for module in engine.model.modules():  # type: ignore[attr-defined]
            if isinstance(module, FP8Linear):
                module.weight_scale.copy_(module.weight_scale.roll(1, 0))
    return engine


def judge(run: Run, breakers: bool, only_bf16: bool) -> None:
    """BF16, its floors and noise, every recipe, and what breaks it."""
    engine = run.engine(run.folder / "bf16")
    asked = ask_for(engine, run.examples, settings.K)
    for name, found in floors(run.shop.train, asked).items():
        floor = run.row(FloorRow, name, "counting", found)
        run.say(name, f"recall@10 {floor.recall_10}, ndcg@10 {floor.ndcg_10}")
    baseline = answers_of(engine, asked)
    run.judge("bf16", "bf16", asked, baseline, baseline)
    if only_bf16:
        return
    order = np.random.default_rng(0).permutation(len(asked))
    other = run.engine(run.folder / "bf16", batch_sizes=(OTHER_BATCH,))
    run.judge("bf16, other batches", "bf16", asked, baseline, answers_of(other, asked, order))
    run.judge("float32", "float32", asked, baseline, answers_of(run.simulated(None), asked))
    del engine, other
    with tempfile.TemporaryDirectory() as scratch:
        for recipe, arithmetic, candidate in recipes(run, Path(scratch)):
            lost = sqnr(run, asked, recipe.split(",")[0])
            run.judge(recipe, arithmetic, asked, baseline, answers_of(candidate, asked), lost)
            torch.cuda.empty_cache()
    if not breakers:
        return
    broken = shifted(run.engine(run.folder / "fp8"))
    run.judge(SHIFTED, "a fault, fp8 kernels", asked, baseline, answers_of(broken, asked))
    del broken
    for recipe in BREAKERS:
        answers = answers_of(run.simulated(recipe), asked)
        run.judge(f"{recipe}{SIMULATED}", WITHOUT_KERNELS, asked, baseline, answers, sqnr(run, asked, recipe))
        torch.cuda.empty_cache()


def sqnr(run: Run, asked: Asked, recipe: str) -> dict[str, Any]:
    """SQNR of the recipe's products, on targets spread over all."""
    model = load_model(run.folder / "bf16", gpu_ops, run.device, torch.float32)
    rows = np.linspace(0, len(asked) - 1, min(MEASURED, len(asked)), dtype=int)
    inputs, codes = forced_batch(asked, rows, len(rows), model, torch.device(run.device))
    return mean_sqnr(model, inputs, codes, SIMULATIONS[recipe])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", choices=SETS, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--catalogs", type=Path, help="of catalogs made before (studies.quality.data)")
    parser.add_argument("--model", choices=("moe", "dense"), default="moe")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-breakers", action="store_true", help="leave out what is only there to lose")
    parser.add_argument("--only-bf16", action="store_true", help="stop after the BF16 answers: for more seeds")
    parser.add_argument("--users", type=int, help="judge only so many, for a try")
    parser.add_argument("--tiny", action="store_true", help="a small model and a short training, for a try")
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    open_device(options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    shop = read_shop(options.data, options.set, options.users)
    model, training = settings.of(options.model, options.seed, options.tiny)
    catalog = catalog_of(shop, model.codebook_sizes, options.catalogs)
    about = {"scope": options.set, "model": options.model, "seed": options.seed, "beam": settings.BEAM_WIDTH}
    folder = options.out / f"{options.set}-{options.model}-{options.seed}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    run = Run(shop, catalog, folder, about, options.device)
    torch.set_float32_matmul_precision("high")
    subject, history = trained(shop.train, catalog, model, training, shop.validation, options.device, say)
    torch.set_float32_matmul_precision("highest")  # the float32 yardstick is float32
    save_bf16(subject, catalog, folder / "bf16")
    parameters = sum(parameter.numel() for parameter in subject.parameters())
    run.row(TrainingRow, "training", training.precision, {
        "parameters": parameters, "train_config": dataclasses.asdict(training), "history": tuple(history),
        "interactions": len(shop.train), "items": len(catalog), "users": len(shop.test)})  # fmt: skip
    run.say("training", f"{parameters / 1e6:.1f} M parameters")
    del subject
    judge(run, breakers=not options.no_breakers, only_bf16=options.only_bf16)
    if not options.only_bf16:
        written = records.read(folder / "rows.jsonl", *FILES["quality.jsonl"])
        plots.write(folder / "loss.svg", written, options.model, options.seed)
    print(f"done in {time.perf_counter() - run.start:.0f} s", flush=True)


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    run(main)
