"""Histories of people, which the page offers to those who have none at hand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from octorec.errors import InputError
from octorec.files import read_json

FILE = "examples.json"
MOST = 100


class Example(BaseModel):
    """An Example is a history, oldest item first, with the user fields of whose it is."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: str = Field(min_length=1, max_length=100)
    history: list[str] = Field(max_length=1000)
    user: dict[str, str | int | float] = {}


def read_examples(path: str | Path) -> list[Example]:
    """Read a JSON object whose `histories` are a list; an InputError names the file, and what is wrong in it."""
    raw: Any = read_json(Path(path), "examples").get("histories")
    if not isinstance(raw, list) or len(raw) > MOST:
        raise InputError(f"examples {path}: histories", raw, f"must be a list of at most {MOST} objects")
    return [_read(number, one, path) for number, one in enumerate(raw)]


def _read(number: int, raw: Any, path: str | Path) -> Example:
    try:
        return Example.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, (number, *first["loc"])))
        given = "absent" if isinstance(first["input"], Mapping) else first["input"]
        raise InputError(f"examples {path}: {where}", given, first["msg"]) from None


def examples_beside(checkpoint: str | Path) -> str | None:
    """Return the path of the examples beside a checkpoint's folder; None where there are none."""
    path = Path(checkpoint).resolve().parent / FILE
    return str(path) if path.is_file() else None
