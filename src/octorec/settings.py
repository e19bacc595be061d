"""Settings are frozen dataclasses whose values pydantic checks against their annotations: exact types, within bounds.

A bound is part of an annotation: `Annotated[int, Interval(ge=1, le=64)]`. What is not allowed is refused by the name of
its setting. pydantic itself is imported when the first value is checked, so that the command line shows defaults at
once.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from annotated_types import Interval

from octorec.errors import InputError, check_known

if TYPE_CHECKING:
    from pydantic import BaseModel

DEVICE = "cpu"  # the device where none is named
SEED = 0
LONGEST_S = 1_000_000  # the longest time, in seconds, that a setting may say
LARGEST = 2**63 - 1  # NumPy and torch take no larger integer
LARGE = 2**31 - 1  # bounds a number that has no bound of its own
INTEGER = re.compile(r"\s*[+-]?[0-9]{1,19}\s*", re.ASCII)
LISTED = {int: "integers", float: "numbers", str: "texts"}
BOUNDS = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")  # pydantic's names of errors

AtLeastOne = Annotated[int, Interval(gt=0, le=LARGE)]
Share = Annotated[float, Interval(ge=0, lt=1)]
Rate = Annotated[float, Interval(ge=0, le=LARGE)]
Seconds = Annotated[float, Interval(gt=0, le=LONGEST_S)]
Wait = Annotated[float, Interval(ge=0, le=LONGEST_S)]  # seconds, or none

Kind = TypeVar("Kind")


def setting(default: Any, text: str) -> Any:
    """Return a dataclass's field with its default and the help text of its flag; a field without a text has no flag."""
    return dataclasses.field(default=default, metadata={"help": text})


def check_types(config: Any) -> None:
    """Give each setting of a dataclass the type of its annotation, without rounding; an InputError names the first that
    has none, or that is out of bounds.

    A list, or text such as "1,8", may stand for a tuple, an integer for a float, NumPy's numbers and arrays for
    Python's; True is no number. A float needs two bounds, which NaN is never within.
    """
    kind: type = type(config)
    hints = _hints(kind)
    given = {name: _plain(getattr(config, name), hint) for name, hint in hints.items()}

    from pydantic import ValidationError

    try:
        checked = _model(kind)(**given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        raise InputError(name, getattr(config, name), _allowed(first, hints[name])) from None
    for name in hints:
        object.__setattr__(config, name, getattr(checked, name))


def check_ascending(config: Any, *names: str) -> None:
    """Refuse a tuple that is empty, not in ascending order, or holds a number twice or one below 1; None passes."""
    for name in names:
        sizes = getattr(config, name)
        if sizes is not None and (not sizes or list(sizes) != sorted(set(sizes)) or sizes[0] < 1):
            raise InputError(name, sizes, "must be ascending integers above 0")


def require(condition: bool, name: str, config: Any, allowed: str) -> None:
    """Raise InputError for the setting `name` of a config unless `condition`."""
    if not condition:
        raise InputError(name, getattr(config, name), allowed)


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of `values` that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def settings_of(kind: type) -> dict[str, "dataclasses.Field[Any]"]:
    """Return the settings of a dataclass by name; of one that is composed, those of its parts, in their order."""
    parts = [*parts_of(kind).values()] or [kind]
    return {field.name: field for part in parts for field in dataclasses.fields(part)}


def parts_of(kind: type) -> dict[str, Any]:
    """Return the parts of a dataclass that is composed of others, by field; none of one that holds settings itself."""
    return {name: part for name, part in get_type_hints(kind).items() if dataclasses.is_dataclass(part)}


def composed(kind: type[Kind], values: Mapping[str, Any]) -> Kind:
    """Return the dataclass `kind`, composed of parts, with `values` by the names of the parts' settings.

    Raises InputError for a name that no part has, and as the parts do.
    """
    check_known("settings", values, [*settings_of(kind)])
    made = {}
    for name, part in parts_of(kind).items():
        made[name] = part(**{one.name: values[one.name] for one in dataclasses.fields(part) if one.name in values})
    return kind(**made)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


@cache
def _model(kind: type) -> "type[BaseModel]":
    """Return the settings of a dataclass as pydantic checks them, each strictly."""
    from pydantic import ConfigDict, create_model

    config = ConfigDict(strict=True, arbitrary_types_allowed=True, protected_namespaces=())
    fields: Any = {name: (hint, ...) for name, hint in _hints(kind).items()}
    return create_model(kind.__name__, __config__=config, **fields)


def _plain(value: Any, hint: Any) -> Any:
    """Return a value of NumPy as Python's; a list, and text where a tuple is due, as a tuple."""
    value = _python(value)
    if isinstance(value, str) and any(get_origin(part) is tuple for part in _within(hint)):
        return tuple(map(_of_text, value.split(",")))
    return tuple(map(_python, value)) if isinstance(value, list) else value


def _python(value: Any) -> Any:
    """Return a number or an array of NumPy as Python's."""
    return value.tolist() if hasattr(value, "tolist") else value


def _of_text(text: str) -> Any:
    """Return the number that a part of "1,8" says; the text itself where it says none."""
    try:
        return int(text) if INTEGER.fullmatch(text) else text if "_" in text else float(text)
    except ValueError:
        return text


def _allowed(error: Mapping[str, Any], hint: Any) -> str:
    """Return what may stand for a setting with the annotation `hint`, in words, after pydantic's `error`."""
    inside = [*_within(hint)]
    if error["type"] == "literal_error":
        words = next(get_args(part) for part in inside if get_origin(part) is Literal)
        return f"allowed: {', '.join(map(str, words))}"
    plain = next((part for part in inside if part in (bool, int, float, str)), None)
    if plain is None:  # no type of a setting that a person writes
        return str(error["msg"])
    if isinstance(error["input"], float) and not math.isfinite(error["input"]) and plain is float:
        return "must be finite"
    if error["type"] in BOUNDS:
        return f"must be {_bounds(next(part for part in inside if isinstance(part, Interval)), plain)}"
    if any(get_origin(part) is tuple for part in inside):
        return f"must be {LISTED[plain]}, with commas"
    return f"must be of type {plain.__name__}"


def _within(hint: Any) -> Iterator[Any]:
    """Yield an annotation and all that it is made of, its bounds too."""
    yield hint
    for part in get_args(hint):
        yield from _within(part)


def _bounds(interval: Interval, kind: type) -> str:
    """Return a text such as `an integer from 1 to 8` or `above 0, at most 1`."""
    whole = "an integer " if kind is int else ""
    if interval.lt is not None:
        return f"{interval.ge} or more and below {interval.lt}"
    low = f"from {interval.ge} to" if interval.gt is None else f"above {interval.gt}, at most"
    return f"{whole}{low} {interval.le}"
