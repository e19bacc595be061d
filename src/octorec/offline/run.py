"""All users of a table are answered: blocks are read, looked up, answered and written at once, a thread each.

While the device answers a block, other threads read and look up the next ones and write the one before, in Arrow, which
keeps the thread that feeds the device waiting for nothing.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import torch

import octorec
from octorec.catalog.catalog import Catalog
from octorec.data.table_format import INTERACTIONS, OURS, TableFormat
from octorec.data.tables import part_files
from octorec.data.users import read_users
from octorec.engine.engine import Engine
from octorec.engine.load import load
from octorec.engine.model_folder import checkpoint_version
from octorec.errors import InputError
from octorec.models.user import UserField
from octorec.offline.answers import answers_to, as_table, write_block
from octorec.offline.ask import Rows, rows_of
from octorec.offline.config import OfflineConfig
from octorec.offline.manifest import check_manifest, digest_of, write_manifest
from octorec.offline.table import Block, UserTable, check_user_ids, open_users
from octorec.output.marker import MARKER, mark
from octorec.progress import Progress, silent

AHEAD = 2  # blocks that may wait to be written
T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """A Job is one table of users to answer into a folder.

    users: a table of what is known of each user, beside one of interactions. form: how they are written.
    """

    checkpoint: Path
    data: Path
    out: Path
    config: OfflineConfig = field(default_factory=OfflineConfig)
    catalog: Any = None
    device: str = "cpu"
    base: Path | None = None
    context_module: str | None = None
    form: TableFormat = OURS
    users: Path | None = None

    def engine(self, progress: Progress = silent) -> Engine:
        """Load the engine that answers, warm."""
        options: Any = {"base": self.base, "context_module": self.context_module, "progress": progress}
        made = load(self.checkpoint, self.catalog, self.device, **options, **self.config.engine())
        answering = made.of(self.config.request()) if made.domains else made
        answering.warm_up()
        return answering

    def table(self, user_fields: Sequence[UserField], features: Collection[str]) -> UserTable:
        """Open the table of users, with the columns that a model reads."""
        fields = [*(one.name for one in user_fields), *features]
        table = open_users(self.data, self.config.block_users, fields, self.form)
        if self.users is None:
            return table
        if not table.of_interactions:
            raise InputError("users", str(self.users), "goes with interactions; here fields stand in columns of --data")
        form = self.form.of("users", {*self.form.columns} - {*INTERACTIONS[1:]})
        return replace(table, users=read_users(self.users, {one.name: one.kind for one in user_fields}, form))

    def about(self, catalog: Catalog) -> dict[str, Any]:
        """Return what the answers are made with, by field: nothing of it may change when a run goes on."""
        config = asdict(self.config)
        base = {} if self.base is None else {"base": checkpoint_version(self.base)}
        known = {} if self.users is None else {"known_users": digest_of(part_files(self.users, self.form))}
        return {
            "checkpoint": checkpoint_version(self.checkpoint),
            **base,
            "catalog": catalog.version,
            "data": digest_of(part_files(self.data, self.form)),
            **known,
            "columns": {name: str(column) for name, column in self.form.columns.items()},
            **config,
            "device": self.device.partition(":")[0],
            "octorec": octorec.__version__,
        }


class Answering:
    """An Answering answers blocks of a job's table with one engine."""

    def __init__(self, job: Job, engine: Engine, table: UserTable, about: Mapping[str, Any]):
        self.job, self.engine, self.table, self.about = job, engine, table, about
        self.asked, self.drop = job.config.request(), job.config.unknown_items == "drop"
        self.counts: Counter[str] = Counter()

    @torch.inference_mode()
    def run(self, blocks: Sequence[Block], progress: Progress) -> None:
        """Answer `blocks` and write a file for each. progress: is told how many of their users are answered."""
        total, done = sum(block.count for block in blocks), 0
        with ahead(self.table.read(blocks)) as read, ahead(self._rows(read)) as coming, behind() as later:
            for rows in coming:
                said = _from(done, total, progress)
                answers = answers_to(self.engine, rows, self.asked, self.drop, said)
                done += len(rows)
                self.counts["users"] += len(rows)
                self.counts["left_out"] += rows.unknown
                self.counts["by_popularity"] += sum(one.source == "popularity" for one in answers)
                self.counts["exact"] += sum(one.exact for one in answers)
                later(self._writing(rows, answers))

    def _writing(self, rows: Rows, answers: Sequence[Any]) -> Callable[[], None]:
        path, catalog = self.job.out / rows.block.name, self.engine.catalog
        return lambda: write_block(path, as_table(rows.users, answers, catalog, self.about))

    def _rows(self, read: Iterator[tuple[Block, pa.Table]]) -> Iterator[Rows]:
        for block, part in read:
            yield rows_of(self.table, block, part, self.engine.catalog, self.engine)


def recommend_all(
    job: Job,
    progress: Progress = silent,
    opened: Callable[[UserTable, int], None] = lambda table, before: None,
    engine: Engine | None = None,
) -> dict[str, Any]:
    """Answer every user of a job's table once, and return what was done, as plain values.

    What `job.out` holds of them already is kept. opened: is called before the first answer with the table, and
    with how many of its users have theirs already. engine: of this job, where it is loaded already.
    Raises InputError for a table, a row or a folder that does not do.
    """
    engine = job.engine() if engine is None else engine
    table = job.table(engine.user_fields, engine.features)
    check_user_ids(table)
    about = job.about(engine.catalog)
    todo = begin(job, table, about)
    before = len(table) - sum(block.count for block in todo)
    opened(table, before)
    answering, start = Answering(job, engine, table, about), time.perf_counter()
    answering.run(todo, lambda done, total, what="": progress(before + done, len(table), what))
    return finished(job, about, answering.counts, before, table) | {"seconds": seconds_since(start)}


def begin(job: Job, table: UserTable, about: Mapping[str, Any]) -> list[Block]:
    """Make the folder, or check that it goes on with the same, and return the blocks that it lacks."""
    there = {path.name for path in job.out.glob("part-*.parquet")}
    todo = [block for block in table.blocks if block.name not in there]
    if there:
        check_manifest(job.out, about)
    if there and todo:
        for left in (job.out / MARKER, *job.out.glob(".part-*")):  # these of a run that was killed
            left.unlink(missing_ok=True)
    if there:
        return todo
    job.out.mkdir(parents=True, exist_ok=True)
    write_manifest(job.out, {**about, "users": len(table), "blocks": len(table.blocks)})
    return todo


def finished(
    job: Job, about: Mapping[str, Any], counts: Mapping[str, int], before: int, table: UserTable
) -> dict[str, Any]:
    """Write the marker of the folder, which has all files now, and return what was done."""
    mark(job.out)
    users = counts.get("users", 0)
    told = {name: counts.get(name, 0) for name in ("left_out", "by_popularity", "exact")}
    return {
        "out": str(job.out), "users": len(table), "blocks": len(table.blocks), "before": before, "answered": users,
        **told, **about,
    }  # fmt: skip


def seconds_since(start: float) -> float:
    return round(time.perf_counter() - start, 2)


@contextmanager
def ahead(items: Iterator[T]) -> Iterator[Iterator[T]]:
    """Yield `items`, of which another thread makes the next one meanwhile."""
    end: Any = object()
    with ThreadPoolExecutor(1, "read") as thread:

        def each() -> Iterator[T]:
            coming = thread.submit(next, items, end)
            while (item := coming.result()) is not end:
                coming = thread.submit(next, items, end)
                yield item

        yield each()


@contextmanager
def behind() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Yield what lets another thread do works one after the other, of which few wait; the last is done at the end."""
    waiting: list[Future[None]] = []
    with ThreadPoolExecutor(1, "write") as thread:

        def later(work: Callable[[], None]) -> None:
            waiting.append(thread.submit(work))
            if len(waiting) > AHEAD:
                waiting.pop(0).result()

        yield later
        for one in waiting:
            one.result()


def _from(before: int, total: int, progress: Progress) -> Progress:
    return lambda done, _, what="": progress(before + done, total, what)
