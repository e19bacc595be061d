"""The width that `auto` begins with is measured: which share of answers a width certifies, and what a batch takes.

A narrow beam is cheap, and searched again where its answer is not certified. The width to begin with is the one whose
own time and that of its repeats are least together; where no narrow one pays, that is the widest.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from octorec.engine.engine import Engine
from octorec.engine.policy import BeamStarts
from octorec.engine.request import Answer, Request
from octorec.errors import InputError
from octorec.progress import Progress, silent


@dataclass(frozen=True)
class MeasuredWidth:
    """MeasuredWidth is what one beam width gave.

    ms: of a full batch, host to host, at the median. certified: share of the requests whose k items are exact, by k.
    repeats: mean milliseconds a batch that repeats take where k items begin at this width, by k.
    """

    beam_width: int
    ms: float
    certified: Mapping[int, float]
    repeats: Mapping[int, float]

    def cost(self, k: int) -> float:
        """Return milliseconds of a batch of requests of k items that begin at this width."""
        return self.ms + self.repeats[k]


@dataclass(frozen=True)
class MeasuredWidths:
    """MeasuredWidths are all widths of an engine, the narrowest first. batch: requests that were timed together."""

    widths: tuple[MeasuredWidth, ...]
    requests: int
    batch: int

    @property
    def starts(self) -> BeamStarts:
        """Return the width to begin with, by k: the cheapest, and the widest of those that cost the same."""
        ks = self.widths[-1].certified
        return BeamStarts({k: min(reversed(self._of(k)), key=lambda one: one.cost(k)).beam_width for k in ks})

    def to_dict(self) -> dict[str, Any]:
        """Return what a file or `--json` shows."""
        table = [
            {"beam_width": one.beam_width, "ms": one.ms, "certified": {str(k): s for k, s in one.certified.items()}}
            for one in self.widths
        ]
        starts = {str(k): width for k, width in self.starts.widths.items()}
        return {"starts": starts, "requests": self.requests, "batch": self.batch, "widths": table}

    def _of(self, k: int) -> list[MeasuredWidth]:
        return [one for one in self.widths if k in one.certified]


def measure_widths(
    engine: Engine, requests: Sequence[Request], ks: Sequence[int], progress: Progress = silent
) -> MeasuredWidths:
    """Measure all requests at each of the engine's beam widths. ks: numbers of items to measure for, ascending.

    Raises InputError for a k beyond the widest beam, and where the engine has a single width to choose from.
    """
    widths = engine.policy.buckets.fixed
    if len(widths) < 2:
        raise InputError("beam_widths", widths, "must be two widths or more, to choose from")
    if ks[-1] > widths[-1]:
        raise InputError("k", ks[-1], f"at most the widest beam, {widths[-1]}")
    batch = min(len(requests), engine.policy.buckets.most(engine.policy.widest))
    answers: dict[int, list[Answer]] = {}
    ms: dict[int, float] = {}
    total = len(widths) * len(requests)
    for number, width in enumerate(widths):
        asked = [_asked(request, width, ks) for request in requests]
        engine.recommend(asked[:batch])  # compiles and captures
        seconds, answers[width] = [], []
        for start in range(0, len(asked), batch):
            before = time.perf_counter()
            answers[width] += engine.recommend(asked[start : start + batch])
            if start + batch <= len(asked):
                seconds.append(time.perf_counter() - before)
            progress(number * len(requests) + min(start + batch, len(asked)), total)
        ms[width] = float(np.median(seconds)) * 1e3
    measured = tuple(_measured(engine, width, answers[width], ks, ms) for width in widths)
    return MeasuredWidths(measured, len(requests), batch)


def _asked(request: Request, width: int, ks: Sequence[int]) -> Request:
    return Request(request.history, k=min(ks[-1], width), beam_width=width, user=request.user)


def _measured(
    engine: Engine, width: int, answers: Sequence[Answer], ks: Sequence[int], ms: Mapping[int, float]
) -> MeasuredWidth:
    certified, repeats = {}, {}
    for k in ks:
        if k > width:
            continue
        failed = [answer for answer in answers if not certifies(answer, k)]
        certified[k] = 1 - len(failed) / len(answers)
        again = [
            engine.policy.wider((width,) * engine.policy.buckets.levels, answer.scores[:k], k) for answer in failed
        ]
        repeats[k] = sum(ms[wider[0]] for wider in again if wider is not None) / len(answers)
    return MeasuredWidth(width, ms[width], certified, repeats)


def certifies(answer: Answer, k: int) -> bool:
    """Say whether the first k items of an answer are exact: a tie with the bound does not count."""
    if answer.bound is None:
        return True
    return len(answer.scores) >= k and answer.scores[k - 1] > answer.bound
