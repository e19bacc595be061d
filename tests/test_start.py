"""Where nothing is computed nothing slow is imported: help, versions, completion, wrong flags, missing paths."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from octorec.cli import app as cli

SLOW = (
    "torch",
    "triton",
    "numpy",
    "pyarrow",
    "sklearn",
    "scipy",
    "faiss",
    "matplotlib",
    "pandas",
    "fastapi",
    "aiohttp",
    "jinja2",
)
MISSING = {  # each verb with paths of which none is there
    "train": "--data nope --catalog nope --out new",
    "analyze": "nope --out new",
    "import": "nope --map nope --out new",
    "inspect": "nope",
    "quantize": "nope --out new",
    "recommend": "nope --history 1",
    "recommend-all": "nope --data nope --out new",
    "widths": "nope --data nope",
    "serve": "nope",
    "evaluate": "nope nope --data nope",
    "prove": "nope --data nope",
    "parity": "nope --data nope",
    "demo": "--out {file}/below",
    "doctor": "nope",
    "catalog build": "--data nope --out new",
    "catalog assign": "--catalog nope --items nope --out new",
    "catalog import": "--index nope --out new",
    "catalog show": "nope 1",
    "catalog upsert": "nope --items nope --in-place",
    "catalog withdraw": "nope --items nope --in-place",
    "catalog restore": "nope --items nope --in-place",
    "data check": "nope",
    "ray config": "nope --out new",
    "ray want": "nope --model one",
    "ray state": "nope",
    "bench serve": "http://127.0.0.1:1 --catalog nope",
    "ab check": "nope",
    "ab assign": "nope 7",
    "ab plan": "nope",
    "ab report": "nope",
    "ab stop": "nope --why broken",
    "ab resume": "nope",
    "ab end": "nope",
}
LATER = {  # the first path is there, a later one or a value is not what it must be
    "train": "--data {file} --catalog {catalog} --out {file}",
    "train --preset 9b": "--data {file} --catalog {catalog} --out new",
    "train --users nope": "--data {file} --catalog {catalog} --out new",
    "analyze": "{model} --out {file}",
    "analyze --data nope": "{model} --out new",
    "import": "{model} --map {file} --out {file}",
    "import --least-db -1": "{model} --map {file} --out new",
    "import --parity nope": "{model} --map {file} --out new",
    "inspect": "{catalog}",
    "parity --tolerance -1": "{model} --data {file} --catalog {catalog}",
    "parity --base nope": "{model} --data {file} --catalog {catalog}",
    "quantize --recipe fp9": "{model} --out new",
    "quantize": "{model} --out {file}",
    "recommend": "{model} --history 1",
    "recommend --catalog nope": "{model} --history 1",
    "recommend --k 0": "{model} --history 1 --catalog {catalog}",
    "recommend-all": "{model} --data {file} --catalog {catalog} --out {file}",
    "recommend-all --k 0": "{model} --data {file} --catalog {catalog} --out new",
    "widths --k ten": "{model} --data {file} --catalog {catalog}",
    "widths --beam-widths 8": "{model} --data {file} --catalog {catalog}",
    "serve": "{model} --token-file nope --catalog {catalog}",
    "serve --port x": "{model}",
    "evaluate": "{model} {model} --data {file} --catalog nope",
    "evaluate --hold-out 0": "{model} {model} --data {file} --catalog {catalog}",
    "prove": "{model} --data {file}",
    "parity": "{model} --data {file}",
    "catalog show": "{model} 1",
    "catalog show --neighbours -1": "{catalog} 1",
    "catalog withdraw": "{catalog} --items {file}",
    "bench serve": "http://127.0.0.1:1 --requests {file} --plot {file}/below",
    "ray config": "{model} --out new --catalog nope",
    "ray config --admin-port 1": "{model} --out new --catalog {catalog}",
    "ray config --max-replicas 0": "{model} --out new --catalog {catalog}",
    "ray want": "{file} --withdraw @nope",
    "ray state": "{file}",
    "ab plan": "{file} --data nope",
    "ab plan --units-per-day 0": "{file}",
    "ab report": "{record} --outcomes nope",
    "ab report --now yesterday": "{record}",
    "ab report --columns a=b": "{record}",
    "ab report --final": "{record} --html {file}/below",
    "ab plan --until 1": "{file} --plot {file}.pdf",
}
RUN = """
import contextlib, io, json, sys
from octorec import terminal
from octorec.cli import app as cli
loaded = []
for arguments in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as err:
        terminal.console._file = err
        try:
            cli.main(arguments)
        except SystemExit as done:
            loaded.append([arguments, done.code, sorted(set(sys.argv[1:]) & set(sys.modules)), err.getvalue()])
print(json.dumps(loaded))
"""


def commands() -> Iterator[tuple[str, Any]]:
    """Every verb by its words."""
    root: Any = typer.main.get_command(cli.app)
    for name, command in root.commands.items():
        inner = getattr(command, "commands", None)
        yield from ((f"{name} {verb}", found) for verb, found in inner.items()) if inner else ((name, command),)


def run_all(calls: list[list[str]], *more: str) -> list[tuple[list[str], int, list[str], str]]:
    """Run command lines one after the other in a new process: each with its exit code, what is loaded, and stderr."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, *SLOW, *more], input=json.dumps(calls), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_help_versions_and_wrong_flags_import_nothing_slow() -> None:
    words = [name.split() for name, _ in commands()]
    calls = [["--help"], ["--version"], *([*each, "--help"] for each in words), *([*each, "--nope"] for each in words)]
    for arguments, code, loaded, err in run_all(calls, "pydantic"):
        assert code == (2 if arguments[-1] == "--nope" else 0), (arguments, err)
        assert not loaded, arguments


def test_what_is_not_there_is_refused_before_anything_slow_is_imported(tmp_path: Path) -> None:
    assert set(MISSING) == {name for name, _ in commands()}
    (tmp_path / "file").write_text("x")
    (tmp_path / "model").mkdir()
    (tmp_path / "catalog").mkdir()
    (tmp_path / "record").mkdir()
    for name in ("record/record.json", "model/config.json", "model/model.safetensors", "catalog/catalog.json"):
        (tmp_path / name).write_text("{}")
    paths = {name: str(tmp_path / name) for name in ("file", "model", "catalog", "record")}
    typed = [f"{verb} {rest.format(**paths)}" for table in (MISSING, LATER) for verb, rest in table.items()]
    for arguments, code, loaded, err in run_all([line.split() for line in typed]):
        assert code == 2, arguments
        assert err.startswith("error: "), arguments
        assert err.count("\n") == 1
        assert not loaded, arguments


@pytest.mark.parametrize(("verb", "command"), list(commands()))
def test_every_path_that_is_read_is_looked_at_as_it_is_typed(verb: str, command: Any) -> None:
    written = {"out", "cache", "html", "plot"}
    for one in command.params:
        if "Path" in type(one.type).__name__:
            assert one.callback is not None or one.name in written, f"{verb}: {one.name}"


def test_python_m_octorec_is_the_command_line() -> None:
    done = subprocess.run([sys.executable, "-m", "octorec", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("octorec 0.")
    assert "torch " in done.stdout


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("octorec cat", "catalog"), ("octorec catalog b", "build"), ("octorec recommend --hist", "--history")],
)
def test_a_shell_completes_verbs_and_flags_and_waits_for_nothing_slow(typed: str, offered: str) -> None:
    """The call is that of --show-completion's script."""
    asked = {"_OCTOREC_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    command = [sys.executable, "-X", "importtime", "-m", "octorec"]
    done = subprocess.run(command, env={**os.environ, **asked}, capture_output=True, text=True)
    assert done.stdout.split() == [offered]
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "typer" in imported
    assert not imported & set(SLOW)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_shown_for_the_command_as_it_is_typed(shell: str) -> None:
    command = [sys.executable, "-m", "octorec", "--show-completion", shell]
    told = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # the tests may run below make's sh
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=told)
    assert "_OCTOREC_COMPLETE=complete_" in done.stdout
    assert "python" not in done.stdout
