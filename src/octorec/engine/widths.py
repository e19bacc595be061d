"""Beam widths as people write them: one number for all levels, a number a level (a schedule), or `auto`.

Imports no torch, so that settings can be checked before anything loads.
"""

from collections.abc import Sequence
from numbers import Integral
from operator import ge
from typing import Any, Final, Literal

from octorec.engine.limits import MOST_ROWS
from octorec.errors import InputError

AUTO: Final = "auto"
Widths = tuple[int, ...]  # beams that a request keeps, at each level
Width = int | Widths  # the same, where one number stands for all levels
BeamWidth = Width | Literal["auto"]
ALLOWED = f"must be an integer from 1 to {MOST_ROWS}, or one a level such as 128-256-512"


def read_width(name: str, value: Any) -> Width:
    """Return a beam width, or a schedule of widths, of a number, a list of numbers or text such as `128-256-512`."""
    given = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(given, str) and len(given) <= 200:
        parts = [int(part) if part.isascii() and part.isdigit() else 0 for part in given.split("-")]
        given = parts if len(parts) > 1 else parts[0]
    widths = given if isinstance(given, list | tuple) else [given]
    if not widths or not all(_is_width(width) for width in widths):
        raise InputError(name, value, ALLOWED)
    return tuple(map(int, widths)) if isinstance(given, list | tuple) else int(given)


def read_beam_width(name: str, value: Any) -> BeamWidth:
    """Return what `read_width` does, or `auto`."""
    if isinstance(value, str) and value == AUTO:
        return AUTO
    try:
        return read_width(name, value)
    except InputError as error:
        raise InputError(name, value, f"{error.allowed}, or {AUTO}") from None


def _is_width(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and 1 <= int(value) <= MOST_ROWS


def at_levels(name: str, width: Width, levels: int) -> Widths:
    """Return the width at each of a model's levels; InputError for a schedule of another length."""
    if isinstance(width, int):
        return (width,) * levels
    if len(width) != levels:
        raise InputError(name, width, f"must have a width for each of the model's {levels} levels")
    return width


def as_width(widths: Widths) -> Width:
    """Return one number where the widths of all levels are the same."""
    return widths[0] if len(set(widths)) == 1 else widths


def shown(width: BeamWidth) -> str:
    """Return a beam width as a person writes it: `512`, `128-256-512` or `auto`."""
    return "-".join(map(str, width)) if isinstance(width, tuple) else str(width)


def holds(bucket: Widths, widths: Widths) -> bool:
    """Say whether a search with the beams of `bucket` has room for `widths`."""
    return len(bucket) == len(widths) and all(map(ge, bucket, widths))


def by_cost(widths: Widths) -> tuple[int, Widths]:
    """Give a key that puts beams with fewer rows first."""
    return sum(widths), widths


def check_k(k: int, width: Width) -> None:
    """Refuse more items than a beam can end with."""
    last = "" if isinstance(width, int) else "the last of "
    if k > (width if isinstance(width, int) else width[-1]):
        raise InputError("k", k, f"at most {last}beam_width = {shown(width)}")


def read_for(k: int, name: str, value: Any) -> BeamWidth:
    """Return what `read_beam_width` does; InputError for more items than such a beam can end with."""
    width = read_beam_width(name, value)
    if width != AUTO:
        check_k(k, width)
    return width


def of_one(width: BeamWidth) -> dict[str, Any]:
    """Return the settings of an engine whose searches are all as wide; `auto` keeps the engine's own widths."""
    return {"default_beam_width": width, **({} if width == AUTO else {"beam_widths": (width,)})}


def read_widths(name: str, values: Any) -> tuple[Width, ...]:
    """Return an engine's beam widths, each as `read_width` does; the numbers among them must ascend."""
    given = values.split(",") if isinstance(values, str) else values
    given = given if isinstance(given, list | tuple) else [given]
    widths = tuple(read_width(name, value) for value in given)
    fixed = [width for width in widths if isinstance(width, int)]
    if not widths or fixed != sorted(fixed) or len(set(widths)) < len(widths):
        raise InputError(name, values, "must be ascending integers above 0, and schedules such as 128-256-512")
    return widths


def choices(ks: Sequence[int], values: Any) -> tuple[int, ...]:
    """Return the beam widths that `auto` is to choose from for ascending numbers of items: two numbers or more."""
    widths = read_widths("beam_widths", values)
    fixed = tuple(width for width in widths if isinstance(width, int))
    if len(fixed) < max(2, len(widths)):
        raise InputError("beam_widths", values, "must be two widths or more, to choose from, each one number")
    if ks[-1] > fixed[-1]:
        raise InputError("k", ks[-1], f"at most the widest beam, {fixed[-1]}")
    return fixed


def check_default_width(widths: tuple[Width, ...], default: BeamWidth) -> None:
    """Refuse a default beam width that none of an engine's `widths` holds."""
    if default == AUTO:
        ok = any(isinstance(width, int) for width in widths)
    else:
        ok = any(holds(_spread(width, default), _spread(default, width)) for width in widths)
    if not ok:
        last = widths[-1]
        allowed = f"1 to {last}" if isinstance(last, int) else f"one of {', '.join(map(shown, widths))}"
        raise InputError("default_beam_width", default, allowed)


def _spread(width: Width, beside: Width) -> Widths:
    """Repeat one width for as many levels as the other has."""
    return width if isinstance(width, tuple) else (width,) * (len(beside) if isinstance(beside, tuple) else 1)
