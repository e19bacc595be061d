"""Several sets of users judged as one: the statistics of a verdict whose sets are each too small for it."""

from collections.abc import Mapping

import numpy as np

from octorec.errors import InputError, MismatchError
from octorec.evaluate.predictions import Predictions


def pooled(parts: Mapping[str, Predictions]) -> Predictions:
    """The predictions of every part, one after the other, as those of one system.

    A user of one part is never one of another, nor is an item: both get their part's name in front.
    """
    if not parts:
        raise InputError("parts", 0, "give at least one set's predictions")
    widths = {part.k for part in parts.values()}
    if len(widths) > 1:
        raise MismatchError("predictions: k", sorted(widths), "must be the same in every part")
    scored = [part.log_probs for part in parts.values()]
    levels = {None if log_probs is None else log_probs.shape[1] for log_probs in scored}
    if len(levels) > 1:
        raise MismatchError("predictions: levels", sorted(map(str, levels)), "must be the same in every part")
    return Predictions(
        np.concatenate([_named(name, part.user_ids) for name, part in parts.items()]),
        np.concatenate([_named(name, part.targets) for name, part in parts.items()]),
        np.concatenate([_named(name, part.ranked) for name, part in parts.items()]),
        np.concatenate([part.known for part in parts.values()]),
        np.concatenate([part.seen for part in parts.values()]),
        None if None in levels else np.concatenate([log_probs for log_probs in scored if log_probs is not None]),
    )


def _named(name: str, ids: np.ndarray) -> np.ndarray:
    """`name/id` for every id; "", the end of a list, stays."""
    flat = [f"{name}/{one}" if one else "" for one in ids.ravel().tolist()]
    return np.array(flat, dtype=object).reshape(ids.shape)
