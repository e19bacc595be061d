"""A long work tells how far it is; `progress_bar` shows that to people."""

from typing import Protocol


class Progress(Protocol):
    """A Progress is called as a work goes on, in the thread that does it."""

    def __call__(self, done: int, total: int, what: str = "", /) -> None:
        """Tell how far the work is.

        done, total: in units of its own, such as requests or bytes. what: the stage, in words.
        """


def silent(done: int, total: int, what: str = "", /) -> None:
    """Do nothing: this is the Progress of a work that nobody watches."""


def part(progress: Progress, before: int, total: int, what: str = "") -> Progress:
    """Return the Progress of one stage of a work of `total` units, of which the stages before it did `before`.

    what: the stage, where it says nothing itself.
    """
    return lambda done, _, now="": progress(before + done, total, now or what)
