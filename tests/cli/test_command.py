"""How a command ends: one line and exit code 2 for what a user caused, and no traceback."""

import errno
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from octorec import terminal
from octorec.cli import app as cli
from octorec.cli.command import kept, run
from octorec.cli.options import show
from octorec.cli.words import user_fields
from octorec.errors import InputError


def ended(verb: Callable[..., Any], *arguments: str) -> tuple[int, str]:
    """The exit code and what stands on stderr."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(verb)
    return said_at_the_end(list(arguments), app)


def said_at_the_end(arguments: list[str], app: typer.Typer = cli.app) -> tuple[int, str]:
    """The exit code of a command line and what stands on stderr."""
    err = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(terminal.console, "_file", err)
        with pytest.raises(SystemExit) as exit_:
            run(app, arguments)
    assert isinstance(exit_.value.code, int)
    return exit_.value.code, err.getvalue()


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InputError("k", "\x1b[2J", "allowed: 1"), 2, "error: k: got '\\x1b[2J'; allowed: 1\n"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "error: No space left on device\n"),
        (PermissionError(errno.EACCES, "Permission denied", "/a\x1b[2J"), 2, "error: /a\\x1b[2J: Permission denied\n"),
        (MemoryError(), 2, "error: memory: there is not enough ()\n"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory:\nx"), 2, "error: memory: there is not enough ("),
        (KeyboardInterrupt(), 130, "interrupted: nothing was written\n"),
        (typer.Abort(), 130, "interrupted: nothing was written\n"),
        (typer.Exit(3), 3, ""),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1, ""),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_end_has_its_code_and_at_most_one_line(error: BaseException, code: int, said: str) -> None:
    def verb() -> None:
        raise error

    found, err = ended(verb)
    assert found == code
    assert err.startswith(said) if said else not err
    assert err.count("\n") <= 1


def test_an_interrupted_verb_says_what_it_keeps() -> None:
    def verb() -> None:
        with kept(lambda: "x.training keeps step 3"):
            raise KeyboardInterrupt

    assert ended(verb) == (130, "interrupted: x.training keeps step 3\n")


def test_what_only_octorec_can_cause_is_shown_whole() -> None:
    def verb() -> None:
        raise RuntimeError("a fault of ours")

    with pytest.raises(RuntimeError):
        ended(verb)


@pytest.mark.parametrize(
    "arguments",
    [("--k", "x\x1b[2J"), ("--k",), ("--no\nsuch",), ("one", "\x1b"), ("--k", "9" * 9999), ("--k", "\udcff")],
)
def test_a_wrong_call_is_one_line(arguments: tuple[str, ...]) -> None:
    def verb(k: int = 1) -> None: ...

    code, err = ended(verb, *arguments)
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "\x1b" not in err
    assert len(err) < 700


def octorec(*arguments: object, **how: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "octorec", *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, **how)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_behind_stdout_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.index.json").write_text('{"1": ["<a_0>"]}')
    with open("/dev/full", "wb") as full:
        arguments = ("catalog", "import", "--index", tmp_path / "x.index.json", "--out", tmp_path / "catalog")
        process = octorec(*arguments, stdout=full)
        err = process.communicate(timeout=120)[1].decode()
    assert (process.returncode, err) == (2, "error: No space left on device\n")


@pytest.mark.slow
def test_a_reader_that_has_gone_is_no_fault(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    (tmp_path / "x.index.json").write_text('{"1": ["<a_0>"]}')
    arguments = ("catalog", "import", "--index", tmp_path / "x.index.json", "--out", tmp_path / "catalog", "--json")
    process = octorec(*arguments, stdout=write)
    os.close(write)
    assert process.communicate(timeout=120)[1] == b""
    assert process.returncode == 1


@pytest.mark.slow
def test_an_interrupt_ends_with_130_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.random.default_rng(0).normal(size=(200_000, 16)))
    np.save(tmp_path / "ids.npy", np.arange(200_000))
    arguments = ("catalog", "build", "--embeddings", tmp_path / "v.npy", "--embedding-ids", tmp_path / "ids.npy")
    process = octorec(*arguments, "--out", tmp_path / "catalog", stdout=subprocess.DEVNULL)
    try:
        process.wait(8)
        pytest.skip("this machine builds it too fast to be interrupted")
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    assert b"Traceback" not in process.communicate(timeout=120)[1]
    assert process.returncode == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ids.npy", "v.npy"]


def test_json_on_stdout_is_json_also_where_a_number_is_not_finite(capsys: pytest.CaptureFixture[str]) -> None:
    show(True, {"low": float("-inf"), "rows": [(float("nan"), 1)], "title": "\x1b[2J\u202e\ud800"}, "text")
    assert capsys.readouterr().out == '{"low": null, "rows": [[null, 1]], "title": "\\u001b[2J\\u202e\\ud800"}\n'


def test_a_user_field_may_be_given_once() -> None:
    assert user_fields(["age=3", "plan=a=b"], {"age": "number"}) == {"age": 3.0, "plan": "a=b"}
    with pytest.raises(InputError, match="given twice"):
        user_fields(["age=3", "age=4"], {"age": "number"})
