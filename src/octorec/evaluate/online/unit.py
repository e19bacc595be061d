"""An experiment assigns and counts units, most often users, by an id that every part spells in one way."""

import unicodedata
from typing import Any

from octorec.errors import InputError

MOST_BYTES = 256  # most bytes of an id in UTF-8


def unit_id(value: Any, field: str = "unit") -> str | None:
    """Return the id in the one form that is hashed, logged and joined; None where there is none: null or empty text.

    Text is brought to Unicode's form NFC, so that a name that is composed elsewhere is the same unit; nothing else is
    changed. Integers are read as text. Raises InputError about `field` for other types, longer ids, lone surrogates.
    """
    if value is None or (isinstance(value, str) and not value):
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InputError(field, value, "must be text or an integer")
    if isinstance(value, int):
        if abs(value) >= 2**64:
            raise InputError(field, "an integer beyond 64 bits", "must be text or an integer of at most 64 bits")
        return str(value)
    if len(value) > 4 * MOST_BYTES:  # before it is walked through; NFC makes at most four characters one
        raise InputError(field, value, f"must have at most {MOST_BYTES} bytes")
    text = unicodedata.normalize("NFC", value)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InputError(field, value, "must be valid Unicode, without lone surrogates") from None
    if size > MOST_BYTES:
        raise InputError(field, value, f"must have at most {MOST_BYTES} bytes")
    return text
