"""Nobody meets half a file or half a folder, and nothing is lost when a write fails."""

import errno
import os
import shutil
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors import SafetensorError

from octorec.errors import InputError
from octorec.output import exchange
from octorec.output.claim import claimed_file, claimed_folder
from octorec.output.marker import MARKER
from octorec.output.write import new_file, new_folder, remove_folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(path: Path, text: str, force: bool = False) -> None:
    with new_folder(path, force) as scratch:
        (scratch / "a").write_text(text)


def fail_within(writing: AbstractContextManager[Path], name: str = "") -> None:
    with writing as scratch:
        (scratch / name if name else scratch).write_text("half")
        raise ZeroDivisionError


@pytest.fixture(params=["in one call", "by two renames"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to put a folder in its place; the second is of systems without renameat2."""
    if request.param == "by two renames":
        monkeypatch.setattr(exchange, "renameat2", lambda *_: False)
    return request.param


def test_a_folder_appears_whole(tmp_path: Path, way: str) -> None:
    with new_folder(tmp_path / "out") as scratch:
        (scratch / "a").write_text("1")
        assert names(tmp_path) == sorted([scratch.name, ".out.octorec-lock"])
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == [MARKER, "a"]
    assert (tmp_path / "out" / "a").read_text() == "1"


def test_an_older_folder_is_replaced_only_by_force(tmp_path: Path, way: str) -> None:
    write(tmp_path / "out", "old")
    with pytest.raises(InputError, match=r"out: got .*it exists already"):
        write(tmp_path / "out", "new")
    write(tmp_path / "out", "new", force=True)
    assert (tmp_path / "out" / "a").read_text() == "new"
    assert names(tmp_path) == ["out"]


def test_a_failure_leaves_nothing_and_keeps_the_old(tmp_path: Path, way: str) -> None:
    with pytest.raises(ZeroDivisionError):
        fail_within(new_folder(tmp_path / "above" / "out"), "a")
    assert names(tmp_path) == []  # not even the folder above
    write(tmp_path / "out", "old")
    with pytest.raises(ZeroDivisionError):
        fail_within(new_folder(tmp_path / "out", force=True), "a")
    assert (tmp_path / "out" / "a").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_what_appeared_meanwhile_is_not_replaced(tmp_path: Path, way: str) -> None:
    for force in (False, True):
        writing = new_folder(tmp_path / "out", force)
        writing.__enter__()
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "theirs").write_text("kept")
        with pytest.raises(InputError, match=r"exists already|holds theirs"):
            writing.__exit__(None, None, None)
        assert (tmp_path / "out" / "theirs").read_text() == "kept"
        assert names(tmp_path) == ["out"]
        shutil.rmtree(tmp_path / "out")


def test_what_appears_in_the_last_instant_is_not_replaced(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the last look at the name, and before the rename."""
    from octorec.output import write as module

    def appearing(make: str, call):
        def late(*arguments):
            (tmp_path / "out").mkdir(exist_ok=True)
            (tmp_path / "out" / make).write_text("kept")
            monkeypatch.undo()
            if way == "by two renames":
                monkeypatch.setattr(exchange, "renameat2", lambda *_: False)
            return call(*arguments)

        return late

    monkeypatch.setattr(module, "rename_new", appearing("theirs", module.rename_new))
    with pytest.raises(InputError, match="appeared while it was being written"):
        write(tmp_path / "out", "new")
    assert names(tmp_path / "out") == ["theirs"]
    write(tmp_path / "other", "old")
    (tmp_path / "out" / "theirs").unlink()
    monkeypatch.setattr(module, "exchange", appearing("theirs", module.exchange))
    with pytest.raises(InputError, match="holds theirs"):
        write(tmp_path / "out", "new", force=True)
    assert names(tmp_path / "out") == ["theirs"]
    assert names(tmp_path) == ["other", "out"]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, way: str) -> None:
    path = tmp_path / "rows.json"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError):
        fail_within(new_file(path))
    assert path.read_text() == "old"
    with new_file(path) as scratch:
        assert scratch.suffix == ".json"
        scratch.write_text("new")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["rows.json"]


def test_a_file_of_others_an_input_a_link_and_a_folder_are_no_place_for_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    file, link, pipe = (tmp_path / name for name in ("file", "link", "pipe"))
    for writing, said in (
        (new_file(file, ours=lambda _: False), "did not write"),
        (new_file(file, [link]), "is what is read"),
        (new_file(link), "is a link to file"),
        (new_file(pipe), "is a pipe"),
        (new_file(tmp_path), "is a folder"),
        (new_file(tmp_path / ".."), "must name a file"),
        (new_file(file / "below"), "Not a directory"),
    ):
        with pytest.raises(InputError, match=said), writing as scratch:
            scratch.write_text("new")
    assert file.read_text() == "kept"
    assert names(tmp_path) == ["file", "link", "pipe"]


def test_where_nothing_can_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "broken").symlink_to(tmp_path / "nothing")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "there").mkdir()
    wrong = ("file/out", "file/a/b", "broken", "broken/a/b", "circle/a", "a" * 300, f"b/{'a' * 300}/c", "a\0b",
             "a\0b/c", "there", "there/..", "/proc/octorec/out", "/proc/self/out", "/dev/null/out")  # fmt: skip
    for name in wrong:
        with pytest.raises(InputError, match=r"^out: got") as error, claimed_folder(tmp_path / name):
            pass
        assert "\n" not in str(error.value)
    for name in ("", ".", "/", "..", "there/.."):
        with pytest.raises(InputError, match="must name a folder"), claimed_folder(name, force=True):
            pass
    for name in ("there", "a/b/c"):
        with claimed_folder(tmp_path / name, force=True):
            assert (tmp_path / name).parent.is_dir()
    assert names(tmp_path) == ["broken", "circle", "file", "there"]


def test_too_little_room_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    with claimed_folder(tmp_path / "a" / "out", needed=10**9):
        pass
    claim = claimed_folder(tmp_path / "a" / "out", needed=2 * 10**9)
    with pytest.raises(InputError, match=r"about 2\.0 GB are to be written, and 1\.0 GB are free"), claim:
        pass
    assert names(tmp_path) == []


def test_a_full_disk_is_an_error_about_the_name_that_was_given(tmp_path: Path) -> None:
    """Whichever library met it, however deep inside; and nothing is left."""
    errors = (
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        OSError("[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device"),
    )

    def fail(error: Exception) -> None:
        with new_folder(tmp_path / "out") as scratch, new_file(scratch / "report.html") as inner:
            inner.write_text("half")
            raise error

    for error in errors:
        with pytest.raises(InputError) as found:
            fail(error)
        assert str(found.value) == f"out: got '{tmp_path}/out'; cannot be written (No space left on device)"
        assert names(tmp_path) == []
    with pytest.raises(OSError, match="no fault of the disk"):
        fail(OSError("no fault of the disk"))


def test_a_limit_on_files_is_met_in_one_line(tmp_path: Path) -> None:
    """The limit refuses writes as a full disk would, in a process of its own."""
    code = (
        "import resource, sys; from octorec.output.write import new_folder\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "with new_folder(sys.argv[1]) as scratch: (scratch / 'a').write_bytes(b'x' * 2000)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], capture_output=True, text=True)
    last = done.stderr.splitlines()[-1]
    assert last.endswith(f"out: got '{tmp_path / 'out'}'; cannot be written (File too large)")
    assert names(tmp_path) == []


def test_a_claim_within_a_claim_knows_its_inputs(tmp_path: Path) -> None:
    write(tmp_path / "out", "read")
    with pytest.raises(InputError, match="is what is read"), claimed_folder(tmp_path / "out", True, [tmp_path / "out"]):
        pass
    (tmp_path / "data").mkdir()
    with claimed_folder(tmp_path / "new", True, [tmp_path / "data" / "x.csv"]):
        os.rename(tmp_path / "out", tmp_path / "new")
        (tmp_path / "data" / "x.csv").symlink_to("../new/a")
        with pytest.raises(InputError, match="holds what is read"):
            write(tmp_path / "new", "new", force=True)
    assert (tmp_path / "new" / "a").read_text() == "read"


def test_a_folder_is_removed_unless_something_foreign_is_in_it(tmp_path: Path) -> None:
    remove_folder(tmp_path / "out")
    write(tmp_path / "out", "old")
    (tmp_path / "out" / "notes").write_text("mine")
    with pytest.raises(InputError, match="holds notes"):
        remove_folder(tmp_path / "out")
    (tmp_path / "out" / "notes").unlink()
    remove_folder(tmp_path / "out")
    assert names(tmp_path) == []


def test_a_claimed_file_is_free_again_at_the_end(tmp_path: Path) -> None:
    for _ in range(2):
        with claimed_file(tmp_path / "rows.json"), new_file(tmp_path / "rows.json") as scratch:
            scratch.write_text("new")
    assert names(tmp_path) == ["rows.json"]


def test_work_may_write_again_and_again_what_it_claimed_and_wrote_itself(tmp_path: Path) -> None:
    with claimed_folder(tmp_path / "state") as claim:
        for text in ("first", "second", "third"):
            write(tmp_path / "state", text, force=True)
            assert (tmp_path / "state" / "a").read_text() == text
        (tmp_path / "state" / "notes").write_text("mine")
        with pytest.raises(InputError, match="holds notes"):
            claim.check()
        (tmp_path / "state" / "notes").unlink()
        with pytest.raises(InputError, match="it exists already"):
            write(tmp_path / "state", "without being told to replace it")
    with pytest.raises(InputError, match="it exists already"), claimed_folder(tmp_path / "state"):
        pass


def test_what_appears_within_a_claim_is_not_what_the_claim_wrote(tmp_path: Path) -> None:
    with claimed_folder(tmp_path / "state"):
        write(tmp_path / "elsewhere", "another's")
        (tmp_path / "elsewhere").rename(tmp_path / "state")
        with pytest.raises(InputError, match="it exists already"):
            write(tmp_path / "state", "new", force=True)
