"""Rows of results for tests, which say only the fields that they are about."""

import dataclasses
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from benchmarks.records import Environment, Row

R = TypeVar("R", bound=Row)
HERE = Environment("NVIDIA H100", "x86_64", "2", "3", "c", "python -m x", "2026-11-24")


def made(kind: type[R], /, environment: Environment = HERE, **given: Any) -> R:
    """A row of `kind` with the fields given; each other one without a default is empty or zero."""
    hints = get_type_hints(kind)
    needed = [field.name for field in dataclasses.fields(kind) if field.default is field.default_factory]
    rest = {name: empty(hints[name]) for name in needed if name not in given}
    return kind(**given, **rest, environment=environment)


def empty(hint: Any) -> Any:
    """The least value of a type: 0, an empty text, None where that may be, the first of several words or types."""
    if type(None) in get_args(hint):
        return None
    if isinstance(hint, UnionType):
        return empty(get_args(hint)[0])
    if isinstance(word := next(iter(get_args(hint)), None), str):
        return word
    origin = get_origin(hint) or hint
    if dataclasses.is_dataclass(origin):
        return origin(**{name: empty(part) for name, part in get_type_hints(origin).items()})
    return origin()
