"""Progress of long work on a terminal, silent where nobody watches; what an engine's start cost."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

console = Console(stderr=True)  # progress and remarks; results go to stdout


class Counter:
    """A bar that takes (done, total), (what, done, total) or (done, total, what), as the rooms' callbacks send them."""

    def __init__(self, bar: Progress, title: str):
        self._bar, self._title = bar, title
        self._task = bar.add_task(title, total=None, what="")

    def __call__(self, *arguments: Any) -> None:
        numbers = [a for a in arguments if isinstance(a, int)]
        what = next((str(a) for a in arguments if isinstance(a, str)), "")
        self._bar.update(self._task, completed=numbers[0], total=numbers[1], what=what)


@contextmanager
def counting(title: str) -> Iterator[Counter]:
    """Show a bar named `title` while the block runs."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[what]}"))
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        yield Counter(bar, title)


class Cost(Protocol):
    """As `engine.graph.BucketCost`."""

    @property
    def batch_size(self) -> int: ...
    @property
    def beam_width(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def megabytes(self) -> float: ...


def bucket_table(costs: Sequence[Cost]) -> Table:
    """What capturing each bucket of an engine cost, and all of them."""
    table = Table("batch size", "beam width", "seconds", "MB of GPU memory", title="buckets")
    for cost in costs:
        table.add_row(str(cost.batch_size), str(cost.beam_width), f"{cost.seconds:.2f}", f"{cost.megabytes:.0f}")
    table.add_section()
    seconds, megabytes = sum(cost.seconds for cost in costs), sum(cost.megabytes for cost in costs)
    table.add_row("all", "", f"{seconds:.2f}", f"{megabytes:.0f}")
    return table
