"""What README.md tells a reader to run, run; what it claims to have measured, recorded."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from octorec.cli import app as cli
from octorec.cli.command import UsageError
from octorec.demo import run as demo

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
OCTOREC = Path(sys.executable).with_name("octorec")
LEFT = ("bf16", "fp8", "analysis", "report.html", "demo.json", "interactions.csv", "items.csv", "users.csv")
PROMISED = {  # of what the lines print, what README and their help promise
    "recommend": ["(19"],
    "analyze": ["recipe"],
    "evaluate": ["to predict: 500 interactions, the newest 10 of 50 of 943 users", "ahead: ", "popularity", "Markov"],
    "data check": ["100,000", "943", "1,682"],
    "catalog build": ["to learn from: 99,057 interactions", "ahead: 3 levels", "wrote runs/catalog"],
    "train": ["ahead: 50 steps", "step 50/50", "wrote runs/model"],
    "quantize": ["ahead: recipe fp8", "wrote runs/model-fp8"],
    "prove": ["FP8 layers are safe", "noise floor", "popularity", "Markov chain", "recall@10"],
}


def start() -> list[tuple[str, str]]:
    """The blocks of README's first hour, each as its language and its text."""
    section = README[README.index("\n## Start\n") : README.index("\n## What it does\n")]
    return re.findall(r"^```(bash|python)\n(.*?)^```$", section, re.S | re.M)


def lines(language: str = "bash") -> list[str]:
    """Lines to paste, those that go on behind a backslash as one; a block of Python is one."""
    blocks = [text for name, text in start() if name == language]
    return blocks if language == "python" else [line for block in blocks for line in whole_lines(block)]


def whole_lines(text: str) -> list[str]:
    return re.sub(r"\\\n\s*", "", text).strip().splitlines()


def commands() -> list[str]:
    return [line.removesuffix(" &") for line in lines() if line.startswith("octorec ")]


def taken(line: str) -> dict[str, Any]:
    """Let the command line take a line apart, whose files need not be there: its options and arguments by name."""
    words = shlex.split(line, comments=True)[1:]
    command = typer.main.get_command(cli.app)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    found, left, _ = command.make_parser(command.context_class(command)).parse_args(words)
    assert not left, f"{line}: {left}"
    missing = [p.name for p in command.params if p.required and found.get(p.name) is None]
    assert not missing, f"{line}: {missing}"
    return found


def test_a_line_with_a_flag_that_there_is_not_or_without_one_that_is_needed_is_found() -> None:
    assert taken("octorec quantize a --out b")["out"] == "b"
    for line in ("octorec quantize a --out b --fast", "octorec quantize a", "octorec quantize --out b", "octorec q a"):
        with pytest.raises((AssertionError, KeyError, UsageError)):
            taken(line)


@pytest.mark.slow
def test_pages_say_what_the_rows_say() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.report", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    pages = README + (ROOT / "CONTRIBUTING.md").read_text()
    targets = set(re.findall(r"^make ([a-z-]+)", pages, re.M)) | set(re.findall(r"`make ([a-z-]+)", pages))
    assert targets >= {"demo", "test", "check", "test-all"}
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_the_tree_is_the_tree() -> None:
    tree = next(block for block in re.findall(r"```\n(src/octorec/\n.*?)```", README, re.S))
    named = set(re.findall(r"[\w_]+(?:/|\.py)(?=[ ,])", "\n".join(re.findall(r"^  \S.*?(?:  |$)", tree, re.M)) + " "))
    package = ROOT / "src/octorec"
    there = {f"{path.name}/" for path in package.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert named == there | {path.name for path in package.glob("[!_]*.py")}
    outside = {line.split()[0] for line in tree.splitlines()[1:] if not line.startswith(" ")}
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert outside == {f"{file.partition('/')[0]}/" for file in tracked if "/" in file} - {"src/", ".ci/"}


def test_what_is_predicted_is_held_out_of_everything_before() -> None:
    about_data = [shlex.split(command) for command in commands() if "--hold-out" in command]
    assert [line[1] for line in about_data] == ["evaluate", "catalog", "train", "prove"]
    held_out = [line[line.index("--hold-out") + 1] for line in about_data]
    assert held_out == [str(demo.HELD_OUT), "1", "1", "1"]


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_every_command_line_of_a_page_is_one_that_octorec_takes(page: str) -> None:
    for line in whole_lines((ROOT / page).read_text()):
        if not line.strip().startswith("octorec "):
            continue
        taken(line.strip().removesuffix(" &"))


def test_every_path_of_the_first_hour_is_left_by_the_demo_or_written_by_a_line_before() -> None:
    there = {"runs/demo", *(f"runs/demo/{name}" for name in LEFT)}
    used = 0
    for line in commands():
        words = shlex.split(line)
        out = words[words.index("--out") + 1] if "--out" in words else None
        for word in words:
            if "/" in word and word != out:
                assert word in there, line
                used += 1
        there |= {out} if out else set()
    assert used > 10
    for path in re.findall(r"`(runs/[^`]*)`", README):
        assert path in there, path
    for path in re.findall(r'"(runs/[^"]*)"', lines("python")[0]):
        assert path in there, path


def test_the_demo_of_make_is_the_demo_that_is_tried_here() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert "$(BIN)/octorec demo --out runs/demo --force" in makefile
    assert lines()[:2] == ["make demo", "source .venv/bin/activate"]
    assert "-e '.[serve]'" in makefile  # what README serves with


@dataclass(frozen=True)
class Done:
    """What a line left: its exit code, and what stood on the terminal."""

    code: int
    out: str
    err: str


def in_a_shell(folder: Path, pasted: Sequence[str]) -> dict[str, Done]:
    """Run lines one after the other in one shell, as a reader pastes them."""
    said = folder / "said"
    said.mkdir()
    files = [said / str(n) for n in range(len(pasted))]
    parts = [f"{{ {line}\n}} >{f}.out 2>{f}.err; echo $? >{f}.code" for line, f in zip(pasted, files, strict=True)]
    subprocess.run(["bash", "-c", "\n".join(parts)], cwd=folder, timeout=1200, check=True, stdin=subprocess.DEVNULL)
    ends = [[file.with_suffix(kind).read_text() for kind in (".code", ".out", ".err")] for file in files]
    return {line: Done(int(code), out, err) for line, (code, out, err) in zip(pasted, ends, strict=True)}


def port_is_free(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) != 0


@pytest.fixture(scope="module")
def after_demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """A folder after `make demo`, with the virtual environment that make would have made, and what the demo said."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / ".venv").symlink_to(sys.prefix)
    command = [OCTOREC, "demo", "--out", "runs/demo", "--force", "--cache", ROOT / ".cache"]
    path = os.pathsep.join(part for part in os.environ["PATH"].split(os.pathsep) if Path(part) != OCTOREC.parent)
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, "PATH": path})
    assert ran.returncode == 0, ran.stderr
    return folder, Done(ran.returncode, ran.stdout, ran.stderr)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.skipif(not (OCTOREC.parent / "activate").exists(), reason="make test runs in a virtual environment")
def test_the_first_hour_runs_as_it_is_written(after_demo: tuple[Path, Done]) -> None:
    folder, said = after_demo
    assert {path.name for path in (folder / "runs/demo").iterdir() if not path.name.startswith(".")} == set(LEFT)
    found = json.loads((folder / "runs/demo/demo.json").read_text())
    assert found["verdict"] in said.err.replace(" ", "_")
    assert "Markov chain" in said.err
    opened, empty, *last = said.out.splitlines()
    assert opened.startswith("Open runs/demo/report.html;")
    assert empty == ""
    assert last[0].startswith("source ")
    if not port_is_free(8080):
        pytest.skip("port 8080 is taken here, and README serves on it")
    python = f"python - <<'PY'\n{lines('python')[0]}PY"
    done = in_a_shell(folder, [*lines()[1:], python, *(line for line in last if " serve " not in line)])
    for line, ended in done.items():
        allowed = (0, 3, 4) if re.search(r" (evaluate|prove) ", line) else (0,)
        assert ended.code in allowed, f"{line}\n{ended.err}"
        assert "warning" not in ended.err
        assert "Traceback" not in ended.err
    for verb, words in PROMISED.items():
        line = next(line for line in done if f"octorec {verb}" in line)
        for word in words:
            assert word in done[line].out + done[line].err, f"{word}: {line}"
    answer = json.loads(next(ended.out for line, ended in done.items() if line.startswith("curl ")))
    assert len(answer["titles"]) == 5
    assert done[python].out.count("(") >= 5  # five titles with years
    assert answer["titles"][0] in done[python].out
