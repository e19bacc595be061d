"""Rows are written and read as their kinds, and what is no such row is refused by line and key."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from made_rows import HERE, made

from benchmarks import records
from benchmarks.records import Row, append, as_json, commit_of, key, read, typed
from benchmarks.rows import EngineFailure, EngineRow, HeadlineBatch, SoakRow
from octorec.errors import InputError


@dataclass(frozen=True)
class Part:
    name: str
    ms: float


@dataclass(frozen=True)
class Sample(Row):
    name: str
    parts: tuple[Part, ...]
    rate: float = key("errs: rate")
    more: int | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Failure(Row):
    name: str
    error: str


ROW = Sample("a", (Part("b", 1.5),), 0.25, environment=HERE)
RAW = {"name": "a", "parts": [{"name": "b", "ms": 1.5}], "errs: rate": 0.25, "more": None, **vars(HERE)}
WRITTEN = {"format": 1, **RAW}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "new" / "rows.jsonl"


def test_a_row_is_one_line_with_its_fields_and_where_it_was_measured(file: Path) -> None:
    append(file, ROW)
    append(file, Failure("c", "no", environment=HERE))
    assert json.loads(file.read_text().splitlines()[0]) == WRITTEN
    assert read(file, Sample, Failure) == [ROW, Failure("c", "no", environment=HERE)]
    assert read(file.with_name("none.jsonl"), Sample) == []


def test_a_row_is_of_this_process_where_nothing_else_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "--out", "a b"])
    here = Failure("c", "no").environment
    assert here.torch == records.torch.__version__
    assert here.command.startswith("python -m ")
    assert here.command.endswith(" --out 'a b'")
    assert typed("x", {"name": "c", "error": "no"}, Failure).environment == here
    assert typed("x", as_json(ROW), Sample) == ROW


def test_an_older_row_has_the_defaults_of_what_it_lacks(file: Path) -> None:
    write(file, {name: value for name, value in RAW.items() if name != "more"})
    assert read(file, Sample, Failure) == [ROW]


def write(file: Path, *lines: object) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in RAW.items() if key != name}


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({**RAW, "speed": 3}, "rows.jsonl, line 2: speed: got 3; is no key of Sample"),
        (without("errs: rate"), "rows.jsonl, line 2: errs: rate: got None; is a key that Sample must have"),
        (without("commit"), "rows.jsonl, line 2: commit: got None; is a key that Sample must have"),
        ({**without("errs: rate"), "rate": 0.25}, "rows.jsonl, line 2: rate: got 0.25; is no key of Sample"),
        ({**RAW, "more": "3"}, "rows.jsonl, line 2: Sample.more: got '3'; Input should be a valid integer"),
        ({**RAW, "torch": 2}, "rows.jsonl, line 2: Sample.environment.torch: got 2; Input should be a valid string"),
        ({**RAW, "parts": [{"name": "b"}]}, "rows.jsonl, line 2: Sample.parts.0.ms: got {'name': 'b'}; Field required"),
        ({**RAW, "parts": [{"name": "b", "ms": 1, "s": 2}]}, "rows.jsonl, line 2: Sample.parts.0.s: got 2; Unexpected"),
        ({**RAW, "format": 2}, "rows.jsonl, line 2: format: got 2; was written by a newer OctoRec: upgrade"),
        ([], "rows.jsonl, line 2: got '[]'; must hold an object"),
        ("{", "rows.jsonl, line 2: got '{'; is no JSON"),
    ],
)
def test_what_is_no_row_is_refused_by_line_and_key(file: Path, raw: object, said: str) -> None:
    write(file, RAW, raw)
    with pytest.raises(InputError) as refused:
        read(file, Sample, Failure)
    assert str(refused.value).startswith(said)


def test_rows_of_a_failure_and_of_a_run_are_told_from_others(file: Path) -> None:
    written: list[Row] = [
        made(EngineRow, system="octorec"),
        made(EngineFailure, error="no"),
        made(HeadlineBatch, run="1"),
        made(SoakRow, e2el_ms=None),
    ]
    for row in written:
        append(file, row)
    assert read(file, EngineRow, EngineFailure, HeadlineBatch, SoakRow) == written


@pytest.fixture
def repository(tmp_path: Path) -> Callable[..., str]:
    """A repository with a committed file in `benchmarks` and one in `docs`; a call runs git there."""

    def git(*arguments: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        done = subprocess.run(["git", *who, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    for name in ("benchmarks", "docs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("one")
    git("init")
    git("add", ".")
    git("commit", "--message", "first")
    return git


def test_a_commit_is_marked_where_the_code_is_another(repository: Callable[..., str], tmp_path: Path) -> None:
    head = repository("rev-parse", "--short", "HEAD")
    assert commit_of(tmp_path) == head
    (tmp_path / "docs" / "file").write_text("two")
    assert commit_of(tmp_path) == head  # no number depends on it
    (tmp_path / "benchmarks" / "new.py").write_text("one")
    assert commit_of(tmp_path) == f"{head}+"
    (tmp_path / "benchmarks" / "new.py").unlink()
    (tmp_path / "benchmarks" / "file").write_text("two")
    assert commit_of(tmp_path) == f"{head}+"
    repository("commit", "--all", "--message", "second")
    assert commit_of(tmp_path) == repository("rev-parse", "--short", "HEAD")


def test_outside_of_a_repository_the_commit_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit_of(tmp_path) == "unknown"
