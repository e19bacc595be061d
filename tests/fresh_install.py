"""The wheel with all extras in a new virtual environment: run by `make test-long`, for it takes minutes and an index.

PIP_ARGS in the environment are arguments of pip, such as an index.
"""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.package_copy import ROOT, build, copy_checkout
from tests.test_types import ERRORS, PROGRAM

EXTRAS = "serve,bench,families,deepgemm,dev"
CONFIG = {
    "d_model": 128, "n_layer": 2, "n_head": 2, "embed_dim": 8, "max_context": 8, "n_dense": 1, "n_expert": 3,
    "n_shared": 1, "top_k": 2, "d_expert": 128, "recency_buckets": 8,
}  # fmt: skip
pytestmark = pytest.mark.timeout(3600)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a virtual environment that holds the wheel and nothing of the checkout."""
    folder = tmp_path_factory.mktemp("fresh")
    copy_checkout(folder / "project")
    _, wheel = build(folder / "project")
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    pip = (folder / "venv/bin/python", "-m", "pip", "install", "--quiet", *shlex.split(os.environ.get("PIP_ARGS", "")))
    run(*pip, f"{wheel}[{EXTRAS}]", "-c", ROOT / "constraints.txt", cwd=folder)
    return folder / "venv/bin"


def run(*command: object, cwd: Path) -> str:
    """Stdout of a command that succeeds, away from the checkout."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=inherited, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_command_answers(environment: Path, tmp_path: Path) -> None:
    assert run(environment / "octorec", "--version", cwd=tmp_path).startswith("octorec ")
    assert "recommend" in run(environment / "python", "-m", "octorec", "--help", cwd=tmp_path)
    where = run(environment / "python", "-c", "import octorec; print(octorec.__file__)", cwd=tmp_path)
    assert "site-packages" in where


def test_mypy_finds_misspelt_names(environment: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [str(environment / "python"), "-m", "mypy", "program.py", "--no-error-summary"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines() == ERRORS


def test_from_a_table_to_recommendations(environment: Path, tmp_path: Path) -> None:
    rows = [f"u{user},{(user + time) % 30},{time}" for user in range(40) for time in range(8)]
    (tmp_path / "data.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    for line in (
        "catalog build --data data.csv --codebook-sizes 6,5,4 --out catalog",
        "train --data data.csv --catalog catalog --config config.json --steps 20 --batch-size 32 --out bf16",
        "analyze bf16 --out numbers",
        "quantize bf16 --out fp8",
    ):
        run(environment / "octorec", *line.split(), cwd=tmp_path)
    answer = run(environment / "octorec", "recommend", "fp8", "--history", "3,4", "--k", "3", "--json", cwd=tmp_path)
    assert len(json.loads(answer)["items"]) == 3


def test_every_extra_is_there(environment: Path, tmp_path: Path) -> None:
    for module in ("fastapi", "uvicorn", "aiohttp", "gguf", "transformers", "accelerate", "schemathesis"):
        run(environment / "python", "-c", f"import {module}", cwd=tmp_path)
    run(environment / "octorec", "serve", "--help", cwd=tmp_path)
    run(environment / "python", "-m", "pip", "check", cwd=tmp_path)
