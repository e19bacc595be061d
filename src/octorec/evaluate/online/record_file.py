"""The file record.json of an experiment's folder is read strictly, and written as a whole by one writer at a time."""

import dataclasses
import fcntl
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

from octorec.errors import InputError
from octorec.evaluate.online.buckets import drawn
from octorec.evaluate.online.design import Experiment
from octorec.evaluate.online.experiment import parse_experiment
from octorec.evaluate.online.fields import keys_of
from octorec.evaluate.online.plain import made, plain
from octorec.evaluate.online.results import Look
from octorec.evaluate.online.written import experiment_values
from octorec.files import read_json
from octorec.formats import EXPERIMENT
from octorec.output.lock import WITHOUT_LOCKS
from octorec.output.write import new_file
from octorec.reading import reason, require_folder

RECORD, LOCK = "record.json", ".lock"
LOCK_WAIT_S = 10.0
LATEST = 253402300799.0  # the last second of the year 9999
KEPT = ("hold_out_salt", "stages", "stop", "ended", "looks", "lowest_ratio_p", "notes")  # beside the experiment


@dataclass(frozen=True)
class Stage:
    """A Stage is a time in which nothing changed that a comparison depends on.

    number: from 0. since: seconds since 1970.

    shares: by variant, as they are drawn in whole buckets. versions: of checkpoint and catalog by variant.
    """

    number: int
    since: float
    shares: Mapping[str, Fraction]
    versions: Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class Stop:
    """A Stop says that from `time` on the control's engine answers every unit.

    variant: the one at fault, "" where a person stopped.
    """

    time: float
    variant: str
    why: str


@dataclass(frozen=True)
class Note:
    """A Note says what was done to the experiment, in words, for a person who reads its record."""

    time: float
    text: str


@dataclass(frozen=True)
class Record:
    """A Record is what is remembered of one experiment.

    experiment: as it was started, with the ramp, shares and folders of now.

    hold_out_salt: the deployment's. stages: oldest first. stop: None while variants answer. ended: when, None while it
    runs. looks: that were made. lowest_ratio_p: of the sample-ratio check. notes: all that was done, oldest first.
    """

    folder: Path
    experiment: Experiment
    stages: tuple[Stage, ...]
    hold_out_salt: str = ""
    stop: Stop | None = None
    ended: float | None = None
    looks: tuple[Look, ...] = ()
    lowest_ratio_p: float = 1.0
    notes: tuple[Note, ...] = ()

    @property
    def name(self) -> str:
        return self.experiment.name

    @property
    def latest(self) -> float:
        """Return the last time that anything of the record was noted at."""
        return self.notes[-1].time


def read_record(folder: str | Path) -> Record:
    """Read the record of an experiment's folder.

    Raises InputError, which names the file, for what is no whole record.
    """
    require_folder(folder, "folder", RECORD)
    folder = Path(folder)
    where = f"record {folder / RECORD}"
    values = read_json(folder / RECORD, "record")
    EXPERIMENT.check(where, values)
    values = keys_of(where, values, (EXPERIMENT.key, "experiment", *KEPT), ("experiment", *KEPT))
    try:
        record = _record(folder, values)
        _check(record)
    except InputError as error:
        raise InputError(f"{where}: {error.field}", error.value, error.allowed) from None
    return record


@contextmanager
def locked(folder: Path, field: str = "folder") -> Iterator[None]:
    """Hold the one lock on a folder, of all threads and processes; it ends with its process.

    Raises InputError where it is held for LOCK_WAIT_S by another, or cannot be had.
    """
    end = time.monotonic() + LOCK_WAIT_S
    try:
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise InputError(field, str(folder), f"nothing can be written there ({reason(error)})") from error
    try:
        while not _taken(handle, folder, field):
            if time.monotonic() > end:
                raise InputError(field, str(folder), f"another process held it for {LOCK_WAIT_S:g} s: try again")
            time.sleep(0.01)
        yield
    finally:
        os.close(handle)


def changed(folder: str | Path, change: Callable[[Record], Record]) -> Record:
    """Read, change and write the record while nobody else does; a change that returns its argument writes nothing."""
    read_record(folder)  # before a lock is left in a folder that is none of ours
    with locked(Path(folder)):
        before = read_record(folder)
        after = change(before)
        if after is not before:
            write_record(after)
        return after


def write_record(record: Record) -> None:
    """Write the record in place of what is there. The caller holds the folder's lock."""
    with new_file(record.folder / RECORD, field="folder") as scratch:
        scratch.write_text(json.dumps(_values(record), indent=1, allow_nan=False), encoding="utf-8")


def noted(record: Record, now: float, text: str, **changes: Any) -> Record:
    """Return the record with `changes`, and a note of them at `now`, or at its latest time where the
    clock went back.
    """
    moment = max(now, record.latest)
    if moment > now:
        text += f" (a clock said {date(now)}, which is before this)"
    return dataclasses.replace(record, notes=(*record.notes, Note(moment, text)), **changes)


def check_time(now: Any) -> float:
    """Return `now` as seconds since 1970. Raises InputError for what is no time up to the year 9999."""
    if isinstance(now, bool) or not isinstance(now, int | float) or not 0 <= now <= LATEST:
        raise InputError("now", now, "must be seconds since 1970, up to the year 9999")
    return float(now)


def date(moment: float) -> str:
    """Return a time as text, in UTC."""
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _taken(handle: int, folder: Path, field: str) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        allowed = "is on a file system without locks" if error.errno in WITHOUT_LOCKS else reason(error)
        raise InputError(field, str(folder), f"cannot be locked ({allowed})") from error
    return True


def _values(record: Record) -> dict[str, Any]:
    found = {name: plain(getattr(record, name)) for name in KEPT}
    return {**EXPERIMENT.stamp(), "experiment": experiment_values(record.experiment), **found}


def _record(folder: Path, values: dict[str, Any]) -> Record:
    hints: dict[str, Any] = {
        "hold_out_salt": str,
        "stages": tuple[Stage, ...],
        "stop": Stop | None,
        "ended": float | None,
        "looks": tuple[Look, ...],
        "lowest_ratio_p": float,
        "notes": tuple[Note, ...],
    }
    found = {name: made(kind, values[name], name) for name, kind in hints.items()}
    return Record(folder, parse_experiment(values["experiment"]), **found)


def _check(record: Record) -> None:
    """Refuse a record whose parts do not go together, as one would that somebody wrote by hand."""
    names = list(record.experiment.variants)
    for place, stage in enumerate(record.stages):
        if stage.number != place:
            raise InputError("stages", stage.number, f"must be numbered from 0: this is stage {place}")
        if list(stage.shares) != names or sum(stage.shares.values()) != 1 or drawn(stage.shares) != stage.shares:
            raise InputError(f"stages[{place}].shares", dict(stage.shares), "must be whole buckets of all variants")
        if sorted(stage.versions) != sorted(names):
            raise InputError(f"stages[{place}].versions", list(stage.versions), f"must be of {', '.join(names)}")
    if not record.stages or record.stages[-1].shares != shares_of(record.experiment):
        raise InputError("stages", len(record.stages), "must end with the experiment's own shares")
    times = [stage.since for stage in record.stages]
    _check_times("stages", times)
    _check_times("notes", [note.time for note in record.notes])
    numbers = [look.number for look in record.looks]
    if numbers != sorted(set(numbers)):
        raise InputError("looks", numbers, "must be of ascending numbers")
    if not record.notes or record.notes[0].time != times[0]:
        raise InputError("notes", len(record.notes), "must begin with the start")
    if record.ended is not None:
        _check_times("ended", [times[-1], record.ended])
    if record.stop is not None and (record.stop.variant not in ("", *names) or not 0 <= record.stop.time <= LATEST):
        raise InputError("stop", record.stop, "must have a time and a variant of the experiment")
    if any(look.final for look in record.looks[:-1]):
        raise InputError("looks", len(record.looks), "none comes after the final one")
    if not 0 <= record.lowest_ratio_p <= 1:
        raise InputError("lowest_ratio_p", record.lowest_ratio_p, "must be from 0 to 1")


def _check_times(where: str, times: list[float]) -> None:
    if not all(math.isfinite(one) and 0 <= one <= LATEST for one in times) or any(a > b for a, b in pairwise(times)):
        raise InputError(where, times, "must be ascending seconds since 1970")


def shares_of(experiment: Experiment) -> dict[str, Fraction]:
    """Return the shares of an experiment's variants, as they are drawn."""
    return drawn({name: variant.share for name, variant in experiment.variants.items()})
