"""The blocks of a job are answered on a cluster: Ray Data gives runs of blocks to actors, each with an engine.

The table and the folder of answers lie where all of them can read and write. A block that an actor had when it was lost
is answered again, into the same file.
"""

import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
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
        there = [
            block for block in blocks if (self.answering.job.out / block.name).exists()
        ]  # of an actor that was lost
        missing = [block for block in blocks if block not in there]  # all of them, if no actor was lost
        error: list[str] = []
        try:
            self.answering.run(missing, silent)
        except InputError as raised:
            error = [raised.field, str(raised.value), raised.allowed]
        counts = self.answering.counts - before
        for block in there:
            counts.update(counted(self.answering.job.out / block.name))
        return {"error": np.array([json.dumps(error)]), **{name: np.array([counts.get(name, 0)]) for name in COUNTED}}


def counted(path: Path) -> dict[str, int]:
    """Return what is counted of a block's file."""
    table = pyarrow.parquet.read_table(path, columns=["exact", "source"])
    popular = table["source"].to_pylist().count("popularity")
    return {"users": len(table), "exact": table["exact"].to_pylist().count(True), "by_popularity": popular}


def recommend_all(
    job: Job,
    progress: Progress = silent,
    opened: Callable[[UserTable, int], None] = lambda table, before: None,
    actors: int | None = None,
) -> dict[str, Any]:
    """Do what `run.recommend_all` does on a cluster: that of RAY_ADDRESS, or one of this machine.

    actors: how many; None: one a GPU, or one a node where the device is the CPU.
    """
    model, catalog = known(job)
    table = job.table(model.user_fields, features_of(model))
    check_user_ids(table)
    about = job.about(catalog)
    todo = begin(job, table, about)
    before = len(table) - sum(block.count for block in todo)
    opened(table, before)
    start, counts = time.perf_counter(), Counter[str]()
    with cluster():
        for row in answered(job, about, todo, actors):
            if error := json.loads(row.pop("error")):
                raise InputError(*error)
            counts.update(row)
            progress(before + counts["users"], len(table))
    return finished(job, about, counts, before, table) | {"seconds": seconds_since(start)}


def answered(
    job: Job, about: Mapping[str, Any], blocks: Sequence[Block], actors: int | None
) -> Iterator[dict[str, Any]]:
    """Yield what was counted of each run of blocks, as it is done."""
    import ray

    gpu = job.device != "cpu"
    count = actors or int(ray.cluster_resources().get("GPU", 0) if gpu else len(ray.nodes())) or 1
    runs = runs_of(blocks, max(1, min(RUN, len(blocks) // (2 * count))))
    if runs:
        given = ray.data.from_items(runs, override_num_blocks=len(runs))
        how: Any = {"num_gpus": 1} if gpu else {"num_cpus": 1}
        how |= {"compute": ray.data.ActorPoolStrategy(size=count), "batch_size": 1}
        yield from given.map_batches(Actor, fn_constructor_args=(job, about), **how).iter_rows()


@contextmanager
def cluster() -> Iterator[None]:
    """Join a cluster and leave it with the block, where this process has not joined one. Ray's words go to stderr."""
    import ray

    joins = not ray.is_initialized()
    with redirect_stdout(sys.stderr):
        if joins:
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)  # its import chose another
        try:
            yield
        finally:
            if joins:
                ray.shutdown()


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
