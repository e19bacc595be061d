"""A type checker sees what `octorec.load` gives, and finds a misspelt name in a stranger's program."""

import subprocess
import sys
from pathlib import Path

import pytest

import octorec

PROGRAM = """\
import octorec

engine = octorec.load("runs/demo/fp8")
answers = engine.recommend([octorec.Request(history=["50", "181"], k=5)])
titles: list[str] = answers[0].titles
engine.recomend([])
octorec.lod("runs/demo/fp8")
octorec.Request(histry=["50"])
"""
ERRORS = [
    'program.py:6: error: "Engine" has no attribute "recomend"; maybe "recommend"?  [attr-defined]',
    'program.py:7: error: Module has no attribute "lod"; maybe "load"?  [attr-defined]',
    'program.py:8: error: Unexpected keyword argument "histry" for "Request"; did you mean "history"?  [call-arg]',
]
RESULTS = """\
scores: list[str] = answers[0].scores
engine.recommend(octorec.Request(history=["50"]))
"""
SLOW = "torch.*,numpy.*,pyarrow.*,scipy.*,sklearn.*,safetensors.*"


def found(folder: Path, program: str, *options: str) -> list[str]:
    """What mypy says of a program that stands alone in `folder`."""
    (folder / "program.py").write_text(program)
    command = [sys.executable, "-m", "mypy", "program.py", "--no-error-summary", "--cache-dir", "cache", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True).stdout.splitlines()


@pytest.mark.slow
def test_mypy_finds_misspelt_names_and_nothing_else(tmp_path: Path) -> None:
    """Without looking into torch, which takes half a minute."""
    (tmp_path / "mypy.ini").write_text(f"[mypy]\n[mypy-{SLOW}]\nfollow_imports = skip\n")
    assert found(tmp_path, PROGRAM) == ERRORS


@pytest.mark.slow
def test_mypy_finds_wrong_types_of_arguments_and_answers(tmp_path: Path) -> None:
    said = found(tmp_path, PROGRAM + RESULTS)
    assert said[:3] == ERRORS
    assert said[3].startswith("program.py:9: error: Incompatible types in assignment")
    assert 'has type "list[float]"' in said[3]
    assert said[4].startswith('program.py:10: error: Argument 1 to "recommend" of "Engine" has incompatible type')


def test_every_public_name_is_there_and_no_other() -> None:
    assert set(octorec.__all__) <= set(dir(octorec))
    for name in octorec.__all__:
        assert getattr(octorec, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        octorec.lod  # type: ignore[attr-defined]  # noqa: B018
