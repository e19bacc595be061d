"""What README.md tells a reader to run, run; what it claims to have measured, recorded."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
OCTOREC = Path(sys.executable).with_name("octorec")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.S | re.M)


def commands() -> list[str]:
    return [line for block in blocks("bash") for line in block.splitlines() if line.startswith("octorec ")]


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
    named = {line.split()[0] for line in tree.splitlines() if line.startswith("  ")}
    package = ROOT / "src/octorec"
    there = {f"{path.name}/" for path in package.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert named == there | {"cli.py"}


def test_what_is_predicted_is_held_out_of_everything_before() -> None:
    about_data = [shlex.split(command) for command in commands() if "--data interactions.csv" in command]
    assert [line[1] for line in about_data] == ["catalog", "train", "evaluate", "prove"]
    assert {line[line.index("--hold-out") + 1] for line in about_data} == {"1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder after `make demo`, with an interactions.csv of the reader's own."""
    folder = tmp_path_factory.mktemp("reader")
    cache = ROOT / ".cache"
    done = subprocess.run([OCTOREC, "demo", "--cache", cache], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [f"u{u},{(u * 7 + t * 3) % 50},{t}" for u in range(80) for t in range(9)]
    (folder / "interactions.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]))
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_commands_and_python_run(folder: Path) -> None:
    assert len(commands()) >= 7
    for command in commands():
        done = subprocess.run([OCTOREC, *shlex.split(command)[1:]], cwd=folder, capture_output=True, text=True)
        allowed = (0, 3, 4) if " evaluate " in command or " prove " in command else (0,)
        assert done.returncode in allowed, f"{command}\n{done.stderr}"
        assert "warning" not in done.stderr
    for block in blocks("python"):
        done = subprocess.run([sys.executable, "-c", block], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("'") >= 10  # five titles
