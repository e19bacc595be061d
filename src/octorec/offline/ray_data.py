"""The blocks of a job are answered on a cluster: Ray Data gives runs of blocks to actors, each with an engine.

The table and the folder of answers lie where all of them can read and write. A block that an actor had when it was lost
is answered again, into the same file.
"""

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from octorec.catalog.catalog import Catalog
from octorec.engine.catalogs import open_catalogs
from octorec.errors import InputError
from octorec.kernels.device import shapes_for
from octorec.models.features import features_of
from octorec.models.lora import open_checkpoint
from octorec.offline.run import Answering, Job, begin, finished, seconds_since
from octorec.offline.table import Block, UserTable, check_user_ids
from octorec.progress import Progress, silent
from octorec.quant.load import empty_like

RUN = 8  # blocks that an actor is given at a time at most: what it skips in a row group is then little
COUNTED = ("users", "left_out", "by_popularity", "exact")


class Actor:
    """An Actor loads the engine of a job once and answers runs of its blocks."""

    def __init__(self, job: Job, about: Mapping[str, Any]):
        engine = job.engine()
        table = job.table(engine.user_fields, engine.features)
        self.answering = Answering(job, engine, table, about)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Answer blocks first..end, and return what was counted."""
        before = Counter(self.answering.counts)
        blocks = [self.answering.table.blocks[number] for number in range(int(batch["first"][0]), int(batch["end"][0]))]
        missing = [block for block in blocks if not (self.answering.job.out / block.name).exists()]
        error: list[str] = []
        try:
            self.answering.run(missing, silent)
        except InputError as raised:
            error = [raised.field, str(raised.value), raised.allowed]
        counts = self.answering.counts - before
        return {"error": np.array([json.dumps(error)]), **{name: np.array([counts.get(name, 0)]) for name in COUNTED}}


def recommend_all(
    job: Job,
    progress: Progress = silent,
    opened: Callable[[UserTable, int], None] = lambda table, before: None,
    actors: int | None = None,
) -> dict[str, Any]:
    """Do what `run.recommend_all` does on a cluster: that of RAY_ADDRESS, or one of this machine.

    actors: how many; None: one a GPU, or one a node where the device is the CPU.
    """
    import ray

    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    ray.data.DataContext.get_current().enable_progress_bars = False
    model, catalog = known(job)
    table = job.table(model.user_fields, features_of(model))
    check_user_ids(table)
    about = job.about(catalog)
    todo = begin(job, table, about)
    before = len(table) - sum(block.count for block in todo)
    opened(table, before)
    start = time.perf_counter()
    gpu = job.device != "cpu"
    count = actors or int(ray.cluster_resources().get("GPU", 0) if gpu else len(ray.nodes())) or 1
    counts: Counter[str] = Counter()
    if runs := runs_of(todo, max(1, min(RUN, len(todo) // (2 * count)))):
        given = ray.data.from_items(runs, override_num_blocks=len(runs))
        how: Any = {"num_gpus": 1} if gpu else {"num_cpus": 1}
        done = given.map_batches(
            Actor, fn_constructor_args=(job, about), batch_size=1, compute=ray.data.ActorPoolStrategy(size=count), **how
        )
        for row in done.iter_rows():
            if error := json.loads(row.pop("error")):
                raise InputError(*error)
            counts.update(row)
            progress(before + counts["users"], len(table))
    return finished(job, about, counts, before, table) | {"seconds": seconds_since(start)}


def known(job: Job) -> tuple[Any, Catalog]:
    """Return a job's model without weights, and the catalog that answers: all that the table is checked with."""
    source = open_checkpoint(job.checkpoint, job.base)
    model: Any = empty_like(source, shapes_for(torch.device("cpu")), torch.float32, job.context_module)
    catalogs = open_catalogs(job.catalog, job.checkpoint, model)
    return model, catalogs.get(job.config.domain, next(iter(catalogs.values())))


def runs_of(blocks: Sequence[Block], most: int) -> list[dict[str, int]]:
    """Return runs of consecutive blocks, each of at most `most`, as the first number and the one after the last."""
    runs: list[dict[str, int]] = []
    for block in blocks:
        if runs and runs[-1]["end"] == block.number and block.number - runs[-1]["first"] < most:
            runs[-1]["end"] += 1
        else:
            runs.append({"first": block.number, "end": block.number + 1})
    return runs
