"""The experiment that a server runs: who is answered by which variant, and the rows of it."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future

from octorec.errors import InputError
from octorec.evaluate.online import record as records
from octorec.evaluate.online.assign import assign
from octorec.evaluate.online.experiment import CONTROL, Experiment
from octorec.evaluate.online.log import EXPOSURES_FOLDER, OUTCOMES_FOLDER, RowLog
from octorec.evaluate.online.record import Record
from octorec.evaluate.online.rows import EXPOSURES, OUTCOMES
from octorec.evaluate.online.unit import unit_id
from octorec.serve.config import ServeConfig
from octorec.serve.experiment_metrics import ExperimentMetrics
from octorec.serve.exposure import Ended, Exposure, unit_path
from octorec.serve.refusal import invalid
from octorec.serve.switch import State, Switch
from octorec.serve.variants import Answering

logger = logging.getLogger(__name__)
HOLD_OUT = "hold out"  # a label beside those of variants, whose names have no space
LEAST_S = 0.5  # seconds that closing a log gets at least


class Running:
    """Running is an experiment from the end of its variants' warm-up to the end of the process.

    loaded: the experiment, as this process was started. answering: what answers each variant's units. watching: called
    with each counted request's `Ended`, on the event loop; must not wait. counts: assigned requests by variant (or
    HOLD_OUT) and what became of them.
    """

    def __init__(
        self,
        record: Record,
        loaded: Experiment,
        answering: Mapping[str, Answering],
        config: ServeConfig,
        metrics: ExperimentMetrics,
    ):
        self.answering, self.config, self.metrics = dict(answering), config, metrics
        versions = {name: one.versions for name, one in answering.items()}
        self.switch = Switch(record, loaded, versions, config, metrics)
        self.watching: list[Callable[[Ended], None]] = []
        self.counts: Counter[tuple[str, str]] = Counter()
        folder = self.switch.folder
        self.exposures = RowLog(folder / EXPOSURES_FOLDER, EXPOSURES, metrics.exposures_lost.inc)
        self.outcomes = RowLog(folder / OUTCOMES_FOLDER, OUTCOMES, metrics.outcomes_lost.inc)

    @property
    def state(self) -> State:
        return self.switch.state

    @property
    def over(self) -> bool:
        """Say whether the experiment has ended: nobody is assigned any more, and other versions may be loaded."""
        return self.state.over

    def stop(self, variant: str, why: str) -> "Future[None]":
        """Send every request from now on to the control, see `Switch.stop`."""
        return self.switch.stop(variant, why)

    def exposed(self, raw: object) -> Exposure | None:
        """Assign the sender of a decoded body, which is not checked yet; None where it is in no experiment.

        Raises a Refusal about the user field for what is no unit id.
        """
        user = raw.get("user") if isinstance(raw, dict) else None
        if not isinstance(user, dict):
            return None
        try:
            unit = unit_id(user.get(self.config.ab.unit_field), unit_path(self.config))
        except InputError as error:
            raise invalid(error) from None
        state = self.switch.state
        if unit is None or state.over:
            return None
        assignment = assign(state.assigns, unit, self.config.ab.hold_out_salt or "")
        if assignment.group == "outside":
            return None
        by_control = state.stop is not None and assignment.variant != CONTROL
        answering = self.answering[CONTROL if by_control else assignment.variant]
        return Exposure(unit, assignment, state.stage, answering, by_control)

    def ended(self, exposure: Exposure, outcome: str, request_id: str, seconds: float) -> None:
        """Count a request that has ended, and hand its row to the log."""
        variant = exposure.assignment.variant
        label = HOLD_OUT if exposure.assignment.group == "hold_out" else variant
        self.metrics.requests.labels(label, outcome).inc()
        if outcome == "ok" and not exposure.by_control:
            self.metrics.latency.labels(label).observe(seconds)
        self.counts[label, exposure.ended(outcome)] += 1
        self.exposures.add(exposure.row(self.state.record.name, request_id, outcome, seconds))
        if exposure.assignment.counted:
            self._tell(Ended(variant, outcome, seconds, exposure.by_control))

    async def close(self, timeout_s: float) -> None:
        """Write what is left of both logs, within `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        self.switch.close()
        for log in (self.exposures, self.outcomes):
            await asyncio.to_thread(log.close, max(LEAST_S, deadline - time.monotonic()))

    def _tell(self, ended: Ended) -> None:
        for watch in self.watching:
            try:
                watch(ended)
            except Exception:  # of a watcher; the request has its answer all the same
                logger.exception("a watcher of the experiment failed")


def begin(
    experiment: Experiment, answering: Mapping[str, Answering], config: ServeConfig, metrics: ExperimentMetrics
) -> Running:
    """Record that this process runs the experiment, which starts it, goes on with it, or opens a new stage."""
    assert config.ab.experiment_root is not None
    versions = {name: one.versions for name, one in answering.items()}
    salt = config.ab.hold_out_salt or ""
    record = records.start(config.ab.experiment_root, experiment, versions, time.time(), salt)
    return Running(record, experiment, answering, config, metrics)
