"""Exact answers on a trained, calibrated model: the temperature, what certifies, what each policy costs and loses.

    python -m studies.exact.run runs/union/bf16 runs/union/fp8 --data runs/union/interactions.csv

The first folder is a BF16 checkpoint that `octorec train --hold-out 2` wrote with its catalog, the second what `octorec
quantize` made of it. Every stage ends when its time is up (`--STAGE-seconds`), and rows are written as they are made.
A few minutes on an H200.

Stages can be done one by one: `--stages million --run 1 --temperature 1.045` adds to the rows of run 1. `auto` begins
as the stage `starts` of the same call says, or else as a row of an earlier one in the file does.
"""

import argparse
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import records
from benchmarks.program import run
from benchmarks.rows.exact import TemperatureRow
from octorec.catalog.catalog import Catalog
from octorec.data.interactions import read_interactions
from octorec.data.splits import Example
from octorec.engine.batch import ParsedRequest
from octorec.kernels.device import open_device
from studies.exact import render, settings
from studies.exact.asked import Asked, Deadline, OutOfTime, parse_all
from studies.exact.certified import beam_starts, certified
from studies.exact.million import with_neighbours
from studies.exact.policies import policies, times
from studies.exact.shops import beside_markov, by_shop, markov_chain
from studies.exact.subject import Subject, Targets, opened, spread
from studies.exact.temperature import calibrated, forced_logits, nll, tempered
from studies.stages import release, stage_names

OUT = records.RESULTS / "exact.jsonl"
SECONDS = {"temperature": 90, "starts": 45, "shops": 90, "certified": 75, "policies": 170, "times": 90, "million": 160}
Stage = Callable[[Deadline], None]


class Study:
    """What the stages share. subjects: as trained, and once the temperature is known, calibrated."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.start = time.perf_counter()
        self.failed: list[str] = []
        self.catalog = Catalog.load(options.bf16 / "catalog")
        self.targets = Targets.of(read_interactions(options.data))
        self.about = {"run": options.run, "model": options.model}
        self.parsed: dict[Example, ParsedRequest] = {}
        self.plain = {name: self.open(folder, name, 1.0) for name, folder in self.folders.items()}
        self.calibrated: dict[str, Subject] = {}

    @property
    def folders(self) -> dict[str, Path]:
        return {"bf16": self.options.bf16, "fp8": self.options.fp8}

    @property
    def subjects(self) -> list[Subject]:
        """Calibrated ones first: where time runs out, as trained is what is missing."""
        plain = [] if self.options.calibrated_only and self.calibrated else self.plain.values()
        return [*self.calibrated.values(), *plain]

    @property
    def served(self) -> list[Subject]:
        """The calibrated ones, which would be served; as trained where there are none."""
        return [*self.calibrated.values()] or [*self.plain.values()]

    def open(self, folder: Path, precision: str, temperature: float) -> Subject:
        about: dict[str, Any] = {**self.about, "precision": precision, "temperature": temperature}
        return opened(folder, self.catalog, self.options.device, about, self.options.out)

    def stage(self, name: str, work: Stage) -> None:
        """Do a part of the study within its time; one that fails does not cost the others."""
        seconds = getattr(self.options, f"{name}_seconds")
        if seconds <= 0 or name not in self.options.stages:
            return
        print(f"{time.perf_counter() - self.start:6.1f} s  {name}, at most {seconds:g} s", flush=True)
        try:
            work(Deadline.within(name, seconds))
        except OutOfTime:
            print(f"  {name}: its {seconds:g} s are over", flush=True)
        except Exception:  # whatever it is: what comes after it is measured all the same
            traceback.print_exc()
            self.failed.append(name)
        release()

    def asked(self, examples: Sequence[Example], most: int, deadline: Deadline) -> Asked:
        """Parse the requests of at most so many examples, once for all subjects and stages."""
        return parse_all(self.plain["bf16"].engine, spread(examples, most), deadline, self.parsed)

    def calibrate(self, scratch: Path) -> None:
        """Open the calibrated subjects: at the temperature that is measured now, or was before."""
        if "temperature" in self.options.stages:
            self.stage("temperature", lambda deadline: self.temperature(deadline, scratch))
        elif self.options.temperature is not None:
            for name in self.plain:
                self.calibrated[name] = self.tempered(name, self.options.temperature, scratch)
        for subject in self.subjects:
            subject.recall_starts()

    def tempered(self, name: str, temperature: float, scratch: Path) -> Subject:
        return self.open(tempered(self.folders[name], scratch / name, temperature), name, temperature)

    def temperature(self, deadline: Deadline, scratch: Path) -> None:
        """Choose the temperature of BF16 on validation targets; both precisions get it."""
        asked = self.asked(self.targets.validation, self.options.validation, deadline)
        chosen = self.options.temperature
        for name, subject in self.plain.items():
            logits, codes = forced_logits(subject.engine, asked, deadline)
            chosen = calibrated(logits, codes) if chosen is None else chosen
            found = nll(logits, codes), nll(logits, codes, chosen)
            del logits
            print(f"  {subject.name}: validation NLL {found[0]:.4f}, {found[1]:.4f} at {chosen}", flush=True)
            other = self.tempered(name, chosen, scratch)
            other.row(TemperatureRow, asked, validation_nll=found[0], validation_nll_calibrated=found[1])
            self.calibrated[name] = other

    def starts(self, deadline: Deadline) -> None:
        asked = self.asked(self.targets.validation, self.options.start_requests, deadline)
        for subject in self.subjects:
            beam_starts(subject, asked, deadline)

    def certified(self, deadline: Deadline) -> None:
        asked = self.asked(self.targets.test, self.options.certified_users, deadline)
        for subject in self.subjects:
            certified(subject, subject.engine, asked, settings.KS, deadline)
            release()

    def policies(self, deadline: Deadline) -> None:
        asked = self.asked(self.targets.test, self.options.users, deadline)
        for subject in self.subjects:
            policies(subject, subject.engine, asked, settings.POLICIES, deadline)

    def times(self, deadline: Deadline) -> None:
        asked = self.asked(self.targets.test, self.options.timed_users, deadline)
        for subject in self.served:
            times(subject, asked, self.options.batches, deadline)

    def shops(self, deadline: Deadline) -> None:
        of_shops = by_shop(spread(self.targets.test, self.options.shop_users))
        chains = {shop: markov_chain(self.targets.train, shop, examples) for shop, examples in of_shops.items()}
        asked = {shop: self.asked(examples, len(examples), deadline) for shop, examples in of_shops.items()}
        print("  chains are learned, requests are parsed", flush=True)
        for subject in self.subjects:
            for shop, chain in chains.items():
                beside_markov(subject, shop, asked[shop], chain, deadline)

    def million(self, deadline: Deadline) -> None:
        many = with_neighbours(self.catalog, self.options.items)
        print(f"  {len(many):,} items, {len(many) - len(self.catalog):,} of them made up", flush=True)
        examples = spread(self.targets.test, self.options.certified_users)
        asked = parse_all(self.plain["bf16"].over(many, settings.REFERENCE), examples, deadline)
        release()
        for subject in self.subjects:
            engine = subject.over(many, *settings.WIDTHS, *settings.SCHEDULES)
            certified(subject, engine, asked, settings.KS, deadline)
            if subject in self.served:
                policies(subject, engine, asked, settings.OF_MANY, deadline)
            del engine
            release()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bf16", type=Path)
    parser.add_argument("fp8", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="the interactions that both learned from")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--model", default="dense 0.5B, three shops", help="how rows name it")
    now = datetime.now().isoformat(timespec="seconds")
    parser.add_argument("--run", default=now, help="whose rows these are; tables show the newest run")
    stages = ",".join(SECONDS)
    read = partial(stage_names, known=SECONDS)
    parser.add_argument("--stages", type=read, default=[*SECONDS], help=f"these alone, of {stages}")
    parser.add_argument("--validation", type=int, default=5000, help="targets that choose the temperature")
    parser.add_argument("--temperature", type=float, help="instead of the one that validation chooses")
    parser.add_argument("--calibrated-only", action="store_true", help="leave the models as trained out")
    parser.add_argument("--start-requests", type=int, default=640)
    parser.add_argument("--certified-users", type=int, default=1280, help="whose answers are certified")
    parser.add_argument("--timed-users", type=int, default=640)
    parser.add_argument("--users", type=int, default=8000, help="whose answers are compared by policy")
    parser.add_argument("--shop-users", type=int, default=24000, help="whose answers stand beside the chain's")
    parser.add_argument("--batches", type=int, default=100, help="that are timed of each policy")
    parser.add_argument("--items", type=int, default=settings.MILLION, help="of the catalog with neighbours")
    parser.add_argument("--device", default="cuda")
    for name, seconds in SECONDS.items():
        parser.add_argument(f"--{name}-seconds", type=float, default=seconds, help="0: leave the stage out")
    options = parser.parse_args()
    open_device(options.device)
    study = Study(options)
    with tempfile.TemporaryDirectory() as scratch:
        study.calibrate(Path(scratch))
        for name in list(SECONDS)[1:]:
            study.stage(name, getattr(study, name))
    print(f"done in {time.perf_counter() - study.start:.0f} s\n\n{render.summary(options.out)}", flush=True)
    if study.failed:
        sys.exit(f"failed: {', '.join(study.failed)}")


if __name__ == "__main__":
    run(main)
