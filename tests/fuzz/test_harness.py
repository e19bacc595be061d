"""The harness finds each fault that it says it finds."""

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import harness
import pytest
from harness import HANG_S, MOST_TEXT, fault_of, run

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


def test_a_change_that_cannot_be_made_is_left_out_and_many_are_a_fault(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "bound_memory", lambda: None)  # of the process that runs the other tests

    def broken(fails: set[int]) -> Callable[[Path, Any], str]:
        asked = iter(range(1000))

        def change(_: Path, __: Any) -> str:
            if next(asked) in fails:
                raise OverflowError("date value out of range")
            return "changed"

        return change

    kind: Any = SimpleNamespace(__name__="kind", make=lambda _: None, read=lambda _: [1], broken=broken({7}))
    assert run(kind, 0, 60.0, range(200)) == 0
    assert "199 inputs, 199 of them read, 0 faults; 1 more" in capfd.readouterr().out
    kind.broken = broken({3, 4, 5})
    with pytest.raises(AssertionError, match="changes themselves"):
        run(kind, 0, 60.0, range(200))
