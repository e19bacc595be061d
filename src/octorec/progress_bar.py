"""Show how far a long verb is: by a bar where somebody watches, else by a plain line a minute.

All of it goes to stderr.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from octorec import terminal
from octorec.errors import clean
from octorec.progress import Progress

EVERY_S = 60.0  # seconds between two lines where nobody watches
BESIDE = 24  # columns of a bar beside its words: the bar, the time that remains, and what lies between
RATES = ((1.0, "s"), (60.0, "min"), (3600.0, "h"))  # seconds of the units in which a rate is said


class Pace:
    """A Pace knows what is done of a work, since when, and so how long the rest will take.

    title: what is going on. unit: what is counted, such as requests; empty where that has no name.
    """

    def __init__(self, title: str, unit: str = "", now: Callable[[], float] = time.monotonic):
        self.title, self.unit, self.what = title, unit, ""
        self.done, self.total = 0, 0
        self._now, self._began, self._before = now, now(), 0

    def start(self, done: int, total: int) -> None:
        """Begin to count at `done`, where earlier work is gone on with."""
        self.done = self._before = done
        self.total, self._began = total, self._now()

    def count(self) -> str:
        """Return a text such as `1,024 of 18,860 requests`."""
        counted = f"{self.done:,} of {self.total:,}" if self.total else ""
        return " ".join(part for part in (counted, self.unit) if part)

    def line(self) -> str:
        """Return all that is known, as one line of text."""
        seconds = self._now() - self._began
        rate = (self.done - self._before) / seconds if seconds > 0 else 0.0
        parts = [part for part in (self.count() if self.total else "", self.what) if part]
        parts.append(f"{duration(seconds)} so far")
        if rate > 0:
            parts += [_said_rate(rate, self.unit), f"about {duration((self.total - self.done) / rate)} left"]
        return f"{self.title}: {', '.join(parts)}"


class Counter:
    """A Counter is the Progress of a verb: it keeps in `pace` what it is told, and shows it."""

    def __init__(self, pace: Pace, shown: Callable[[], None]):
        self.pace, self._shown = pace, shown

    def __call__(self, done: int, total: int, what: str = "", /) -> None:
        self.pace.done, self.pace.total, self.pace.what = done, total, clean(what)
        self._shown()


@contextmanager
def counting(title: str, unit: str = "") -> Iterator[Counter]:
    """Show how far the block is, named `title`, in `unit`; see `Pace`."""
    pace = Pace(title, unit)
    if not terminal.console.is_interactive:
        with _every(EVERY_S, lambda: terminal.say(pace.line())):
            yield Counter(pace, lambda: None)
        return
    columns = (_words("{task.description}"), BarColumn(12), _words("{task.fields[count]}"), TimeRemainingColumn())
    with Bar(*columns, _words("{task.fields[what]}"), console=terminal.console) as bar:
        task = bar.add_task(title, total=None, count="", what="")

        room = max(0, terminal.console.width - len(title) - BESIDE)  # columns for the count and the stage

        def show() -> None:
            count = pace.count()
            what = pace.what[: max(0, room - len(count))]
            bar.update(task, completed=pace.done, total=pace.total, count=count, what=what)

        yield Counter(pace, show)


def megabytes(progress: Progress) -> Progress:
    """Return a Progress that is told of bytes and tells `progress` of megabytes."""
    return lambda done, total, what="": progress(done // 10**6, max(1, total // 10**6), what)


@contextmanager
def training_progress(steps: int) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yield a callback for `Trainer.run` that counts steps and says the loss, and that prints a line a validation."""
    with counting("training", "steps") as progress:
        average = 0.0

        def show(record: dict[str, Any]) -> None:
            nonlocal average
            if average == 0.0:
                progress.pace.start(record["step"] - 1, steps)
            average = record["loss"] if average == 0.0 else 0.98 * average + 0.02 * record["loss"]
            progress(record["step"], steps, f"loss {average:.3f}")
            if "expert_load" in record:
                terminal.say(_validated(record, average, steps))

        yield show


def _validated(record: dict[str, Any], loss: float, steps: int) -> str:
    measured = [f"{k} {v:.4f}" for k, v in record.items() if k not in ("step", "loss", "expert_load")]
    load = "; ".join("/".join(f"{share:.0%}" for share in shares) for shares in record["expert_load"])
    return ", ".join([f"step {record['step']}/{steps}", f"loss {loss:.3f}", *measured, f"expert load {load or 'none'}"])


def duration(seconds: float) -> str:
    """Return a text such as `45 s`, `3 min 20 s` or `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def _said_rate(rate: float, unit: str) -> str:
    """Return `rate`, which is a second, in a unit of time in which it is at least 1, where there is one."""
    seconds, name = next((one for one in RATES if rate * one[0] >= 1), RATES[-1])
    number = rate * seconds
    return f"{number:,.0f} {unit or 'parts'}/{name}" if number >= 100 else f"{number:.1f} {unit or 'parts'}/{name}"


@contextmanager
def _every(seconds: float, say: Callable[[], None]) -> Iterator[None]:
    """Call `say` again and again while the block runs, also where one step of it takes long."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(seconds):
            with contextlib.suppress(OSError, ValueError):  # a stderr that is closed is no fault of the work
                say()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _words(form: str) -> TextColumn:
    return TextColumn(form, markup=False)
