"""What one busy neighbour costs each verb, by how many threads compute and how they wait.

    python -m benchmarks.steady --out results/steady.jsonl

Every row is a process of its own: 96 requests one after the other through `octorec.load`, 20 training steps of 256, and
the evaluation of 100 users, of the demo's model with random weights; each is run once before it is timed. The neighbour
is a Python process that never rests. Takes some ten minutes on two cores, most of them spinning; nothing else should
use them.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import records
from benchmarks.program import run
from benchmarks.rows import SteadyRow
from octorec.threads import COUNT, WAITING, cores

N_ITEMS, HISTORY = 2000, 40
REQUESTS, STEPS, USERS = 96, 20, 100
SPINNING = {WAITING: "ACTIVE", "GOMP_SPINCOUNT": "300000"}  # what libgomp does where nothing is said
RULES: dict[str, dict[str, str]] = {
    "torch's own: every core, spinning": {COUNT: str(cores()), **SPINNING},
    "every core, sleeping": {COUNT: str(cores()), WAITING: "PASSIVE"},
    "ours": {},
}


def measured() -> dict[str, Any]:
    """Seconds of each job in this process."""
    import torch

    from octorec.evaluate.predictions import predict

    with tempfile.TemporaryDirectory() as folder:
        engine, examples = subject(Path(folder))
        trainer = training(engine.catalog)
        jobs: dict[str, Callable[[], object]] = {
            "requests": lambda: [engine.recommend([request]) for request in requests()],
            "training": lambda: [trainer.one_step() for _ in range(STEPS)],
            "evaluate": lambda: predict(engine, examples, k=10),
        }
        found: dict[str, Any] = {"threads": torch.get_num_threads()}
        for name, job in jobs.items():
            if name == "training":
                trainer.one_step()
            else:
                job()
            start = time.perf_counter()
            job()
            found[name] = round(time.perf_counter() - start, 2)
    return found


def subject(folder: Path) -> tuple[Any, list[Any]]:
    """An engine that was loaded from a folder, and held-out examples to evaluate it on."""
    import torch

    import octorec
    from benchmarks.random_model import random_catalog
    from octorec.data.splits import Example
    from octorec.models import weights
    from octorec.models.onerec import OneRecV2, initialize
    from octorec.models.presets import preset

    catalog = random_catalog(preset("demo"), N_ITEMS)
    model = OneRecV2(preset("demo", codebook_fingerprint=catalog.fingerprint))
    initialize(model, seed=0)
    weights.save(model, folder, torch.bfloat16)
    catalog.save(folder / "catalog")
    widths: dict[str, Any] = {"batch_sizes": (1, 64), "beam_widths": (32,), "default_beam_width": 32}
    examples = [Example(str(n), request.history, request.history[0]) for n, request in enumerate(requests(USERS))]
    return octorec.load(folder, **widths), examples


def requests(n: int = REQUESTS) -> list[Any]:
    from benchmarks.random_model import random_requests

    return random_requests(n, N_ITEMS, HISTORY, 32)


def training(catalog: Any) -> Any:
    """A trainer on made-up interactions."""
    import numpy as np
    import pyarrow as pa

    from octorec.data.interactions import Interactions
    from octorec.models.presets import preset
    from octorec.training.config import TrainConfig
    from octorec.training.examples import training_set
    from octorec.training.run import new_trainer

    items = np.random.default_rng(0).integers(0, N_ITEMS, (500, HISTORY))
    columns = {
        "user_id": np.repeat(np.arange(500), HISTORY).astype(str),
        "item_id": items.ravel().astype(str),
        "timestamp": np.tile(np.arange(HISTORY), 500),
    }
    model = preset("demo", codebook_fingerprint=catalog.fingerprint)
    data = training_set(Interactions.from_table(pa.table(columns)), catalog, model.user_fields, None)
    return new_trainer(model, data, TrainConfig(steps=STEPS), catalog, "cpu")


@contextmanager
def neighbours(n: int) -> Iterator[None]:
    """So many processes that never rest."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def row(rule: str, busy: int) -> SteadyRow:
    """What a process under this rule took beside so many neighbours."""
    inherited = {name: value for name, value in os.environ.items() if name not in (COUNT, *SPINNING)}
    command = [sys.executable, "-m", "benchmarks.steady", "--measure"]
    with neighbours(busy):
        done = subprocess.run(command, env={**inherited, **RULES[rule]}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return SteadyRow(rule=rule, neighbours=busy, cores=cores(), **json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=records.RESULTS / "steady.jsonl")
    parser.add_argument("--measure", action="store_true", help="print this process's own seconds as JSON")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measured()))
        return
    for rule in RULES:
        for busy in (0, 1):
            records.append(options.out, found := row(rule, busy))
            print(json.dumps(records.as_json(found)), flush=True)


if __name__ == "__main__":
    run(main)
