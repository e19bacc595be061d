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

from octorec.data.splits import Example
from octorec.engine.request import UNKNOWN_ITEMS, Answer, Request
from octorec.engine.widths import BeamWidth
from octorec.errors import InputError, NonFiniteError
from octorec.evaluate.asked import Asked, engine_of
from octorec.evaluate.capped import CapsEffect, Lists, both_lists, effect
from octorec.evaluate.cutoffs import K, Lengths, cutoffs, lengths
from octorec.evaluate.metrics import RankedItems, metrics_at, ranked_items, ranks_of
from octorec.evaluate.saved import metadata, tuples
from octorec.evaluate.saved_predictions import read_predictions, write_predictions
from octorec.evaluate.sids import BySid, Codes, ask, by_sid, sids_wanted
from octorec.evaluate.unknown import NOTHING, Unknown, known_ids
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
    others [n] object: a tuple of further targets a row, whose first target may be ""; None where each row has one.
    by_sid: lists of semantic IDs beside those of items, where the two are not one; None elsewhere, and for a floor.
    known [n] bool: a target of the row is an item of the catalog; an unknown one is a miss.
    seen [n] bool: the target stands in its own history: with exclude_seen a miss for everyone.
    log_probs [n, L] float32: teacher-forced log-probabilities of the codes of the row's first known target, NaN where
    there is none or nothing was askable; None for a floor. asked: lengths of list to report beside the longest, k, and
    the usual ones. prompted: rows bring prompts, so that `seen` says nothing. askable [n] bool: there was something to
    ask a model, see `Unknown`. unknown: what was left out of the histories; it is not saved. exclude_seen: whether the
    lists hold no item of the history. caps: what they did to the lists; None without caps, and it is not saved.
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
    others: np.ndarray | None = None
    by_sid: BySid | None = None
    prompted: bool = False
    caps: CapsEffect | None = None

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
        """Return the metrics of every row, [n] float64 each, under `recall@10` and the like, and behind each the same
        by semantic ID, `sid_recall@10`; cuts None: at `cutoffs`.
        """
        cuts = self.cutoffs if cuts is None else cuts
        items = metrics_at(self._ranks, cuts)
        if self.by_sid is None:
            return items
        sids = metrics_at(self.by_sid.ranks, cuts)
        names = dict.fromkeys([*items, *sids])
        sides = [(name, side) for name in names for side in ((name, items), (f"sid_{name}", sids)) if name in side[1]]
        return {label: side[name] for name, (label, side) in sides}

    @property
    def in_history(self) -> int | None:
        """Return how many rows have a target that stands in its own history; None where that is not known."""
        return None if self.prompted else int(self.seen.sum())

    @property
    def every_target(self) -> list[tuple[str, ...]]:
        """Return the targets of each row; none where it has none."""
        if self.others is None:
            return [(target,) for target in self.targets]
        return [(first, *more) if first else () for first, more in zip(self.targets, self.others, strict=True)]

    @property
    def n_targets(self) -> int:
        """Return the number of targets of all rows."""
        return len(self) if self.others is None else sum(map(len, self.every_target))

    @cached_property
    def _ranks(self) -> np.ndarray:
        return ranks_of(self.ranked, self.every_target)

    def at(self, rows: np.ndarray) -> "Predictions":
        """Return the predictions of the examples `rows` [m]."""
        log_probs = None if self.log_probs is None else self.log_probs[rows]
        user_ids, targets, ranked = self.user_ids[rows], self.targets[rows], self.ranked[rows]
        assert self.askable is not None
        known, seen, askable = self.known[rows], self.seen[rows], self.askable[rows]
        of_rows = user_ids, targets, ranked, known, seen, log_probs
        others = None if self.others is None else self.others[rows]
        sids = None if self.by_sid is None else self.by_sid.at(rows)
        return Predictions(
            *of_rows,
            self.asked,
            askable,
            exclude_seen=self.exclude_seen,
            others=others,
            by_sid=sids,
            prompted=self.prompted,
        )

    def save(self, path: str | Path) -> None:
        """Write one Parquet file, replacing what is there. Lists by semantic ID are not saved."""
        columns = {"user_id": self.user_ids, "target": self.targets, "known": self.known, "seen": self.seen}
        lists = {"ranked": self.ranked, "log_probs": self.log_probs}
        about = metadata(self.asked, self.exclude_seen) | ({"prompted": "true"} if self.prompted else {})
        write_predictions(path, columns | {"askable": self.askable}, self.others, lists, about)

    @classmethod
    def load(cls, path: str | Path) -> "Predictions":
        """Read what `save` wrote; anything else is an InputError."""
        return cls(**read_predictions(path))


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
    domain: str = "",
    task: str | None = None,
    caps: Mapping[str, Any] | None = None,
) -> Predictions:
    """Ask `engine` for `k` items for every example, as it would serve them, and for its target's log-probabilities.

    k: several lengths ask for lists of the longest, and for metrics at each.
    users: what is known about each user id; a user who is not there sends no fields. batch: requests handed to the
    engine at a time. progress: called after each batch with the examples done and their number. unknown_items: drop
    leaves ids that the catalog lacks out of histories and counts them, refuse is an InputError that names one.
    exclude_seen: whether the lists hold no item of the history; None for the engine's default. domain, task: of the
    prompts of a model that reads them, see `Request`. caps: fields of `Request` that cap the lists.
    Raises NonFiniteError with the user whose scores are NaN or infinity.
    """
    require_examples(examples)
    if batch < 1:
        raise InputError("batch", batch, "must be 1 or more")
    asked, engine = lengths(k), engine_of(engine, domain)
    users, items = users or {}, frozenset(engine.catalog.item_ids)
    histories, unknown = known_ids(((example.user_id, example.history) for example in examples), items, unknown_items)
    exclude_seen = engine.exclude_seen if exclude_seen is None else exclude_seen
    by_popularity = engine.catalog.interactions is not None
    askable = np.array(
        [bool(h or users.get(e.user_id) or e.messages) for h, e in zip(histories, examples, strict=True)]
    )
    scored = [next((target for target in example.targets if target in items), None) for example in examples]
    known = np.array([target is not None for target in scored])
    if not known.any():
        raise InputError("targets", examples[0].target, f"none of the {len(examples)} targets is in the catalog")
    if not (known & askable).any():
        allowed = "no target in the catalog has a history with an item of it"
        raise InputError("examples", len(examples), allowed)
    fields = {"k": asked[-1], "beam_width": beam_width, "exclude_seen": exclude_seen, **(caps or {})}
    without: list[list[str]] = [[] for _ in examples]
    ask_for = Asked(engine, fields, users, domain, task)
    by_sids = sids_wanted(engine, examples)
    lists: list[tuple[list[str], list[Codes]]] = [([], []) for _ in examples]
    scores: list[np.ndarray] = []
    for start in range(0, len(examples), batch):
        rows = [row for row in range(start, min(start + batch, len(examples))) if askable[row] or by_popularity]
        requests = {row: ask_for.request(examples[row], histories[row]) for row in rows}
        with _naming(examples, rows):
            found = _asked(engine, list(requests.values()), by_sids, bool(caps)) if rows else []
        for row, (items_found, sids_found, plain) in zip(rows, found, strict=True):
            lists[row], without[row] = (items_found, sids_found), plain
        if at := [row for row in rows if known[row] and askable[row]]:
            with _naming(examples, at):
                scores.append(engine.score([requests[row] for row in at], [str(scored[row]) for row in at]))
        progress(min(start + batch, len(examples)), len(examples))
    log_probs = np.full((len(examples), scores[0].shape[1]), np.nan, dtype=np.float32)
    log_probs[known & askable] = np.concatenate(scores)
    _refuse_infinite(examples, known & askable, log_probs)
    no_history = int((~askable).sum())
    unknown = replace(unknown, by_popularity=no_history) if by_popularity else replace(unknown, not_asked=no_history)
    ranked = ranked_items([items_found for items_found, _ in lists], asked[-1])
    sids = by_sid(engine, examples, [found for _, found in lists], asked[-1]) if by_sids else None
    made = of_examples(examples, ranked, known, log_probs, asked, askable, unknown, exclude_seen, sids)
    if not caps:
        return made
    uncapped = ranked_items(without, asked[-1])
    return replace(made, caps=effect(engine.catalog, caps, ranked, uncapped, made.every_target, made.user_ids))


def _asked(engine: Any, requests: Sequence[Request], sids: bool, capped: bool) -> list[Lists]:
    """Return what `ask` does, and the lists without caps where there are caps."""
    if capped:
        return [*engine.lists(requests, both_lists)]
    return [(items, codes, []) for items, codes in ask(engine, requests, sids)]


def item_lists(engine: Engine, requests: Sequence[Request]) -> list[list[str]]:
    """Return the items of each answer of `engine`."""
    return [items for items, _ in ask(engine, requests, sids=False)]


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
    sids: BySid | None = None,
) -> Predictions:
    """Put the answers to `examples` beside their users and targets; the rest is as in `Predictions`."""
    assert len(ranked) == len(examples), f"{len(ranked)} answers to {len(examples)} examples"
    user_ids = np.array([example.user_id for example in examples], dtype=object)
    targets = np.array([example.target for example in examples], dtype=object)
    seen = np.array([not {*example.history}.isdisjoint(example.targets) for example in examples], dtype=bool)
    others = None
    if any(len(example.targets) != 1 for example in examples):
        others = tuples([example.others for example in examples])
    prompted = any(example.messages for example in examples)
    about = log_probs, asked, askable, unknown, exclude_seen, others, sids, prompted
    return Predictions(user_ids, targets, ranked, known, seen, *about)


def require_examples(examples: Sequence[Example]) -> None:
    if not examples:
        raise InputError("examples", 0, "give at least one target: are the users' histories long enough to split?")


def _refuse_infinite(examples: Sequence[Example], known: np.ndarray, log_probs: np.ndarray) -> None:
    broken = np.flatnonzero(known & ~np.isfinite(log_probs).all(1))
    if len(broken):
        first = examples[broken[0]]
        field = f"log-probabilities of {first.target} for user {first.user_id} and {len(broken) - 1} more"
        raise InputError(field, log_probs[broken[0]].tolist(), "must be finite: the checkpoint is broken")
