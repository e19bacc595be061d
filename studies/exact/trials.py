"""Which settings train the dense 0.5B best in a short time? NLL of validation targets, and how long a step takes.

    python -m studies.exact.trials --data runs/union --seconds 150 --out runs/trials.jsonl --settings runs/settings.env

Each variant is a whole training, from the same weights, of as many steps as the time allows: its learning rate warms up
and falls. --settings gets the best learning rate, milliseconds of a step of the dense model, and of its MoE form
(estimated from a few blocks of it), as lines for a shell.
"""

import argparse
import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks import records
from benchmarks.program import run
from benchmarks.records import Row
from octorec.catalog.catalog import Catalog
from octorec.data.interactions import Interactions, read_interactions
from octorec.data.splits import training_part
from octorec.kernels.device import open_device
from octorec.models.onerec import OneRecV2
from octorec.models.onerec_config import OneRecConfig
from octorec.output.write import new_file
from octorec.training.config import TrainConfig
from octorec.training.examples import TrainingSet, training_set
from octorec.training.run import model_config, new_trainer
from octorec.training.trainer import Trainer
from studies.exact.data import HOLD_OUT, moe_form
from studies.exact.temperature import calibrated, nll
from studies.quality.sweep import parsed
from studies.stages import release

BASE = TrainConfig(
    batch_size=1024, learning_rate=1e-3, warmup=60, weight_decay=0.1, label_smoothing=0.1, dropout=0.2,
    history_drop=0.5, codebook_start=True, precision="bfloat16",
)  # fmt: skip
VARIANTS = ("learning_rate=1e-3", "learning_rate=5e-4", "learning_rate=2e-3", "dropout=0.1", "label_smoothing=0.0")
BLOCKS = 4  # of the small models whose steps are timed, two of them with experts
TIMED = 15  # steps, after as many
LEAST = 20  # steps of a trial
SPARE = 5.0  # seconds of a trial that are no steps
FOR_MOE = 15.0  # seconds in which steps of the MoE form are timed


@dataclass(frozen=True)
class TrialRow(Row):
    """A short training with one change of the settings, judged on validation targets."""

    variant: str
    steps: int
    targets: int
    loss: float  # of the last step
    nll: float  # nats a target, at the temperature
    temperature: float  # that makes it least
    ms: float  # of a step


def split(interactions: Interactions, catalog: Catalog) -> tuple[TrainingSet, TrainingSet]:
    """Return what is trained on, and an example a user that predicts the older one of the two that are held out."""
    every = training_set(training_part(interactions, HOLD_OUT - 1), catalog)
    newest = torch.ones(len(every), dtype=torch.bool)
    newest[:-1] = every.first[1:] != every.first[:-1]
    return _of(every, ~newest), _of(every, newest)


def _of(data: TrainingSet, rows: Tensor) -> TrainingSet:
    return TrainingSet(data.codes, data.first[rows], data.target[rows], data.user[rows])


def spread_over(data: TrainingSet, most: int) -> TrainingSet:
    """Return at most so many of the examples, evenly spread over all."""
    return _of(data, torch.from_numpy(np.linspace(0, len(data) - 1, min(most, len(data)), dtype=np.int64)))


@torch.no_grad()
def judged(model: OneRecV2, data: TrainingSet, size: int) -> tuple[float, float]:
    """Return the least NLL of the targets, in nats, over temperatures; and the temperature."""
    model.eval()
    logits: list[list[Tensor]] = []
    codes = []
    for rows in torch.arange(len(data), device=data.target.device).split(size):
        context, true = data.batch(rows, model.config.max_context)
        with torch.autocast("cuda", torch.bfloat16, enabled=rows.is_cuda):
            logits.append([level.float() for level in model(context, true)])
        codes.append(true)
    levels = [torch.cat(parts) for parts in zip(*logits, strict=True)]
    temperature = calibrated(levels, torch.cat(codes))
    return nll(levels, torch.cat(codes), temperature), temperature


def milliseconds(trainer: Trainer) -> float:
    """Return how long a step takes at the median, once its graph is captured."""
    taken = []
    for _ in range(2 * TIMED):
        before = time.perf_counter()
        trainer.one_step()  # waits for its loss
        taken.append(1e3 * (time.perf_counter() - before))
    return float(np.median(taken[TIMED:]))


class Trials:
    """What the trials share: data on the device, and the weights that all begin with."""

    def __init__(self, data: Path, device: str, batch_size: int, targets: int):
        self.device, self.base = device, dataclasses.replace(BASE, batch_size=batch_size)
        self.catalog = Catalog.load(data / "catalog")
        self.dense = model_config(data / "config.json", self.catalog)
        train, validation = split(read_interactions(data / "interactions.csv"), self.catalog)
        self.train, self.validation = train.to(device), spread_over(validation, targets).to(device)
        first = self.new(self.dense)
        self.ops = first.model.ops
        self.start = {name: tensor.clone() for name, tensor in first.model.state_dict().items()}
        self.dense_ms = milliseconds(first)

    def new(self, model: OneRecConfig) -> Trainer:
        return new_trainer(model, self.train, self.base, self.catalog, self.device)

    def moe_milliseconds(self) -> float:
        """Estimate a step of the MoE form from one of the dense model: two blocks of each are timed among four."""
        few = dataclasses.replace(self.dense, n_layer=BLOCKS)
        plain, mixed = (milliseconds(self.new(one)) for one in (few, moe_form(few)))
        return self.dense_ms + (mixed - plain) / (BLOCKS - 2) * (self.dense.n_layer - 2)

    def trial(self, variant: str, steps: int) -> TrialRow:
        """Train from the common weights with a change of the settings."""
        config = dataclasses.replace(self.base, **parsed(variant), steps=steps)
        config = dataclasses.replace(config, warmup=min(config.warmup, steps // 4))
        with torch.device(self.device):
            model = OneRecV2(self.dense, self.ops)
        model.load_state_dict(self.start)
        trainer = Trainer(model, self.train, config)
        before, loss = time.perf_counter(), 0.0
        for _ in range(steps):
            loss = trainer.one_step()
        ms = 1e3 * (time.perf_counter() - before) / steps
        found, temperature = judged(model, self.validation, config.batch_size)
        return TrialRow(variant, steps, len(self.validation), loss, round(found, 4), temperature, round(ms, 2))


def best_rate(rows: Sequence[TrialRow]) -> float:
    """Return the learning rate of the variant with the least NLL among those that change it alone."""
    of_rates = [row for row in rows if set(parsed(row.variant)) == {"learning_rate"}]
    return float(parsed(min(of_rates, key=lambda row: row.nll).variant)["learning_rate"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="what studies.exact.data wrote")
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--variants", nargs="*", default=VARIANTS)
    parser.add_argument("--batch-size", type=int, default=BASE.batch_size)
    parser.add_argument("--targets", type=int, default=4000, help="of validation")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--settings", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    start = time.perf_counter()
    open_device(options.device)
    trials = Trials(options.data, options.device, options.batch_size, options.targets)
    release()
    print(f"{time.perf_counter() - start:.0f} s  {len(trials.train):,} examples", flush=True)
    used = time.perf_counter() - start
    print(f"{used:.0f} s  a step takes {trials.dense_ms:.1f} ms", flush=True)
    each = (options.seconds - used - FOR_MOE) / len(options.variants)
    steps, rows = max(LEAST, int(1e3 * (each - SPARE) / trials.dense_ms)), []
    for variant in options.variants:
        release()
        rows.append(trials.trial(variant, steps))
        records.append(options.out, rows[-1])
        said = f"NLL {rows[-1].nll:.3f} at {rows[-1].temperature}, loss {rows[-1].loss:.3f}, {rows[-1].ms:.1f} ms"
        print(f"{time.perf_counter() - start:.0f} s  {variant}, {steps} steps: {said}", flush=True)
    settings = f"LR={best_rate(rows):g}\nMS={trials.dense_ms:.0f}\n"
    write(options.settings, settings)
    release()
    moe = trials.moe_milliseconds()  # last: what fails here does not cost the trials
    print(f"{time.perf_counter() - start:.0f} s  a step of the MoE form takes about {moe:.1f} ms", flush=True)
    write(options.settings, f"{settings}MOE_MS={moe:.0f}\n")


def write(path: Path, text: str) -> None:
    with new_file(path) as scratch:
        scratch.write_text(text)


if __name__ == "__main__":
    run(main)
