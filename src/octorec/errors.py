"""The errors a user can cause, and how what a user wrote is shown. What only OctoRec can cause is an `assert`."""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from functools import partial
from itertools import chain
from typing import Any

SHOWN = 200  # characters of a value in an error
BITS = 600  # bits of the largest integer that is shown by its digits
DEEPEST = 20  # depth of nested lists up to which their contents are shown
LONGEST_FIELD, LONGEST_ALLOWED = 400, 1500  # characters
# What moves a terminal's cursor, changes its state, breaks a line, turns text around or has no encoding: C0 and C1
# controls, marks and overrides of direction, line separators, invisible formatting, surrogates, tags.
CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)


class InputError(ValueError):
    """An InputError says that a value handed to OctoRec is not acceptable.

    field: what was set, as the user spells it (`beam_width`, `items.parquet: column title`).
    value: what was found there.
    allowed: what may stand there, and where it helps what to do.
    The message is one line without control characters, whatever the three hold, and bounded in length.
    """

    def __init__(self, field: str, value: Any, allowed: str):
        field, allowed = one_line(field, LONGEST_FIELD), one_line(allowed, LONGEST_ALLOWED)
        super().__init__(f"{field}: got {shown(value)}; {allowed}")
        self.field, self.value, self.allowed = field, value, allowed


class MismatchError(InputError):
    """A MismatchError says that two things that belong together do not: a checkpoint and a catalog, a
    config and its tensors.
    """


class NonFiniteError(InputError):
    """A NonFiniteError says that a checkpoint gives a request scores that are NaN or infinity, so that
    it has no answer.

    checkpoint: its folder. places: positions of such requests among those that were asked together, ascending.
    whose: the first of them, in words. answers: to all that were asked, None at `places`; empty where none were made.
    """

    def __init__(self, checkpoint: str, places: Sequence[int], whose: str, answers: Sequence[Any] = ()):
        more = f" and {len(places) - 1} more" if len(places) > 1 else ""
        allowed = f"must be finite, and are not for {whose}{more}: the checkpoint is broken"
        super().__init__(f"checkpoint {checkpoint}: scores", "NaN or infinity", allowed)
        self.checkpoint, self.places, self.whose, self.answers = checkpoint, tuple(places), whose, answers


def check_keys(where: str, raw: Any, kind: type, required: Sequence[str]) -> None:
    """Refuse what is no mapping, has keys that the dataclass `kind` lacks, or lacks a key of `required`."""
    check_known(where, raw, [field.name for field in dataclasses.fields(kind)])
    for key in required:
        if key not in raw:
            raise InputError(f"{where}: {key}", None, "is required")


def check_known(where: str, raw: Any, known: Sequence[str]) -> None:
    """Refuse what is no mapping, or has keys other than `known`."""
    if not isinstance(raw, dict):
        raise InputError(where, raw, f"must have the keys {', '.join(known)}")
    for key in raw:
        if key not in known:
            raise InputError(where, key, f"unknown key; known: {', '.join(known)}")


def clean(text: str) -> str:
    """Return `text` as one line that a terminal only shows: each control character as its escape, such
    as `\\x1b` or `\\n`.
    """
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str, most: int) -> str:
    """Return `clean(text)`, cut to `most` characters."""
    return _cut(clean(text[: most + 1]), most)


def shown(value: Any, most: int = SHOWN) -> str:
    """Return `repr(value)`, cut to `most` characters; no more of a value is visited than is shown,
    however large it is.
    """
    text = ""
    try:
        for piece in _pieces(value, 0):
            text += piece
            if len(text) > most:
                return _cut(text, most)
    except Exception:  # a foreign class whose repr or iterator fails
        return f"<{type(value).__name__}>"
    return text


def level_name(level: int) -> str:
    """Return the letter by which messages name a level, as tokens have it: a, b, ..."""
    return chr(97 + level) if level < 26 else str(level + 1)


def _pieces(value: Any, depth: int) -> Iterator[str]:
    """Yield the text of `repr(value)`, bit by bit."""
    inside = partial(_pieces, depth=depth + 1)
    if isinstance(value, (str, bytes, bytearray)):
        yield repr(value[: SHOWN + 1])
    elif isinstance(value, int) and value.bit_length() > BITS:
        yield f"an integer of {value.bit_length()} bits"
    elif depth > DEEPEST:
        yield "..."
    elif isinstance(value, Mapping):
        yield from _joined("{", (chain(inside(key), [": "], inside(part)) for key, part in value.items()), "}")
    elif isinstance(value, Set):
        yield from _joined(*(("{", map(inside, value), "}") if value else ("set(", (), ")")))
    elif isinstance(value, tuple):
        yield from _joined("(", map(inside, value), ",)" if len(value) == 1 else ")")
    elif isinstance(value, Sequence) and not isinstance(value, range):
        yield from _joined("[", map(inside, value), "]")
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        yield from _joined(
            f"{type(value).__name__}(", (chain([f"{name}="], inside(getattr(value, name))) for name in names), ")"
        )
    elif isinstance(shape := getattr(value, "shape", None), tuple) and shape:  # an array or a tensor
        yield f"{type(value).__name__} of shape {tuple(shape)}"
    else:
        yield clean(repr(value))


def _joined(start: str, parts: Iterable[Iterable[str]], end: str) -> Iterator[str]:
    yield start
    for place, part in enumerate(parts):
        if place:
            yield ", "
        yield from part
    yield end


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
