"""Read what people type as the values of a request: item ids with commas, and user fields as name=value."""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from octorec.errors import InputError

COMMAS = "ids are written with commas, such as 50,181,172"
LONGEST_ID = 12  # digits of a token id
BETWEEN = " \t\n;|'\"[]()"  # characters that people put between ids or around them


def ids(field: str, text: str) -> list[Any]:
    """Return the ids of a text such as `50,181`, or of a list in JSON; an id that holds a comma may
    stand in double quotes.
    """
    if text.lstrip().startswith("["):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise InputError(field, text, f"is no list in JSON: {COMMAS}") from None
    try:
        (parts,) = csv.reader([text], skipinitialspace=True, strict=True)
    except (csv.Error, ValueError):
        raise InputError(field, text, f"is not closed by a quotation mark, or holds a line break: {COMMAS}") from None
    return [part.strip() for part in parts if part.strip()]


@contextmanager
def said_with_commas() -> Iterator[None]:
    """Add how ids are written to an error about an id that looks like several, or like one in quotes."""
    try:
        yield
    except InputError as error:
        if error.field not in ("history", "exclude") or not set(str(error.value)) & set(BETWEEN):
            raise
        raise InputError(error.field, error.value, f"{error.allowed}: {COMMAS}") from None


def user_fields(given: list[str], kinds: dict[str, str]) -> dict[str, Any]:
    """Return `name=value` texts as values of the model's user fields."""
    out: dict[str, Any] = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator:
            raise InputError("user", text, "must be name=value")
        if name in out:
            raise InputError("user", text, f"field {name} is given twice")
        if kinds.get(name) != "number":
            out[name] = value
            continue
        try:
            out[name] = float(value)
        except ValueError:
            raise InputError(f"user.{name}", value, "must be a number") from None
    return out


def token_ids(text: str | None) -> list[int] | None:
    """Return the token ids of a text such as `151669,12`; None where none is given."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",") if part.strip()]
    for part in parts:
        if not part.isdecimal() or len(part) > LONGEST_ID:
            raise InputError("input_ids", part, "token ids are written with commas, such as 151669,12")
    return [*map(int, parts)]


def messages_of(text: str | None) -> Any:
    """Return the messages of a JSON list; None where none is given."""
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        allowed = 'must be a JSON list such as [{"role": "user", "content": "..."}]'
        raise InputError("messages", text, allowed) from None
