"""Takes a variant's traffic away by itself: where it is slow or fails, and where its outcomes are inferior."""

import asyncio
import json
import logging
import math
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from octorec.evaluate.online.experiment import CONTROL, Experiment
from octorec.evaluate.online.record import resumed_at
from octorec.evaluate.online.results import BROKEN, JUDGED
from octorec.evaluate.online.watch import Watch
from octorec.serve.experiment import Running
from octorec.serve.exposure import Ended

logger = logging.getLogger(__name__)
CHECK_S = 1.0  # between two looks at latency and failures
REPORT_S = 60.0  # between two reports at least; one that takes long is asked for more rarely
REST = 20  # the pause until the next report, as a multiple of the time that a report took
LONGEST_REPORT_S = 900.0
NICE = 10  # niceness of the report's process: requests come first
FAILURES = {"failed", "nonfinite", "deadline", "queue_full"}  # no fault of the sender
COUNTED = FAILURES | {"ok"}


class GuardTask:
    """A GuardTask watches a running experiment until it is cancelled. It only ever stops: a person resumes.

    Requests are watched here; outcomes by `octorec ab report` in a process of its own, which makes a planned look when
    one is due, so that answers never wait for it.
    """

    def __init__(self, running: Running, report_every_s: float = REPORT_S):
        self.running, self.report_every_s = running, report_every_s
        self.watch = Watch(self._experiment.guard)
        running.watching.append(self.seen)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to watch; on the event loop."""
        self._tasks = [asyncio.create_task(self._requests()), asyncio.create_task(self._outcomes())]

    async def stop(self) -> None:
        """End watching; a report that runs is killed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def seen(self, ended: Ended) -> None:
        """Count one request; those that the control answered, or that their sender spoilt, say nothing."""
        if ended.variant != CONTROL and not ended.by_control and ended.outcome in COUNTED:
            self.watch.add(ended.variant, time.monotonic(), ended.seconds * 1e3, ended.outcome in FAILURES)

    @property
    def _experiment(self) -> Experiment:
        return self.running.state.assigns

    @property
    def _stopped(self) -> bool:
        return self.running.over or self.running.state.stop is not None

    async def _requests(self) -> None:
        while True:
            await asyncio.sleep(CHECK_S)
            try:
                self._check()
            except Exception:  # the guard must not end in silence
                logger.exception("the guard failed, and goes on")

    def _check(self) -> None:
        if self._stopped:  # what comes after a person resumed is judged by itself
            self.watch = Watch(self._experiment.guard)
            return
        now = time.monotonic()
        beyond = {variant: self.watch.beyond(variant, now) for variant in self._experiment.treatments}
        for variant, why in beyond.items():
            if why is not None:
                self.running.stop(variant, why)
                return

    async def _outcomes(self) -> None:
        said, rest = None, self.report_every_s
        while True:
            await asyncio.sleep(rest)
            if self._stopped or not self._experiment.guard.outcomes:
                continue
            start = time.monotonic()
            try:
                problem = await self._report()
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"[:500]
            if problem is not None and problem != said:
                logger.warning("the experiment's report", extra={"reason": problem})
            said, rest = problem, max(self.report_every_s, REST * (time.monotonic() - start))

    async def _report(self) -> str | None:
        """Stop the experiment if its report finds a guardrail inferior; say what kept it from saying so, or None."""
        code, text, error = await report(self.running.switch.folder)
        if code not in JUDGED:
            return error.strip().rpartition("\n")[2][:500] or f"ended with {code}"
        found = json.loads(text)
        resumed = resumed_at(self.running.state.record)
        beyond = inferior(found, self._experiment, -math.inf if resumed is None else resumed)
        if beyond is not None and not self._stopped:
            self.running.stop(*beyond)
        return "; ".join(found["broken"]) if code == BROKEN else None


async def report(folder: Path) -> tuple[int, str, str]:
    """Run `octorec ab report` on the experiment in `folder`; return exit code, JSON, and what stood on stderr."""
    command = [sys.executable, "-m", "octorec", "ab", "report", str(folder), "--json"]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe)
    try:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
        async with asyncio.timeout(LONGEST_REPORT_S):
            out, error = await process.communicate()
    except TimeoutError:
        return 1, "", f"took more than {LONGEST_REPORT_S:g} s"
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return process.returncode or 0, out.decode(errors="replace"), error.decode(errors="replace")


def inferior(found: Mapping[str, Any], experiment: Experiment, since: float = -math.inf) -> tuple[str, str] | None:
    """Return the variant that the report's last look finds inferior in a guardrail, and why, in words; None for none.

    since: seconds since 1970; what was found up to then is known to the person who resumed.
    """
    if not found["looks"] or found["outcome"] == "broken":
        return None
    look = found["looks"][-1]
    if look["time"] <= since:
        return None
    for effect in look["effects"]:
        metric = experiment.metrics.get(effect["metric"])
        if metric is not None and metric.role == "guardrail" and effect["outcome"] == "inferior":
            at = f"at look {look['number']} with {look['units']:,} units"
            return effect["variant"], f"{metric.name} is inferior by the margin of {metric.margin:g} {at}"
    return None
