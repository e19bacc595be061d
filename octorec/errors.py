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


class NonFiniteError(InputError):
    """A checkpoint gives a request scores that are NaN or infinity, so that there is no answer to it.

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
    known = [field.name for field in dataclasses.fields(kind)]
    if not isinstance(raw, dict):
        raise InputError(where, raw, f"must have the keys {', '.join(known)}")
    for key in raw:
        if key not in known:
            raise InputError(where, key, f"unknown key; known: {', '.join(known)}")
    for key in required:
        if key not in raw:
            raise InputError(f"{where}: {key}", None, "is required")
