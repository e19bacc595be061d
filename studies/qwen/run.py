"""A Qwen3 of 0.1 billion parameters learns three shops, answers beside floors, is proved in FP8 (plan.md), and is set
beside transformers.

    python -m studies.exact.data --data FOLDER --out runs/qwen/data --codebook-sizes 8192 64 128
    python -m studies.qwen.run runs/qwen/model --data runs/qwen/data

The first makes interactions and catalog, a minute on a CPU. The second trains the folder and measures it: about nine
minutes on an H200. Stages can be done one by one: `--stages test` asks a folder that is there. Rows are appended as
they are made; the outcomes of all targets lie beside them, a Parquet file a shop.
"""

import argparse
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import records
from benchmarks.program import run
from benchmarks.rows.qwen import QwenTrainingRow
from octorec.catalog.catalog import Catalog
from octorec.data.interactions import read_interactions
from octorec.kernels.device import open_device
from octorec.models.hf_folder import Checkpoint
from studies.exact.asked import Deadline
from studies.exact.subject import Targets, spread
from studies.qwen import beside, folder, quality, render
from studies.qwen.answers import Answering, opened
from studies.qwen.settings import Study
from studies.qwen.train import Trained, deterministic, planned, steps_within, train
from studies.stages import release, stage_names

OUT = records.RESULTS / "qwen.jsonl"
SECONDS = {"train": 240, "validation": 60, "test": 90, "quality": 150, "parity": 60}
MODEL = "Qwen3 0.1B, three shops"
STUDY = Study()


class Running:
    """A Running is one call of the program: its stages share data, and the name of the run."""

    def __init__(self, options: argparse.Namespace, study: Study):
        self.options, self.study = options, study
        self.catalog = Catalog.load(options.data / "catalog")
        self.targets = Targets.of(read_interactions(options.data / "interactions.csv"))
        self.failed: list[str] = []

    def stage(self, name: str, work: Callable[[Deadline], None]) -> None:
        """Do one part; one that fails does not cost the others."""
        if name not in self.options.stages:
            return
        seconds, start = getattr(self.options, f"{name}_seconds"), time.perf_counter()
        print(f"{name}, at most about {seconds:g} s", flush=True)
        try:
            work(Deadline.within(name, seconds))
        except Exception:  # whatever it is: what comes after it is measured all the same
            traceback.print_exc()
            self.failed.append(name)
        print(f"{name} took {time.perf_counter() - start:.1f} s", flush=True)
        release()

    def about(self) -> dict[str, Any]:
        """Return what every row says of the run and the folder."""
        parameters = sum(tensor.numel() for _, tensor in Checkpoint(self.options.folder).items())
        return {"run": self.options.run, "model": self.options.model, "parameters": parameters}

    def train(self, deadline: Deadline) -> None:
        """Train the folder: as many steps as the settings want, or as fit the stage's seconds."""
        study, device, tokenizer = self.study, self.options.device, folder.made_tokenizer(self.catalog.codebook_sizes)
        study = replace(study, codebook_sizes=self.catalog.codebook_sizes)
        sids = folder.sids_of(tokenizer)
        asked = study, self.catalog, sids, self.targets.train, device
        with deterministic():
            steps = self.options.steps or steps_within(*asked, self.options.train_seconds)
            release()
            print(f"  {steps} steps of {study.training.batch} items", flush=True)
            trained = train(planned(study, steps), *asked[1:])
        folder.save(self.options.folder, trained.model, tokenizer, self.catalog, asdict(trained.training))
        records.append(self.options.out, self.training_row(trained))

    def training_row(self, trained: Trained) -> QwenTrainingRow:
        about = self.about()
        tokens = trained.items * (len(self.catalog.codebook_sizes) + 1)
        row = QwenTrainingRow(
            **about, shape=dict(self.study.shape), codebook_sizes=self.catalog.codebook_sizes,
            training=asdict(trained.training), users=len(self.targets.test), seconds=round(trained.seconds, 2),
            ms=round(trained.ms, 3), items=trained.items, losses=[round(one, 5) for one in trained.losses],
            tflops=round(6 * about["parameters"] * tokens / trained.seconds / 1e12, 3),
        )  # fmt: skip
        print(f"  {row.parameters:,} parameters, {row.ms:.1f} ms a step, {row.tflops:.0f} TFLOP/s", flush=True)
        return row

    def answers(self, split: str, users: int, deadline: Deadline) -> None:
        """Ask an engine over the folder for a held-out item of each of some users."""
        study, examples = self.study, spread(getattr(self.targets, split), users)
        engine = opened(self.options.folder, study, self.options.device)
        asking = Answering(engine, study, self.targets.train, self.about(), self.options.out)
        asking.measure(examples, split, deadline)
        if split == "test":
            for shop, outcomes in asking.outcomes.items():
                outcomes.save(self.options.out.with_name(f"outcomes-{shop}.parquet"))

    def validation(self, deadline: Deadline) -> None:
        self.answers("validation", self.options.validation_users, deadline)

    def test(self, deadline: Deadline) -> None:
        self.answers("test", self.options.users, deadline)

    def quality(self, _: Deadline) -> None:
        """Prove FP8 as plan.md says."""
        proof = quality.Proof(
            self.options.folder, self.catalog, self.study, self.options.device, self.about(), self.options.out
        )
        proof.measure(self.targets, self.options.quality_seconds, self.options.quality_targets)

    def parity(self, deadline: Deadline) -> None:
        study, examples = self.study, spread(self.targets.test, self.study.parity_prompts)
        beside.measure(
            self.options.folder, self.catalog, examples, study.parity_width, study.longest, self.options.device,
            self.about(), self.options.out, deadline,
        )  # fmt: skip


def main(study: Study = STUDY) -> None:
    training = study.training
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the model's: written by the stage train, read by the others")
    parser.add_argument("--data", type=Path, required=True, help="interactions.csv and catalog")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--model", default=MODEL, help="how rows name it")
    now = datetime.now().isoformat(timespec="seconds")
    parser.add_argument("--run", default=now, help="whose rows these are")
    read = partial(stage_names, known=SECONDS)
    parser.add_argument("--stages", type=read, default=[*SECONDS], help=f"these alone, of {','.join(SECONDS)}")
    parser.add_argument("--steps", type=int, help="of the training; without it as many as fit its seconds")
    parser.add_argument("--dropout", type=float, default=training.dropout)
    parser.add_argument("--learning-rate", type=float, default=training.learning_rate)
    parser.add_argument("--seed", type=int, default=training.seed)
    parser.add_argument("--validation-users", type=int, default=study.validation_users)
    parser.add_argument("--users", type=int, default=12_000, help="whose test targets are asked for")
    parser.add_argument("--quality-targets", type=int, help="at most; without it as many as fit its seconds")
    parser.add_argument("--device", default="cuda")
    for name, seconds in SECONDS.items():
        parser.add_argument(f"--{name}-seconds", type=float, default=seconds)
    options = parser.parse_args()
    open_device(options.device)
    own = replace(training, dropout=options.dropout, learning_rate=options.learning_rate, seed=options.seed)
    running = Running(options, replace(study, training=own))
    for name in SECONDS:
        running.stage(name, getattr(running, name))
    if options.out.exists():
        print(render.summary(options.out), flush=True)
    if running.failed:
        sys.exit(f"failed: {', '.join(running.failed)}")


if __name__ == "__main__":
    run(main)
