"""Check one value of an experiment's file at a time; each function names the field `where` in its InputError."""

import re
from fractions import Fraction
from typing import Any

from octorec.errors import InputError, check_known
from octorec.evaluate.online.buckets import BUCKETS

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?) ?(s|m|h|d)", re.ASCII)
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST_DURATION = 3650 * 86400
SHARE = re.compile(r"\d{1,13}(?:/\d{1,13}|\.\d{1,12})?", re.ASCII)
FINEST_SHARE = 10**12  # largest denominator of a share
QUOTES = "in quotes where YAML takes it for a number, a date or true"


def seconds(field_name: str, value: Any) -> float:
    """Return the seconds of a duration such as `30m` or `7d`."""
    found = DURATION.fullmatch(value) if isinstance(value, str) else None
    length = float(Fraction(found[1]) * SECONDS[found[2]]) if found else 0.0
    if not 0 < length <= LONGEST_DURATION:
        raise InputError(field_name, value, "must be a duration above 0, such as 90s, 30m, 12h or 7d, at most 3650d")
    return length


def share_of(where: str, value: Any, most: Fraction = Fraction(1)) -> Fraction:
    """Return a share as it is written: 0.05, or 1/3 as text; no binary rounding."""
    written = value if isinstance(value, str) and SHARE.fullmatch(value) else None
    if is_number(value) and 0 <= value <= most:  # no NaN, and no integer that is long to write
        written = repr(value)
    try:
        share = None if written is None else Fraction(written)
    except ZeroDivisionError:
        share = None
    if share is None or not 0 <= share <= most or share.denominator > FINEST_SHARE or 0 < share * BUCKETS < 1:
        allowed = f"must be a number from 0 to {most}, or a fraction such as 1/3; units are told apart by 1/{BUCKETS}"
        raise InputError(where, value, allowed)
    return share


def is_number(value: Any) -> bool:
    """Tell whether `value` is a number; True is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def free_text(where: str, value: Any, most: int, allowed: str) -> str:
    """Return `value` where it is text of 1 to `most` characters, none of them zero or a lone surrogate."""
    pattern = re.compile(rf"[^\0\ud800-\udfff]{{1,{most}}}")
    return text_of(where, value, pattern, allowed)


def text_of(where: str, value: Any, pattern: "re.Pattern[str]", allowed: str) -> str:
    """Return `value` where it is text that `pattern` describes as a whole."""
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise InputError(where, value, allowed)
    return value


def one_of(where: str, value: Any, *allowed: str) -> str:
    """Return `value` where it is one of the words `allowed`."""
    if not isinstance(value, str) or value not in allowed:
        raise InputError(where, value, f"allowed: {', '.join(allowed)}")
    return value


def named_of(where: str, raw: Any, most: int) -> dict[str, Any]:
    """Return `raw` where it is a mapping of 1 to `most` entries whose keys are names."""
    if not isinstance(raw, dict) or not 1 <= len(raw) <= most:
        raise InputError(where, raw, f"must be 1 to {most} entries by name")
    for name in raw:
        text_of(where, name, NAME, f"names are letters, digits, . _ - and at most 64 of them, {QUOTES}")
    return raw


def keys_of(where: str, raw: Any, known: tuple[str, ...], required: tuple[str, ...]) -> dict[str, Any]:
    """Return a copy of `raw` where it is a mapping that has all of `required` and nothing but `known`."""
    check_known(where, raw, known)
    for key in required:
        if key not in raw:
            raise InputError(f"{where}.{key}", None, "is required")
    return dict(raw)
