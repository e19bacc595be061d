"""Two writers of one name do not mix, and what a killed one left is seen to."""

import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from octorec.errors import InputError
from octorec.output import exchange, lock
from octorec.output.claim import claimed_folder
from octorec.output.write import new_folder

WRITER = """
import sys
from octorec.output.write import new_folder
with new_folder(sys.argv[1], force=True) as scratch:
    (scratch / "a").write_text("half")
    print("writing", flush=True)
    sys.stdin.read()
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(path: Path, text: str, force: bool = False) -> None:
    with new_folder(path, force) as scratch:
        (scratch / "a").write_text(text)


@pytest.fixture
def writer(tmp_path: Path):
    """Another process that is writing `out`."""
    command = [sys.executable, "-c", WRITER, str(tmp_path / "out")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"writing\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_is_told_who_writes(tmp_path: Path, writer: subprocess.Popen[bytes]) -> None:
    before = names(tmp_path)
    for force in (False, True):
        with pytest.raises(InputError, match=rf"is being written by process {writer.pid} on .* since 20"):
            write(tmp_path / "out", "second", force)
    assert names(tmp_path) == before
    writer.communicate(b"")
    assert (tmp_path / "out" / "a").read_text() == "half"
    assert names(tmp_path) == ["out"]


def test_the_lock_vanishes_with_its_process_and_its_scratch_at_the_next_run(
    tmp_path: Path, writer: subprocess.Popen[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    left = next(name for name in names(tmp_path) if name.startswith(".out.octorec-new-"))
    write(tmp_path / "out", "second")
    assert (tmp_path / "out" / "a").read_text() == "second"
    assert names(tmp_path) == ["out"]
    assert caplog.messages == [f"removed {tmp_path / left}, which a run that was killed had left"]


def test_another_thread_is_another_writer(tmp_path: Path) -> None:
    said: list[str] = []

    def second() -> None:
        try:
            write(tmp_path / "out", "second")
        except InputError as error:
            said.append(str(error))

    with claimed_folder(tmp_path / "out"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        write(tmp_path / "out", "first")
    assert f"process {os.getpid()}" in said[0]
    assert (tmp_path / "out" / "a").read_text() == "first"


def test_where_there_are_no_locks_scratch_is_named_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def flock(*_: object) -> None:
        raise OSError(lock.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    left = tmp_path / ".out.octorec-new-0123abcd"
    left.mkdir()
    write(tmp_path / "out", "new")
    assert names(tmp_path) == [left.name, "out"]
    assert caplog.messages == [f"{left} was left by a run that was killed, unless one is writing now: remove it"]


def test_an_old_folder_that_was_moved_away_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A kill between the two renames of a system that cannot exchange."""
    monkeypatch.setattr(exchange, "renameat2", lambda *_: False)
    write(tmp_path / "out", "old")
    os.rename(tmp_path / "out", tmp_path / ".out.octorec-old-0123abcd")
    with pytest.raises(InputError, match="exists already"):
        write(tmp_path / "out", "new")
    assert (tmp_path / "out" / "a").read_text() == "old"
    assert names(tmp_path) == ["out"]
    assert caplog.messages == [f"put {tmp_path / 'out'} back, which a run that was killed had moved away"]


def test_only_scratch_of_this_name_is_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = [".out.octorec-new-0123abcde", ".out2.octorec-new-0123abcd", "out.octorec-new-0123abcd", ".out.new"]
    for name in kept:
        (tmp_path / name).mkdir()
    with caplog.at_level(logging.WARNING):
        write(tmp_path / "out", "new")
    assert names(tmp_path) == sorted([*kept, "out"])
    assert caplog.messages == []
