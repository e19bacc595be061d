"""Whatever call of the system fails, and wherever the process is killed, a reader finds the old or the new as a whole.

The writer's calls are counted; then it is run once for each of them, in which that call fails or is the last.
"""

import errno
import fcntl
import io
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from octorec.errors import InputError
from octorec.output import exchange
from octorec.output.claim import claimed_folder
from octorec.output.marker import MARKER, foreign
from octorec.output.write import new_file, new_folder

LOOKS = [(os, name) for name in ("scandir", "listdir", "lstat", "stat", "fstat")]
CHANGES = [
    *((os, name) for name in (
        "open", "mkdir", "rmdir", "rename", "replace", "unlink", "fsync", "ftruncate", "pwrite", "close",
    )),
    (io, "open"), (fcntl, "flock"), (exchange, "renameat2"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def without_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def watched(patch: pytest.MonkeyPatch, before: Callable[[int], None], calls: list[tuple[Any, str]]) -> None:
    """Call `before` with its number before each of `calls` of the system."""
    count = 0

    def watch(call: Callable[..., Any]) -> Callable[..., Any]:
        def watching(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            before(count)
            return call(*arguments, **options)

        return watching

    for module, name in calls:
        patch.setattr(module, name, watch(getattr(module, name)))


def write_folder(path: Path, text: str) -> None:
    with new_folder(path, force=True) as scratch:
        (scratch / "deep").mkdir()
        for name in ("a", f"deep/{text}"):
            (scratch / name).write_text(text)


def write_file(path: Path, text: str) -> None:
    with new_file(path) as scratch:
        scratch.write_text(text)


def read(path: Path) -> str | None:
    """What a reader finds at a name, which must be whole: the text that was written; None where there is nothing."""
    if not os.path.lexists(path):
        return None
    if path.is_file():
        return path.read_text()
    assert foreign(path) == []
    text = (path / "a").read_text()
    assert sorted(file.name for file in path.rglob("*")) == sorted([MARKER, "a", "deep", text])
    assert (path / "deep" / text).read_text() == text
    return text


def calls_of(work: Callable[[], None], calls: list[tuple[Any, str]] = CHANGES) -> int:
    counted: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        watched(patch, counted.append, calls)
        work()
    return len(counted)


def killed_at(number: int, work: Callable[[], None]) -> bool:
    """Run `work` in a process that is gone before its call `number`; whether it came so far."""
    child = os.fork()
    if child == 0:
        with pytest.MonkeyPatch.context() as patch:
            watched(patch, lambda count: os._exit(9) if count == number else None, CHANGES)
            work()
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def failed_at(number: int, work: Callable[[], None], code: int, calls: list[tuple[Any, str]]) -> bool:
    """Run `work`, whose call `number` fails; whether an error came of it."""

    def fail(count: int) -> None:
        if count == number:
            raise OSError(code, os.strerror(code))

    with pytest.MonkeyPatch.context() as patch:
        watched(patch, fail, calls)
        try:
            work()
        except (InputError, OSError):
            return True
    return False


def only(path: Path) -> bool:
    """Whether nothing lies beside `path`."""
    return [file.name for file in path.parent.iterdir()] == [path.name]


WRITERS = [pytest.param(write_folder, id="folder"), pytest.param(write_file, id="file")]


@pytest.mark.parametrize(
    ("write", "there"),
    [
        pytest.param(write_folder, True, id="folder in place of an older one", marks=pytest.mark.slow),
        pytest.param(write_folder, False, id="new folder", marks=pytest.mark.slow),
        pytest.param(write_file, True, id="file in place of an older one"),
        pytest.param(write_file, False, id="new file", marks=pytest.mark.slow),
    ],
)
def test_a_kill_at_any_call_leaves_the_old_or_the_new(
    tmp_path: Path, write: Callable[[Path, str], None], there: bool
) -> None:
    path = tmp_path / "above" / "out.x"
    if there:
        write(path, "old")
    total = calls_of(lambda: write(path, "0"))
    assert total > 10
    found = set()
    for number in range(1, total + 1):
        if not there:
            shutil.rmtree(path.parent, ignore_errors=True)
        old, new = read(path), str(number)
        killed_at(number, partial(write, path, new))
        assert read(path) in (old, new), number
        found.add(read(path) == new)
    assert found == {True, False}
    write(path, "last")  # takes away what was left
    assert read(path) == "last"
    assert only(path)


@pytest.mark.parametrize("calls", [CHANGES, pytest.param([*LOOKS, *CHANGES], marks=pytest.mark.slow)])
@pytest.mark.parametrize("there", [True, False], ids=["in place of an older one", "new"])
@pytest.mark.parametrize("write", WRITERS)
def test_an_error_at_any_call_leaves_the_old_or_the_new(
    tmp_path: Path, write: Callable[[Path, str], None], there: bool, calls: list[tuple[Any, str]]
) -> None:
    path = tmp_path / "above" / "out.x"
    if there:
        write(path, "old")
    total = calls_of(lambda: write(path, "0"), calls)
    failures = 0
    for number in range(1, total + 1):
        if not there:
            shutil.rmtree(path.parent, ignore_errors=True)
        old, new = read(path), str(number)
        failed = failed_at(number, partial(write, path, new), errno.ENOSPC, calls)
        assert read(path) in ((old, new) if failed else (new,)), number
        failures += failed
    assert failures > 10
    write(path, "last")
    assert read(path) == "last"
    assert only(path)


@pytest.mark.slow
def test_a_kill_between_two_renames_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system cannot exchange, the name is free for an instant; the next run puts the old folder back."""
    monkeypatch.setattr(exchange, "renameat2", lambda *_: False)
    path = tmp_path / "out"
    write_folder(path, "old")
    total = calls_of(lambda: write_folder(path, "0"))
    gone = 0
    for number in range(1, total + 1):
        old, new = read(path), str(number)
        killed_at(number, partial(write_folder, path, new))
        gone += read(path) is None
        with claimed_folder(path, force=True):
            assert read(path) in (old, new), number
    assert gone == 1
    assert only(path)
