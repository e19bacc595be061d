"""The load tool writes rows, which are appended to a file, and a plot."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import orjson

from octorec.bench.config import BenchConfig
from octorec.errors import InputError
from octorec.output.claim import claimed_file
from octorec.reading import reason

SIGN = b"requests/s asked"  # a label that stands in every plot


@contextmanager
def claimed_outputs(config: BenchConfig) -> Iterator[None]:
    """Hold the right to write `config.out` and `config.plot`; call it before long work.

    Raises InputError: one is an input, or there already and not what the load tool wrote, or cannot be written.
    """
    inputs = [path for path in (config.requests, config.catalog, config.token_file) if path is not None]
    if config.out is not None and config.plot is not None and Path(config.out).resolve() == Path(config.plot).resolve():
        raise InputError("plot", config.plot, "must be another file than --out")
    with ExitStack() as stack:
        if config.out is not None:
            stack.enter_context(claimed_file(config.out, inputs, has_rows, "out"))
        if config.plot is not None:
            stack.enter_context(claimed_file(config.plot, inputs, is_plot, "plot"))
        yield


def has_rows(path: Path) -> bool:
    """Tell whether a file is empty or begins with a row of the load tool's."""
    with path.open("rb") as file:
        first = file.readline(2**20)
    try:
        row = orjson.loads(first) if first else {"request_rate": None}
    except orjson.JSONDecodeError:
        return False
    return isinstance(row, dict) and "request_rate" in row


def is_plot(path: Path) -> bool:
    """Tell whether a file is a plot of the load tool's."""
    with path.open("rb") as file:
        text = file.read(2**24)
    return text.startswith(b"<svg") and SIGN in text


def append(path: Path, row: dict[str, Any]) -> None:
    """Append one row as a line of JSON."""
    try:
        with path.open("ab") as file:
            file.write(orjson.dumps(row) + b"\n")
    except OSError as error:
        raise InputError("out", str(path), f"cannot be written ({reason(error)})") from error
