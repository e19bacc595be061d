"""A command ends in this way: what a user caused is one line on stderr and exit code 2, never a traceback."""

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import typer

from octorec.errors import SHOWN, InputError, one_line
from octorec.extras import how_to_install
from octorec.reading import reason
from octorec.terminal import console, say

UsageError: Any = typer.BadParameter.__base__  # typer's class, whose module depends on typer's version
INTERRUPTED = 130


def run(app: typer.Typer, arguments: list[str]) -> NoReturn:
    """Run a command line and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a title that the terminal's encoding lacks is no fault
    with ends_in_one_line():
        refuse_undecodable(arguments)
        code = app(arguments, standalone_mode=False, prog_name="octorec")
        if code == INTERRUPTED:  # what some versions of typer make of a KeyboardInterrupt
            raise KeyboardInterrupt
        sys.stdout.flush()
    sys.exit(code or 0)


@contextlib.contextmanager
def ends_in_one_line() -> Iterator[None]:
    """End the process with one line and exit code 2 where a user caused what is raised inside."""
    try:
        yield
    except InputError as error:
        fail(str(error))
    except ModuleNotFoundError as error:
        if (said := how_to_install(error)) is None:
            raise
        fail(said)
    except UsageError as error:
        fail(one_line(error.format_message(), 2 * SHOWN) or "a verb or an argument is missing")
    except Interrupted as interrupted:
        say(f"interrupted: {interrupted}")
        sys.exit(INTERRUPTED)
    except (KeyboardInterrupt, typer.Abort):
        say("interrupted: nothing was written")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader has what it wanted
        forget_stdout()
        sys.exit(1)
    except OSError as error:  # a full disk, a right that is missing
        forget_stdout()
        fail(one_line(f"{error.filename}: {reason(error)}" if error.filename else reason(error), 2 * SHOWN))
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        fail(one_line(f"memory: there is not enough ({error})", 2 * SHOWN))


class Interrupted(Exception):
    """An Interrupted is a KeyboardInterrupt of a verb that keeps a part of its work; the message says which."""


@contextlib.contextmanager
def kept(what: Callable[[], str]) -> Iterator[None]:
    """Say in the last line `what` is kept of the block's work, where the block is interrupted."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(what()) from error


def fail(message: str) -> NoReturn:
    """Print one line on stderr and exit with code 2."""
    console.print(f"error: {message}", style="red", soft_wrap=True)
    sys.exit(2)


def refuse_undecodable(arguments: list[str]) -> None:
    """Refuse what is no text, such as a file's name in another encoding: Arrow and JSON have no way to write it."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            raise InputError("argument", argument, "must be UTF-8") from error


def out_of_memory(error: Exception) -> bool:
    """Tell whether Python, or torch on a CPU or a GPU, ran out of memory."""
    torchs = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    return isinstance(error, MemoryError) or torchs


def forget_stdout() -> None:
    """Forget what is still to be written to stdout and cannot be: at its end Python would try again, and complain."""
    with contextlib.suppress(OSError, ValueError):  # a stream without a file: nothing is tried again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
