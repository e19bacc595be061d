"""Progress of long work on a terminal; silent where nobody watches."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

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
