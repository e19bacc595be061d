"""Dataclasses become values of JSON, and come back strictly.

JSON has no infinity and no NaN: the texts `"inf"`, `"-inf"` and `"nan"` stand for them.
"""

import dataclasses
import math
import sys
from collections.abc import Mapping
from fractions import Fraction
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from octorec.errors import InputError
from octorec.evaluate.online.fields import keys_of, one_of, share_of

INFINITE = ("inf", "-inf", "nan")
Made = TypeVar("Made")


def plain(value: Any) -> Any:
    """Return dataclasses and mappings as dicts, tuples as lists, fractions as text, and floats that are
    not finite as text.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if hasattr(value, "item"):  # a scalar of NumPy
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Fraction):
        return str(value)
    return value


def made(kind: type[Made], value: Any, where: str) -> Made:
    """Return the dataclass, or other type, whose `plain` is `value`.

    Raises InputError about `where` for all other values.
    """
    found: Made = _made(kind, value, where)
    return found


def _made(kind: Any, value: Any, where: str) -> Any:
    parts, outer = get_args(kind), get_origin(kind)
    if outer in (Union, UnionType):
        return None if value is None else _made(next(one for one in parts if one is not NoneType), value, where)
    if outer is Literal:
        return one_of(where, value, *parts)
    if outer is tuple:
        return _tuple(parts, value, where)
    if isinstance(outer, type) and issubclass(outer, Mapping):
        return {name: _made(parts[1], part, f"{where}.{name}") for name, part in _as(dict, value, where).items()}
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        given = keys_of(where, value, tuple(hints), tuple(hints))
        make: Any = kind
        return make(**{name: _made(hint, given[name], f"{where}.{name}") for name, hint in hints.items()})
    if kind is float:
        return _float(value, where)
    if kind is Fraction:
        return share_of(where, value)
    return _as(kind, value, where)


def _tuple(parts: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    found = _as(list, value, where)
    kinds = [parts[0]] * len(found) if parts[-1] is Ellipsis else list(parts)
    if len(kinds) != len(found):
        raise InputError(where, value, f"must be a list of {len(kinds)}")
    pairs = zip(kinds, found, strict=True)
    return tuple(_made(kind, part, f"{where}[{place}]") for place, (kind, part) in enumerate(pairs))


def _float(value: Any, where: str) -> float:
    if isinstance(value, str) and value in INFINITE:
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise InputError(where, value, f"must be a number, or one of {', '.join(INFINITE)}")
    return float(value)


def _as(kind: type, value: Any, where: str) -> Any:
    if type(value) is not kind:
        raise InputError(where, value, f"must be of type {kind.__name__}")
    return value
