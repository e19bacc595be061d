"""Rows of results: what was measured, on what, with which versions, by which command."""

import json
import platform
import shlex
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import torch

from octorec.files import parse_json
from octorec.formats import ROWS

RESULTS = Path(__file__).parents[1] / "results"


def environment() -> dict[str, Any]:
    """What every row says of where it was measured."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "gpu": gpu,
        "cpu": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "triton": _triton_version(),
        "commit": _commit(),
        "command": shlex.join(["python", "-m", _module(), *sys.argv[1:]]),
        "date": date.today().isoformat(),
    }


def append(path: Path, row: dict[str, Any]) -> None:
    """Append one row at once, so that a run can be cut and keeps what it has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps({**ROWS.stamp(), **row, **environment()}) + "\n")


def error_text(error: Exception) -> str:
    """What a row says that failed."""
    return f"{type(error).__name__}: {error}"[:500]


def read(path: Path) -> list[dict[str, Any]]:
    """Every row of a file, none where there is no file. Raises InputError for what is no row or of a newer format."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [_row(path, number, line) for number, line in enumerate(lines, 1)]


def _row(path: Path, number: int, line: bytes) -> dict[str, Any]:
    row = parse_json(line, "results", f"{path}: line {number}", infinite=True)
    ROWS.check(f"{path}: line {number}", row)
    return row


def _module() -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec else Path(sys.argv[0]).stem


def _triton_version() -> str | None:
    try:
        import triton
    except ImportError:
        return None
    return triton.__version__


def _commit() -> str:
    out = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=RESULTS.parent)
    return out.stdout.strip() or "unknown"
