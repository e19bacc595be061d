"""The harness finds each fault that it says it finds."""

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from harness import HANG_S, MOST_TEXT, fault_of

from octorec.errors import InputError


def refused(error: Exception) -> Callable[[Path], Any]:
    def read(_: Path) -> Any:
        raise error

    return read


class Loud(InputError):
    def __init__(self, text: str):
        ValueError.__init__(self, text)


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (refused(KeyError("weight_map")), "KeyError"),
        (refused(RecursionError()), "RecursionError"),
        (refused(Loud("a\nb")), "an error of 3 characters"),
        (refused(Loud("a" * (MOST_TEXT + 1))), "an error of"),
        (lambda _: [], "an empty answer: []"),
    ],
)
def test_a_fault_is_found(read: Callable[[Path], Any], said: str) -> None:
    assert said in (fault_of(SimpleNamespace(read=read), Path()) or "")  # type: ignore[arg-type]


def test_what_is_read_or_refused_well_is_no_fault() -> None:
    assert fault_of(SimpleNamespace(read=lambda _: [1]), Path()) == ""  # type: ignore[arg-type]
    assert fault_of(SimpleNamespace(read=refused(InputError("a", 1, "b"))), Path()) is None  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_hang_is_found() -> None:
    def read(_: Path) -> Any:
        start = time.process_time()
        while time.process_time() - start < 3 * HANG_S:
            pass

    assert "TimeoutError" in (fault_of(SimpleNamespace(read=read), Path()) or "")  # type: ignore[arg-type]
