"""Predictions are what one engine answers for a list of examples, made once and compared many times, in memory or as a
Parquet file.

Letters: n examples, k ranked items, L levels.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from octorec.data.splits import Example
from octorec.engine.request import UNKNOWN_ITEMS, Answer, Request
from octorec.engine.widths import BeamWidth
from octorec.errors import InputError, NonFiniteError
from octorec.evaluate.cutoffs import K, Lengths, cutoffs, lengths
from octorec.evaluate.metrics import RankedItems, metrics_at, ranked_items, target_ranks
from octorec.evaluate.saved import asked_in, exclude_seen_in, metadata, read_column, read_matrix, read_table
from octorec.evaluate.unknown import NOTHING, Unknown, known_ids
from octorec.output.write import new_file
from octorec.progress import Progress, silent

BATCH = 256  # requests handed to an engine at a time, which makes its own batches of them


class Engine(Protocol):
    """An Engine has all that evaluation asks of an engine.

    `catalog.item_ids` lists the items it knows; where `catalog.interactions` is not None it answers an empty history by
    popularity. exclude_seen: whether requests that do not say are given no item of their history.
    """

    @property
    def catalog(self) -> Any: ...

    @property
    def exclude_seen(self) -> bool: ...

    def recommend(self, requests: Sequence[Request]) -> list[Answer]: ...

    def score(self, requests: Sequence[Request], targets: Sequence[str]) -> np.ndarray: ...


@dataclass(frozen=True)
class Predictions:
    """Predictions are an engine's or a floor's answers, row by row those of the examples.

    user_ids, targets [n] object. ranked [n, k] as `metrics.ranked_items` lays it.
    known [n] bool: the target is an item of the catalog; an unknown one is a miss.
    seen [n] bool: the target stands in its own history: with exclude_seen a miss for everyone.
    log_probs [n, L] float32: teacher-forced log-probabilities of the target's codes, NaN where it is unknown or not
    askable; None for a floor. asked: lengths of list to report beside the longest, k, and the usual ones.
    askable [n] bool: there was something to ask a model, see `Unknown`. unknown: what was left out of the histories; it
    is not saved. exclude_seen: whether the lists hold no item of the history.
    """

    user_ids: np.ndarray
    targets: np.ndarray
    ranked: RankedItems
    known: np.ndarray
    seen: np.ndarray
    log_probs: np.ndarray | None = None
    asked: tuple[int, ...] = ()
    askable: np.ndarray | None = None  # None: all were
    unknown: Unknown = NOTHING
    exclude_seen: bool = False

    def __post_init__(self) -> None:
        if self.askable is None:
            object.__setattr__(self, "askable", np.ones(len(self.targets), bool))

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def k(self) -> int:
        return self.ranked.shape[1]

    @property
    def cutoffs(self) -> tuple[int, ...]:
        """Return where the lists are cut for the metrics."""
        return cutoffs((*self.asked, self.k))

    @property
    def scored(self) -> np.ndarray:
        """Return [n] bool: the target has log-probabilities."""
        return self.known & self.askable

    def values(self, cuts: Sequence[int] | None = None) -> dict[str, np.ndarray]:
        """Return recall and NDCG of every target, [n] float64 each, under `recall@10` and the like;
        None: at `cutoffs`.
        """
        return metrics_at(self._ranks, self.cutoffs if cuts is None else cuts)

    @cached_property
    def _ranks(self) -> np.ndarray:
        return target_ranks(self.ranked, self.targets)

    def at(self, rows: np.ndarray) -> "Predictions":
        """Return the predictions of the examples `rows` [m]."""
        log_probs = None if self.log_probs is None else self.log_probs[rows]
        user_ids, targets, ranked = self.user_ids[rows], self.targets[rows], self.ranked[rows]
        assert self.askable is not None
        known, seen, askable = self.known[rows], self.seen[rows], self.askable[rows]
        of_rows = user_ids, targets, ranked, known, seen, log_probs
        return Predictions(*of_rows, self.asked, askable, exclude_seen=self.exclude_seen)

    def save(self, path: str | Path) -> None:
        """Write one Parquet file, replacing what is there."""
        columns: dict[str, Any] = {
            "user_id": self.user_ids,
            "target": self.targets,
            "known": self.known,
            "seen": self.seen,
        }
        columns["askable"] = self.askable
        columns["ranked"] = pa.FixedSizeListArray.from_arrays(pa.array(self.ranked.ravel(), pa.string()), self.k)
        if self.log_probs is not None:
            values = pa.array(self.log_probs.ravel(), pa.float32())
            columns["log_probs"] = pa.FixedSizeListArray.from_arrays(values, self.log_probs.shape[1])
        table = pa.table(columns).replace_schema_metadata(metadata(self.asked, self.exclude_seen))
        with new_file(path) as scratch:
            pyarrow.parquet.write_table(table, scratch, compression="zstd")

    @classmethod
    def load(cls, path: str | Path) -> "Predictions":
        """Read what `save` wrote; anything else is an InputError."""
        table = read_table(path, "Predictions", {"user_id", "target", "known", "seen", "ranked"})
        where = f"predictions {path}"
        user_ids = read_column(where, table, "user_id", None)
        targets = read_column(where, table, "target", pa.string())
        has = set(table.column_names)
        known, seen = (read_column(where, table, name, pa.bool_()) for name in ("known", "seen"))
        askable = read_column(where, table, "askable", pa.bool_()) if "askable" in has else None
        log_probs = read_matrix(where, table, "log_probs", pa.float32()) if "log_probs" in has else None
        ranked = read_matrix(where, table, "ranked", pa.string())
        asked = asked_in(where, table, ranked.shape[1])
        columns = user_ids, targets, ranked, known, seen, log_probs, asked, askable
        return cls(*columns, exclude_seen=exclude_seen_in(where, table))


def predict(
    engine: Engine,
    examples: Sequence[Example],
    k: Lengths = K,
    beam_width: BeamWidth | None = None,
    users: Mapping[str, Mapping[str, Any]] | None = None,
    batch: int = BATCH,
    progress: Progress = silent,
    unknown_items: str = UNKNOWN_ITEMS,
    exclude_seen: bool | None = None,
) -> Predictions:
    """Ask `engine` for `k` items for every example, as it would serve them, and for its target's log-probabilities.

    k: several lengths ask for lists of the longest, and for metrics at each.
    users: what is known about each user id; a user who is not there sends no fields. batch: requests handed to the
    engine at a time. progress: called after each batch with the examples done and their number. unknown_items: drop
    leaves ids that the catalog lacks out of histories and counts them, refuse is an InputError that names one.
    exclude_seen: whether the lists hold no item of the history; None for the engine's default.
    Raises NonFiniteError with the user whose scores are NaN or infinity.
    """
    require_examples(examples)
    if batch < 1:
        raise InputError("batch", batch, "must be 1 or more")
    asked = lengths(k)
    users, items = users or {}, frozenset(engine.catalog.item_ids)
    histories, unknown = known_ids(((example.user_id, example.history) for example in examples), items, unknown_items)
    exclude_seen = engine.exclude_seen if exclude_seen is None else exclude_seen
    by_popularity = engine.catalog.interactions is not None
    askable = np.array([bool(h or users.get(e.user_id)) for h, e in zip(histories, examples, strict=True)])
    known = np.array([example.target in items for example in examples])
    if not known.any():
        raise InputError("targets", examples[0].target, f"none of the {len(examples)} targets is in the catalog")
    if not (known & askable).any():
        allowed = "no target in the catalog has a history with an item of it"
        raise InputError("examples", len(examples), allowed)
    lists: list[list[str]] = [[] for _ in examples]
    scores: list[np.ndarray] = []
    for start in range(0, len(examples), batch):
        rows = [row for row in range(start, min(start + batch, len(examples))) if askable[row] or by_popularity]
        requests = {
            row: Request(
                histories[row],
                k=asked[-1],
                beam_width=beam_width,
                user=users.get(examples[row].user_id, {}),
                exclude_seen=exclude_seen,
            )
            for row in rows
        }
        with _naming(examples, rows):
            found = item_lists(engine, list(requests.values())) if rows else []
        for row, items_found in zip(rows, found, strict=True):
            lists[row] = items_found
        if at := [row for row in rows if known[row] and askable[row]]:
            with _naming(examples, at):
                scores.append(engine.score([requests[row] for row in at], [examples[row].target for row in at]))
        progress(min(start + batch, len(examples)), len(examples))
    log_probs = np.full((len(examples), scores[0].shape[1]), np.nan, dtype=np.float32)
    log_probs[known & askable] = np.concatenate(scores)
    _refuse_infinite(examples, known & askable, log_probs)
    no_history = int((~askable).sum())
    unknown = replace(unknown, by_popularity=no_history) if by_popularity else replace(unknown, not_asked=no_history)
    ranked = ranked_items(lists, asked[-1])
    return of_examples(examples, ranked, known, log_probs, asked, askable, unknown, exclude_seen)


def item_lists(engine: Engine, requests: Sequence[Request]) -> list[list[str]]:
    """Return the items of each answer of `engine`; one that has `lists`, as ours, makes no more than those."""
    if lists := getattr(engine, "lists", None):
        return [*lists(requests)]
    return [answer.items for answer in engine.recommend(requests)]


@contextmanager
def _naming(examples: Sequence[Example], rows: Sequence[int]) -> Iterator[None]:
    """Name the user in the error of requests that were made of these rows of the examples."""
    try:
        yield
    except NonFiniteError as error:
        example = examples[rows[error.places[0]]]
        whose = f"user {example.user_id} with the target {example.target!r}"
        raise NonFiniteError(error.checkpoint, [rows[place] for place in error.places], whose) from None


def of_examples(
    examples: Sequence[Example],
    ranked: RankedItems,
    known: np.ndarray,
    log_probs: np.ndarray | None = None,
    asked: tuple[int, ...] = (),
    askable: np.ndarray | None = None,
    unknown: Unknown = NOTHING,
    exclude_seen: bool = False,
) -> Predictions:
    """Put the answers to `examples` beside their users and targets; the rest is as in `Predictions`."""
    assert len(ranked) == len(examples), f"{len(ranked)} answers to {len(examples)} examples"
    user_ids = np.array([example.user_id for example in examples], dtype=object)
    targets = np.array([example.target for example in examples], dtype=object)
    seen = np.array([example.target in example.history for example in examples], dtype=bool)
    return Predictions(user_ids, targets, ranked, known, seen, log_probs, asked, askable, unknown, exclude_seen)


def require_examples(examples: Sequence[Example]) -> None:
    if not examples:
        raise InputError("examples", 0, "give at least one target: are the users' histories long enough to split?")


def _refuse_infinite(examples: Sequence[Example], known: np.ndarray, log_probs: np.ndarray) -> None:
    broken = np.flatnonzero(known & ~np.isfinite(log_probs).all(1))
    if len(broken):
        first = examples[broken[0]]
        field = f"log-probabilities of {first.target} for user {first.user_id} and {len(broken) - 1} more"
        raise InputError(field, log_probs[broken[0]].tolist(), "must be finite: the checkpoint is broken")
