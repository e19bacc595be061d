"""The errors a user can cause. What only OctoRec can cause is an `assert`."""

import dataclasses
from collections.abc import Sequence
from typing import Any


class InputError(ValueError):
    """A value handed to OctoRec is not acceptable.

    field: what was set, as the user spells it (`beam_width`, `items.parquet: column title`).
    value: what was found there.
    allowed: what may stand there, and where it helps what to do.
    """

    def __init__(self, field: str, value: Any, allowed: str):
        super().__init__(f"{field}: got {value!r}; {allowed}")
        self.field, self.value, self.allowed = field, value, allowed


class MismatchError(InputError):
    """Two things that belong together do not: a checkpoint and a catalog, a config and its tensors."""


def check_keys(where: str, raw: Any, kind: type, required: Sequence[str]) -> None:
    """Refuse what is no mapping, has keys that the dataclass `kind` lacks, or lacks a key of `required`."""
    known = [field.name for field in dataclasses.fields(kind)]
    if not isinstance(raw, dict):
        raise InputError(where, raw, f"must have the keys {', '.join(known)}")
    for key in raw:
        if key not in known:
            raise InputError(where, key, f"unknown key; known: {', '.join(known)}")
    for key in required:
        if key not in raw:
            raise InputError(f"{where}: {key}", None, "is required")
