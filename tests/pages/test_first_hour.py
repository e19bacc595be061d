"""The tutorial and the how-to pages run as they are written, after one run of the demo."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from octorec.demo import run as demo
from tests.pages.pasted import Servers, free_port, run_page
from tests.pages.told import ROOT, files, lines, scripts, verb

TUTORIAL = (ROOT / "docs/tutorial.md").read_text()
README = (ROOT / "README.md").read_text()
HOW_TO = {path.stem: path.read_text() for path in sorted((ROOT / "docs/how-to").glob("*.md"))}
OCTOREC = Path(sys.executable).with_name("octorec")
LEFT = (
    "bf16",
    "fp8",
    "analysis",
    "report.html",
    "demo.json",
    "interactions.csv",
    "items.csv",
    "users.csv",
    "examples.json",
)
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


SHOWN = {  # of what the lines of a how-to page print, what the page promises
    "own-model": ["wrote runs/imported", "(19"],
    "own-features": ["(19", "wrote runs/by-hour-fp8"],
    "embeddings": ["wrote runs/by-vector", "Star Wars"],
    "new-items": ["Star Wars Returns", '"added":1'],
    "cold-users": ['"source":"popularity"', '"source":"model"'],
    "exclude-and-allow": ["Sci-Fi", '"complete":true'],
    "size-a-gpu": ["exact"],
    "read-a-verdict": ["popularity", "Markov"],
    "ab-test": ["guardrail", "inconclusive"],
}
GATES = re.compile(r"octorec (evaluate|prove|ab report) ")  # exit codes 3 and 4 are verdicts


def commands() -> list[str]:
    return [verb(line) for line in lines(TUTORIAL) if line.startswith("octorec ")]


def test_what_is_predicted_is_held_out_of_everything_before() -> None:
    about_data = [shlex.split(command) for command in commands() if "--hold-out" in command]
    assert [line[1] for line in about_data] == ["evaluate", "catalog", "train", "prove"]
    held_out = [line[line.index("--hold-out") + 1] for line in about_data]
    assert held_out == [str(demo.HELD_OUT), "1", "1", "1"]


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
    for path in re.findall(r"`(runs/[^`]*)`", TUTORIAL + README):
        assert path in there, path
    for path in re.findall(r'"(runs/[^"]*)"', scripts(TUTORIAL)[0]):
        assert path in there, path


def test_the_demo_of_make_is_the_demo_that_is_tried_here() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert "$(BIN)/octorec demo --out runs/demo --force" in makefile
    assert lines(TUTORIAL)[:2] == ["make demo", "source .venv/bin/activate"]
    assert "-e '.[serve]'" in makefile  # what the pages serve with
    assert f"{verb(lines(README)[1])} &" in lines(HOW_TO["cold-users"])  # so that README's second line is run


def test_each_how_to_page_has_lines_to_run_and_says_what_they_show() -> None:
    assert set(HOW_TO) == set(SHOWN)
    for name, page in HOW_TO.items():
        assert len(lines(page)) >= 2
        assert "(../tutorial.md#1-the-demo)" in page, f"{name}: say what its lines need"
        assert all(f"`{file}`" in page for file in files(page)), f"{name}: say under which name a file is saved"


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
    written = [said / str(n) for n in range(len(pasted))]
    parts = [f"{{ {line}\n}} >{f}.out 2>{f}.err; echo $? >{f}.code" for line, f in zip(pasted, written, strict=True)]
    subprocess.run(["bash", "-c", "\n".join(parts)], cwd=folder, timeout=1200, check=True, stdin=subprocess.DEVNULL)
    ends = [[file.with_suffix(kind).read_text() for kind in (".code", ".out", ".err")] for file in written]
    return {line: Done(int(code), out, err) for line, (code, out, err) in zip(pasted, ends, strict=True)}


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
    python = f"python - <<'PY'\n{scripts(TUTORIAL)[0]}PY"
    port = str(free_port())
    typed = [line.replace("8080", port) for line in lines(TUTORIAL)[1:]]
    done = in_a_shell(folder, [*typed, python, *(line for line in last if " serve " not in line)])
    for line, ended in done.items():
        allowed = (0, 3, 4) if re.search(r" (evaluate|prove) ", line) else (0,)
        assert ended.code in allowed, f"{line}\n{ended.err}"
        assert "warning" not in ended.err
        assert "Traceback" not in ended.err
    for name, words in PROMISED.items():
        line = next(line for line in done if f"octorec {name}" in line)
        for word in words:
            assert word in done[line].out + done[line].err, f"{word}: {line}"
    answer = json.loads(next(ended.out for line, ended in done.items() if line.startswith("curl ")))
    assert len(answer["items"]) == 5
    assert done[python].out.count("(") >= 5  # five titles with years


@pytest.fixture(scope="module")
def servers(after_demo: tuple[Path, Done]) -> Iterator[Servers]:
    """The servers that pages start, each once for all pages that start it by the same line."""
    with Servers(after_demo[0]) as running:
        yield running


@pytest.mark.slow
@pytest.mark.parametrize("name", HOW_TO)
def test_a_how_to_page_runs_as_it_is_written(
    name: str, after_demo: tuple[Path, Done], servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(after_demo[0])
    monkeypatch.syspath_prepend(str(after_demo[0]))
    said = ""
    for line, code, text in run_page(HOW_TO[name], servers):
        assert code in ((0, 3, 4) if GATES.match(line) else (0,)), f"{line}\n{text}"
        said += text
    for words in SHOWN[name]:
        assert words in said, f"{words}: {said}"
