"""The formats that OctoRec writes have versions, which their files say and every reader checks first.

docs/files.md has the rule. A file that says no version is of the first one, which was written before files said any.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from octorec.errors import InputError

FIRST = 1


@dataclass(frozen=True)
class Format:
    """A Format is one kind of JSON object that says its version.

    newest: the version that is written, and the last that is read. key: under which an object says it. oldest: the
    first that is read. instead: what to do with an older one, such as the verb that converts it.
    Raise `newest` when an older program would misread what is written from then on.
    """

    newest: int = FIRST
    key: str = "format"
    oldest: int = FIRST
    instead: str = ""

    def stamp(self) -> dict[str, int]:
        """Return the key and the version to write."""
        return {self.key: self.newest}

    def check(self, where: str, values: Mapping[str, Any]) -> int:
        """Return the version that `values` says, FIRST where it says none.

        Raises InputError, whose field begins with `where`, for a version that is not read and for what is no version.
        """
        version = values.get(self.key, FIRST)
        if type(version) is not int or version < FIRST:
            fault = f"must be an integer from {FIRST} on"
        elif version > self.newest:
            fault = "was written by a newer OctoRec: upgrade"
        elif version < self.oldest:
            fault = f"was written by an older OctoRec: {self.instead}"
        else:
            return version
        allowed = f"{fault}; this OctoRec reads format version {self.newest}"
        raise InputError(f"{where}: {self.key}", version, allowed)


CHECKPOINT = Format()  # octorec.json of a checkpoint's folder, 16 bit or FP8
CATALOG = Format(key="format_version")  # catalog.json
CATALOG_FILES = ("catalog.json", "items.parquet", "codebook.safetensors", "attributes.parquet")  # of its folder
# state.json of OUT.training; version 1 need not say which examples it was of, but only how many
TRAINING = Format(2, oldest=2, instead="train anew, with --force and without --resume")
EXPERIMENT = Format()  # record.json of an experiment's folder
CONTENTS = Format()  # .octorec.json: the list of a written folder's files
OFFLINE = Format()  # _manifest.json of a folder of answers, of `octorec recommend-all`
WIDTHS = Format()  # NAME.widths.json beside a checkpoint
ROWS = Format()  # each row of results/*.jsonl
