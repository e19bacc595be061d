"""Histories to try the server with lie in a file beside the checkpoint's folder, as `octorec demo` writes one."""

import logging
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from octorec.errors import InputError
from octorec.files import parse_json
from octorec.reading import read_text
from octorec.serve.config import ServeConfig
from octorec.serve.schemas import UserValue

logger = logging.getLogger(__name__)
FILE = "examples.json"
MOST = 50  # histories
MOST_BYTES = 2**20


class Example(BaseModel):
    """An Example is a history that somebody may try. user: values of the model's user fields."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=100)]
    history: Annotated[list[str], Field(max_length=1000)]
    user: Annotated[dict[str, UserValue], Field(default_factory=dict)]
    domain: str = ""


class Examples(BaseModel):
    """Examples are the content of the file."""

    model_config = ConfigDict(strict=True, extra="forbid")

    histories: Annotated[list[Example], Field(max_length=MOST)]


def with_examples(checkpoint: str | Path, config: ServeConfig) -> ServeConfig:
    """Return settings that name a file of examples that can be read, or none.

    Raises InputError for one that was asked for and cannot be used; one beside the checkpoint is only warned of.
    """
    path = config.http.examples
    if path is not None:
        read_examples(path)
        return config
    beside = Path(checkpoint).resolve().parent / FILE
    if not config.http.page or not beside.is_file():
        return config
    try:
        read_examples(str(beside))
    except InputError as error:
        logger.warning("examples are left out", extra={"reason": str(error)})
        return config
    return replace(config, http=replace(config.http, examples=str(beside)))


@cache
def read_examples(path: str) -> tuple[Example, ...]:
    """Read a file of examples; an InputError about `examples` where it is none."""
    text = read_text(path, "examples", MOST_BYTES)
    raw: Any = parse_json(text.encode(), f"examples {path}", text[:100])
    try:
        return tuple(Examples.model_validate(raw).histories)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"] if part not in ("str", "int")) or "the file"
        raise InputError(f"examples {path}: {field}", text[:100], first["msg"]) from None
