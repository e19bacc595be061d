"""Rows of results: append them to a file and read them back, each as the dataclass of its kind (`benchmarks.rows`).

A row is one line of JSON in a file of `results/`: the version of the format, the fields of its kind, and those of
`Environment`.
"""

import json
import platform
import shlex
import subprocess
import sys
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError

from octorec.errors import InputError
from octorec.files import parse_json
from octorec.formats import ROWS

RESULTS = Path(__file__).parents[1] / "results"
CODE = ("src", "benchmarks", "studies")  # what a row's numbers depend on


@dataclass(frozen=True)
class Environment:
    """Where and how a row was measured."""

    gpu: str | None  # the card's whole name; None where none is visible
    cpu: str  # what the operating system calls the processor
    torch: str  # version
    triton: str | None  # version; None where it is not installed
    commit: str  # short hash; a `+` behind it says that the code differed from it; `unknown` outside of a repository
    command: str  # what to type, from the repository's root
    date: str  # ISO, the day on which the row was made

    @property
    def card(self) -> str:
        """The GPU without its maker's name."""
        return (self.gpu or "no GPU").removeprefix("NVIDIA ")


def environment() -> Environment:
    """The environment of this process; its commit is read once, by the first row."""
    return Environment(
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        cpu=platform.processor() or platform.machine(),
        torch=torch.__version__,
        triton=_triton_version(),
        commit=_own_commit(),
        command=shlex.join(["python", "-m", _module(), *sys.argv[1:]]),
        date=date.today().isoformat(),
    )


@dataclass(frozen=True)
class Row:
    """What every kind of row has. A row that is made without an environment was measured in this process."""

    __pydantic_config__: ClassVar[ConfigDict] = {"extra": "forbid"}
    environment: Environment = field(default_factory=lambda: environment(), kw_only=True)


R = TypeVar("R", bound=Row)


def key(name: str) -> Any:
    """A field of a row whose key in JSON is no Python name."""
    return field(metadata={"key": name})


def append(path: Path, row: Row) -> None:
    """Append one row at once, so that a run can be cut and keeps what it has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(as_json(row)) + "\n")


def as_json(row: Row) -> dict[str, Any]:
    """What a row's line holds: the format's version, its own keys, then those of its environment."""
    raw = asdict(row)
    here = raw.pop("environment")
    return ROWS.stamp() | {key: raw[name] for key, name in _names(type(row)).items()} | here


def read(path: Path, *kinds: type[R]) -> list[R]:
    """Read the rows of a file, oldest first; there are none where there is no file. A row's keys tell its kind.

    Raises InputError with the line and the key where a line has an unknown key, lacks one, has a value of another type,
    or is of a newer format.
    """
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [_row(f"{path.name}, line {number}", line, kinds) for number, line in enumerate(lines, 1)]


def typed(where: str, raw: dict[str, Any], kind: type[R]) -> R:
    """The row that a JSON object holds; without the keys of an environment it was measured in this process.

    where: what an InputError calls the object.
    """
    names = _names(kind)
    of_row = {names.get(key, key): value for key, value in raw.items() if key not in (*ENVIRONMENT, ROWS.key)}
    of_environment = {key: value for key, value in raw.items() if key in ENVIRONMENT}
    if of_environment:
        of_row["environment"] = of_environment
    try:
        row: R = adapter(kind).validate_json(json.dumps(of_row), strict=True)
        return row
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{where}: {kind.__name__}.{place}", first["input"], first["msg"]) from error


def error_text(error: Exception) -> str:
    """What a row says that failed."""
    return f"{type(error).__name__}: {error}"[:500]


def commit_of(folder: Path) -> str:
    """The short hash of the repository that `folder` is the root of, and `+` where code is changed or not committed."""
    head = _git(folder, "rev-parse", "--short", "HEAD")
    changed = _git(folder, "status", "--porcelain", "--", *CODE)
    return f"{head}{'+' if changed else ''}" if head else "unknown"


ENVIRONMENT = [part.name for part in fields(Environment)]
adapter: Any = cache(TypeAdapter)  # built once a kind, since that takes longer than many rows


@cache
def _own_commit() -> str:
    return commit_of(RESULTS.parent)


def _row(where: str, line: bytes, kinds: tuple[type[R], ...]) -> R:
    raw = parse_json(line, where, line.decode(errors="replace"), infinite=True)
    ROWS.check(where, raw)
    kind = min(kinds, key=lambda kind: sum(map(len, _misfits(kind, raw))))
    unknown, missing = _misfits(kind, raw)
    for key in unknown:
        raise InputError(f"{where}: {key}", raw[key], f"is no key of {kind.__name__}")
    for key in missing:
        raise InputError(f"{where}: {key}", None, f"is a key that {kind.__name__} must have")
    return typed(where, raw, kind)


def _misfits(kind: type[Row], raw: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Keys that `kind` does not know, and keys that it needs and does not find."""
    known = {**_names(kind), **dict.fromkeys((*ENVIRONMENT, ROWS.key))}
    needed = {_key(part) for part in fields(kind) if part.default is MISSING and part.default_factory is MISSING}
    needed |= {*ENVIRONMENT}
    return [key for key in raw if key not in known], [key for key in known if key in needed and key not in raw]


def _names(kind: type[Row]) -> dict[str, str]:
    """The name of each field by its key in JSON, but for the environment, whose keys lie beside the others."""
    return {_key(part): part.name for part in fields(kind) if part.name != "environment"}


def _key(part: "Field[Any]") -> str:
    return part.metadata.get("key", part.name)


def _module() -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec else Path(sys.argv[0]).stem


def _triton_version() -> str | None:
    try:
        import triton
    except ImportError:
        return None
    return triton.__version__


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, cwd=folder).stdout.strip()
