"""Settings are dataclasses whose values are of the types that their annotations say, and within bounds.

What is not is refused by name. Imports no torch and no NumPy, so that the command line can read defaults.
"""

import dataclasses
import math
import re
from collections.abc import Sequence
from numbers import Integral, Real
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from octorec.errors import InputError

NUMBERS = {int: "integers", float: "numbers"}
PLAIN = (bool, int, float, str)
LONGEST_S = 1_000_000  # a time that somebody waits
LARGEST = 2**63 - 1  # NumPy and torch take no larger integer
INTEGER = re.compile(r"\s*[+-]?[0-9]{1,19}\s*", re.ASCII)


def setting(default: Any, text: str) -> Any:
    """A dataclass's field with its default and the text of its flag's help."""
    return dataclasses.field(default=default, metadata={"help": text})


def check_types(config: Any, infinite: Sequence[str] = ()) -> None:
    """Give each setting of a dataclass the type of its annotation, without rounding; an InputError names what has none.

    Plain types, Literals, tuples of numbers and None are looked at. A list, or text such as "1,8", may stand for a
    tuple, an integer for a float; True is no number. infinite: settings whose numbers may be inf; none may be NaN.
    """
    for name, kind in get_type_hints(type(config)).items():
        object.__setattr__(config, name, typed(name, kind, getattr(config, name), name in infinite))


def typed(name: str, kind: Any, value: Any, infinite: bool = False) -> Any:
    """`value` as a `kind`; see `check_types`."""
    if get_origin(kind) is Literal:
        if not any(type(value) is type(one) and value == one for one in get_args(kind)):
            raise InputError(name, value, f"allowed: {', '.join(map(str, get_args(kind)))}")
        return value
    kinds = get_args(kind) if NoneType in get_args(kind) else (kind,)
    if value is None and NoneType in kinds:
        return None
    if get_origin(kinds[0]) is tuple and get_args(kinds[0])[0] in NUMBERS:
        return _numbers(name, get_args(kinds[0])[0], value, infinite)
    if kinds[0] not in PLAIN:
        return value
    made = _plain(kinds[0], value)
    if made is None:
        raise InputError(name, value, f"must be of type {kinds[0].__name__}")
    return _within(name, made, value, infinite)


def check_range(config: Any, low: float, high: float, *names: str, above: bool = False) -> None:
    """Refuse a setting, or a part of a tuple, below `low` (with `above`, also at it) or above `high`; None passes.

    Infinity passes where `check_types` let it.
    """
    for name in names:
        value = getattr(config, name)
        for number in value if isinstance(value, tuple) else (value,):
            if number is None or number == math.inf:
                continue
            if number < low or number > high or (above and number == low):
                whole = "an integer " if isinstance(number, int) else ""
                start = f"above {low:g}, at most" if above else f"from {low} to"
                raise InputError(name, value, f"must be {whole}{start} {high}")


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


def _numbers(name: str, kind: type, value: Any, infinite: bool) -> tuple[Any, ...]:
    if hasattr(value, "tolist"):  # NumPy's arrays
        value = value.tolist()
    parts = [_of_text(kind, part) for part in value.split(",")] if isinstance(value, str) else value
    made = [_plain(kind, part) for part in parts] if isinstance(parts, (list, tuple)) else [None]
    if any(number is None for number in made):
        raise InputError(name, value, f"must be {NUMBERS[kind]}, with commas")
    return tuple(_within(name, number, value, infinite) for number in made)


def _of_text(kind: type, text: str) -> Any:
    """The number that a part of "1,8" says; the text itself where it says none."""
    if kind is int:
        return int(text) if INTEGER.fullmatch(text) else text
    try:
        return text if "_" in text else float(text)
    except ValueError:
        return text


def _plain(kind: type, value: Any) -> Any:
    """`value` as a plain type, None where that would change it."""
    if kind is int:
        return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else None
    if kind is float and isinstance(value, Real) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return None
    return value if isinstance(value, kind) and kind is not float else None


def _within(name: str, number: Any, value: Any, infinite: bool) -> Any:
    if isinstance(number, float) and (math.isnan(number) or (math.isinf(number) and not infinite)):
        raise InputError(name, value, "must be finite" if not infinite else "must be a number, or inf")
    if isinstance(number, int) and abs(number) > LARGEST:
        raise InputError(name, value, "must be an integer of at most 64 bits")
    return number
