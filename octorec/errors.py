"""The errors a user can cause. What only OctoRec can cause is an `assert`."""

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
