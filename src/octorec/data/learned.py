"""A record says what a catalog or a model was learned from; by it a verdict can tell whether its targets were seen.

The record is small: it can tell that two sets of interactions are the same, however they are stored and ordered.
"""

import bisect
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from octorec.data.interactions import COLUMNS, Interactions
from octorec.data.splits import targets_of, training_part
from octorec.errors import InputError
from octorec.files import JSON_BYTES
from octorec.reading import read_text

ROWS = 65536  # hashed at a time


@dataclass(frozen=True)
class Learned:
    """A Learned records what was learned from. hold_out: newest interactions of each user that were left out before.
    interactions: how many were not. newest: the latest timestamp among them, None where there are none. digest: 16
    hexadecimal digits over all of them, whatever their order.
    """

    hold_out: int
    interactions: int
    newest: float | None
    digest: str

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, where: str, raw: Any) -> "Learned":
        """Read what `to_dict` gave; anything else is an InputError about `where`."""
        kinds: dict[str, Any] = {"hold_out": int, "interactions": int, "newest": int | float | None, "digest": str}
        whole = isinstance(raw, dict) and set(raw) == set(kinds)
        if not whole or any(isinstance(raw[k], bool) or not isinstance(raw[k], kind) for k, kind in kinds.items()):
            raise InputError(where, raw, f"must be the record that OctoRec wrote, with {', '.join(kinds)}")
        return cls(**raw)


def learned_from(interactions: Interactions) -> Learned:
    """Return the record of something that learned from all of `interactions`."""
    newest = pc.max(interactions.table["timestamp"]).as_py()
    return Learned(interactions.held_out, len(interactions), newest, digest(interactions))


def read_learned(folder: str | Path) -> Learned | None:
    """Return the record in the `training.json` of a checkpoint folder; None where there is none, as in
    a foreign folder.
    """
    path = Path(folder) / "training.json"
    try:
        about = json.loads(read_text(path, "checkpoint", JSON_BYTES)) if path.is_file() else None
    except RecursionError as error:
        raise InputError(str(path), "lists in lists", "is nested too deeply") from error
    except InputError:
        raise
    except ValueError as error:  # among them an integer of 5,000 digits
        raise InputError(str(path), str(error), "is damaged or no JSON") from error
    if not isinstance(about, dict) or about.get("learned") is None:
        return None
    return Learned.from_dict(f"{path}: learned", about["learned"])


def targets_seen(learned: Learned, interactions: Interactions, hold_out: int) -> int | None:
    """Return how many of the targets, the `hold_out` newest `interactions` of each user, were learned from; None where
    that is not known.

    Where all but some newest interactions of each user were learned from, exactly these are counted. Interactions of
    another file can be told to hold no target only where time tells: every target is newer than all of them, and some
    history is not, so that both count time alike.
    """
    lengths = np.diff(interactions.user_starts())
    longest = int(lengths.max(initial=1))

    def kept(left_out: int) -> int:
        return int(np.maximum(lengths - min(left_out, longest), 1).sum())

    left_out = bisect.bisect_left(range(longest), -learned.interactions, key=lambda n: -kept(n))
    if kept(left_out) == learned.interactions and digest(training_part(interactions, left_out)) == learned.digest:
        return max(0, kept(left_out) - kept(hold_out))
    times = interactions.table["timestamp"].to_numpy()
    targets = times[targets_of(interactions, hold_out)]
    if learned.newest is not None and len(targets) and times.min() <= learned.newest < targets.min():
        return 0
    return None


def digest(interactions: Interactions) -> str:
    """Return 16 hexadecimal digits of the SHA-256 over the interactions as a set with counts: order does not matter."""
    times = interactions.table["timestamp"].cast(pa.float64(), safe=False)
    table = interactions.table.set_column(2, "timestamp", times).sort_by([(name, "ascending") for name in COLUMNS])
    sha = hashlib.sha256()
    for start in range(0, len(table), ROWS):
        part = table.slice(start, ROWS)
        for name in COLUMNS[:2]:
            sha.update(json.dumps(part[name].to_pylist()).encode())
        sha.update(np.ascontiguousarray(part["timestamp"].to_numpy()).tobytes())
    return sha.hexdigest()[:16]
