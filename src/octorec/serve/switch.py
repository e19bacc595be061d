"""A switch has what an experiment's requests are assigned by; a stop, a person and the record's file change it."""

import asyncio
import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from octorec.errors import InputError
from octorec.evaluate.online import record as records
from octorec.evaluate.online.experiment import Experiment, read_experiment
from octorec.evaluate.online.record import Record, Stop
from octorec.serve.config import ServeConfig
from octorec.serve.experiment_metrics import ExperimentMetrics
from octorec.serve.variants import check_server, fault, refuse_other_variants

logger = logging.getLogger(__name__)
RECORD = "record.json"
OUTDATED = "has other checkpoints or catalogs than this process: restart it"
LOOK_EVERY_S = 1.0  # at the record, which other replicas and the command line write too


@dataclass(frozen=True)
class State:
    """A State is what a request is assigned by; each reads it once.

    assigns: the experiment with the present ramp and the stage's shares. stage: the newest whose versions this process
    has.
    stop: None while the variants answer; one that is in no record yet is here too.
    """

    record: Record
    assigns: Experiment
    stage: int
    stop: Stop | None

    @property
    def over(self) -> bool:
        return self.record.ended is not None


class Switch:
    """A Switch holds the `State`. One thread reads and writes the record, in order: no request waits for the disk.

    loaded, versions: the experiment, and model and catalog by variant, as this process was started.
    """

    def __init__(
        self,
        record: Record,
        loaded: Experiment,
        versions: Mapping[str, tuple[str, str]],
        config: ServeConfig,
        metrics: ExperimentMetrics,
    ):
        self.folder, self.loaded, self.versions = Path(record.folder), loaded, dict(versions)
        self.config, self.metrics = config, metrics
        self.look_every_s = LOOK_EVERY_S
        self._disk = ThreadPoolExecutor(1, "experiment")
        self._lock = threading.Lock()
        self._unsaved: Stop | None = None  # a stop that no record has yet
        self._seen: object = None  # the record's file when it was last read
        self._said: str | None = None  # the last failure that was logged
        self._looking: asyncio.Task[None] | None = None
        self.state = self._of(record)
        self._show(None)

    def stop(self, variant: str, why: str) -> "Future[None]":
        """Send every request from now on to the control; from any thread, at once.

        The result is done when the record has it, by which other replicas learn of it. A record that cannot be written
        is tried again each second; this process has stopped all the same.
        """
        with self._lock:
            if self._unsaved is None and not self.state.over:  # a stop of the record may have been resumed elsewhere
                self._unsaved = Stop(time.time(), variant, why)
                self._set(self.state.record)
        return self._disk.submit(self._save_stop)

    def resume(self) -> "Future[None]":
        """Let the variants answer again, once the record says so; only a person asks for this."""
        return self._disk.submit(self._resume, self._unsaved)

    def reload(self) -> "Future[None]":
        """Read the experiment's file again: another ramp, or other shares, which open a new stage.

        Fails with InputError for every other change; nothing is changed then.
        """
        return self._disk.submit(self._reload)

    def look(self) -> None:
        """Begin to look at the record, which others write too; on the event loop."""
        self._looking = asyncio.create_task(self._look())

    def close(self) -> None:
        """Look no more; on the event loop."""
        if self._looking is not None:
            self._looking.cancel()
        self._disk.shutdown(wait=False)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(self.look_every_s)
            await asyncio.wrap_future(self._disk.submit(self._read))

    def _read(self) -> None:
        """Take up what the record says, where its file has changed; what cannot be read changes nothing."""
        self._save_stop()
        try:
            found = (self.folder / RECORD).stat()
            seen = found.st_mtime_ns, found.st_ino, found.st_size
            if seen != self._seen:
                self._take(records.read_record(self.folder))
                self._seen, self._said = seen, None
        except Exception as error:
            self._say("the experiment's record cannot be read", error)

    def _save_stop(self) -> None:
        """Write a stop that no record has yet."""
        stop = self._unsaved
        if stop is None:
            return
        try:
            record = records.read_record(self.folder)
            if record.stop is None and record.ended is None:
                record = records.stop(self.folder, stop.variant, stop.why, stop.time)
            self._take(record, saved=stop)
        except Exception as error:
            self._say("the stop of the experiment is not in its record yet", error)

    def _resume(self, stop: Stop | None) -> None:
        self._take(records.resume(self.folder, time.time()), saved=stop)

    def _reload(self) -> None:
        assert self.config.ab.experiment is not None
        assert self.config.ab.experiment_root is not None
        experiment, now = read_experiment(self.config.ab.experiment), self.state.record
        check_server(experiment, self.config)
        if now.ended is not None:
            allowed = f"{now.name} has ended: restart the server with a new name and salt"
            raise fault(self.config, "name", experiment.name, allowed)
        if experiment.name != now.name:
            raise fault(self.config, "name", experiment.name, f"{now.name} runs: end it before another begins")
        refuse_other_variants(self.loaded, experiment, self.config)
        if self.state.stage != now.stages[-1].number:
            raise InputError("stage", now.stages[-1].number, OUTDATED)
        salt = self.config.ab.hold_out_salt or ""
        self._take(records.start(self.config.ab.experiment_root, experiment, self.versions, time.time(), salt))

    def _take(self, record: Record, saved: Stop | None = None) -> None:
        """Assign by what the record says now. saved: the stop that it has, or need not have any more."""
        with self._lock:
            if self._unsaved is saved:
                self._unsaved = None
            self._set(record)

    def _set(self, record: Record) -> None:
        before, self.state = self.state, self._of(record)
        self._show(before)

    def _of(self, record: Record) -> State:
        newest = record.stages[-1]
        own = [stage for stage in record.stages if _plain(stage.versions) == self.versions]
        stage, assigns = own[-1] if own else newest, records.effective(record)
        if stage is not newest:  # its rows are compared by its shares
            assigns = _divided(assigns, stage.shares)
        return State(record, assigns, stage.number, record.stop or self._unsaved)

    def _show(self, before: State | None) -> None:
        """Say in log and metrics what has changed."""
        state = self.state
        self.metrics.stopped.set(state.stop is not None)
        self.metrics.stage.set(state.stage)
        about: dict[str, Any] = {"experiment": state.record.name, "stage": state.stage}
        if state.stop is not None and (before is None or before.stop is None):
            stopped = {**about, "variant": state.stop.variant, "why": state.stop.why}
            logger.error("experiment stopped: the control answers everybody", extra=stopped)
        if state.stop is None and before is not None and before.stop is not None:
            logger.warning("experiment resumed", extra=about)
        if state.over and (before is None or not before.over):
            logger.warning("experiment ended", extra=about)
        newest = state.record.stages[-1].number
        if newest != state.stage and (before is None or before.record.stages[-1].number != newest):
            logger.error(f"stage {newest}: {OUTDATED}", extra=about)

    def _say(self, message: str, error: Exception) -> None:
        """Log a failure once, however often it comes again."""
        said = f"{message}: {error}"
        if said != self._said:
            logger.error(message, exc_info=error)
        self._said = said


def _divided(experiment: Experiment, shares: Mapping[str, Fraction]) -> Experiment:
    """Give the experiment an older stage's shares."""
    variants = {name: replace(variant, share=shares[name]) for name, variant in experiment.variants.items()}
    return replace(experiment, variants=variants)


def _plain(versions: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    return {name: (one[0], one[1]) for name, one in versions.items()}
