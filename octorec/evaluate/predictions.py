"""What one engine answers for a list of examples, made once and compared many times, in memory or as a Parquet file.

Letters: n examples, k ranked items, L levels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from octorec.data.splits import Example
from octorec.engine.request import Answer, Request
from octorec.errors import InputError
from octorec.evaluate.cutoffs import K, Lengths, cutoffs, lengths
from octorec.evaluate.metrics import RankedItems, metrics_at, ranked_items, target_ranks
from octorec.files import new_file

Progress = Callable[[int, int], None]  # requests done, requests in all


class Engine(Protocol):
    """All that evaluation asks of an engine. `catalog.item_ids` lists the items it knows."""

    @property
    def catalog(self) -> Any: ...

    def recommend(self, requests: Sequence[Request]) -> list[Answer]: ...

    def score(self, requests: Sequence[Request], targets: Sequence[str]) -> np.ndarray: ...


@dataclass(frozen=True)
class Predictions:
    """An engine's or a floor's answers, row by row those of the examples.

    user_ids, targets [n] object. ranked [n, k] as `metrics.ranked_items` lays it.
    known [n] bool: the target is an item of the catalog; an unknown one is a miss.
    seen [n] bool: the target stands in its own history, which is masked: a miss for everyone.
    log_probs [n, L] float32: teacher-forced log-probabilities of the target's codes, NaN where it is unknown;
    None for a floor. asked: lengths of list to report beside the longest, k, and the usual ones.
    """

    user_ids: np.ndarray
    targets: np.ndarray
    ranked: RankedItems
    known: np.ndarray
    seen: np.ndarray
    log_probs: np.ndarray | None = None
    asked: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def k(self) -> int:
        return self.ranked.shape[1]

    @property
    def cutoffs(self) -> tuple[int, ...]:
        """Where the lists are cut for the metrics."""
        return cutoffs((*self.asked, self.k))

    def values(self, cuts: Sequence[int] | None = None) -> dict[str, np.ndarray]:
        """Recall and NDCG of every target, [n] float64 each, under `recall@10` and the like; None: at `cutoffs`."""
        return metrics_at(target_ranks(self.ranked, self.targets), self.cutoffs if cuts is None else cuts)

    def at(self, rows: np.ndarray) -> "Predictions":
        """Those of the examples `rows` [m]."""
        log_probs = None if self.log_probs is None else self.log_probs[rows]
        user_ids, targets, ranked = self.user_ids[rows], self.targets[rows], self.ranked[rows]
        return Predictions(user_ids, targets, ranked, self.known[rows], self.seen[rows], log_probs, self.asked)

    def save(self, path: str | Path) -> None:
        """Write one Parquet file, replacing what is there."""
        columns = {"user_id": self.user_ids, "target": self.targets, "known": self.known, "seen": self.seen}
        columns["ranked"] = pa.FixedSizeListArray.from_arrays(pa.array(self.ranked.ravel(), pa.string()), self.k)
        if self.log_probs is not None:
            values = pa.array(self.log_probs.ravel(), pa.float32())
            columns["log_probs"] = pa.FixedSizeListArray.from_arrays(values, self.log_probs.shape[1])
        table = pa.table(columns).replace_schema_metadata({"asked": ",".join(map(str, self.asked))})
        with new_file(path) as scratch:
            pyarrow.parquet.write_table(table, scratch, compression="zstd")

    @classmethod
    def load(cls, path: str | Path) -> "Predictions":
        """Read what `save` wrote; anything else is an InputError."""
        try:
            table = pyarrow.parquet.read_table(path)
        except (OSError, pa.ArrowInvalid) as error:
            raise InputError(
                "predictions", str(path), f"must be a file that Predictions.save wrote ({error})"
            ) from error
        required = {"user_id", "target", "known", "seen", "ranked"}
        if not required <= set(table.column_names):
            allowed = f"must be a file that Predictions.save wrote, with the columns {', '.join(sorted(required))}"
            raise InputError(f"predictions {path}: columns", table.column_names, allowed)
        plain = {name: table.column(name).to_numpy() for name in ("user_id", "target", "known", "seen")}
        log_probs = _matrix(path, table, "log_probs") if "log_probs" in table.column_names else None
        ranked = _matrix(path, table, "ranked")
        asked = asked_in(f"predictions {path}", table, ranked.shape[1])
        return cls(plain["user_id"], plain["target"], ranked, plain["known"], plain["seen"], log_probs, asked)


def asked_in(where: str, table: pa.Table, k: int) -> tuple[int, ...]:
    """The lengths that a saved table's metadata says were asked for; none in a file from before they were kept."""
    text = (table.schema.metadata or {}).get(b"asked", b"").decode(errors="replace")
    parts = [part for part in text.split(",") if part]
    if not all(part.isascii() and part.isdigit() and 0 < int(part) <= k for part in parts):
        raise InputError(f"{where}: asked", text, f"must be lengths of list from 1 to {k}, with commas")
    return tuple(map(int, parts))


def predict(
    engine: Engine,
    examples: Sequence[Example],
    k: Lengths = K,
    beam_width: int | None = None,
    users: Mapping[str, Mapping[str, Any]] | None = None,
    batch: int = 256,
    progress: Progress | None = None,
) -> Predictions:
    """Ask `engine` for `k` items for every example, its history excluded, and for its target's log-probabilities.

    k: several lengths ask for lists of the longest, and for metrics at each.
    users: what is known about each user id; a user who is not there sends no fields. batch: requests handed to the
    engine at a time. progress: called after each batch with the examples done and their number.
    """
    require_examples(examples)
    if batch < 1:
        raise InputError("batch", batch, "must be 1 or more")
    asked = lengths(k)
    items = set(engine.catalog.item_ids)
    known = np.array([example.target in items for example in examples])
    if not known.any():
        raise InputError("targets", examples[0].target, f"none of the {len(examples)} targets is in the catalog")
    lists: list[list[str]] = []
    scores: list[np.ndarray] = []
    for start in range(0, len(examples), batch):
        chunk = examples[start : start + batch]
        requests = [_request(example, asked[-1], beam_width, users or {}) for example in chunk]
        lists += [answer.items for answer in engine.recommend(requests)]
        if at := np.flatnonzero(known[start : start + batch]).tolist():
            scores.append(engine.score([requests[i] for i in at], [chunk[i].target for i in at]))
        if progress is not None:
            progress(start + len(chunk), len(examples))
    log_probs = np.full((len(examples), scores[0].shape[1]), np.nan, dtype=np.float32)
    log_probs[known] = np.concatenate(scores)
    _refuse_infinite(examples, known, log_probs)
    return of_examples(examples, ranked_items(lists, asked[-1]), known, log_probs, asked)


def of_examples(
    examples: Sequence[Example],
    ranked: RankedItems,
    known: np.ndarray,
    log_probs: np.ndarray | None = None,
    asked: tuple[int, ...] = (),
) -> Predictions:
    """Put the answers to `examples` beside their users and targets; `asked` as in `Predictions`."""
    assert len(ranked) == len(examples), f"{len(ranked)} answers to {len(examples)} examples"
    user_ids = np.array([example.user_id for example in examples], dtype=object)
    targets = np.array([example.target for example in examples], dtype=object)
    seen = np.array([example.target in example.history for example in examples], dtype=bool)
    return Predictions(user_ids, targets, ranked, known, seen, log_probs, asked)


def require_examples(examples: Sequence[Example]) -> None:
    if not examples:
        raise InputError("examples", 0, "give at least one target: are the users' histories long enough to split?")


def _request(example: Example, k: int, beam_width: int | None, users: Mapping[str, Mapping[str, Any]]) -> Request:
    fields = users.get(example.user_id, {})
    return Request(example.history, k=k, beam_width=beam_width, exclude=example.history, user=fields)


def _refuse_infinite(examples: Sequence[Example], known: np.ndarray, log_probs: np.ndarray) -> None:
    broken = np.flatnonzero(known & ~np.isfinite(log_probs).all(1))
    if len(broken):
        first = examples[broken[0]]
        field = f"log-probabilities of {first.target} for user {first.user_id} and {len(broken) - 1} more"
        raise InputError(field, log_probs[broken[0]].tolist(), "must be finite: the checkpoint is broken")


def _matrix(path: str | Path, table: pa.Table, name: str) -> np.ndarray:
    """A column of lists of one length as [n, length]."""
    column = table.column(name).combine_chunks()
    if not pa.types.is_fixed_size_list(column.type):
        raise InputError(f"predictions {path}: column {name}", str(column.type), "must hold lists of one length")
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), column.type.list_size)
