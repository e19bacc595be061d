"""A language model writes an item as tokens: this says which token is which code, and what stands around them.

The ids are lists, one a level, never a base and a count: vocabularies have gaps, and sort codes as texts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from octorec.errors import InputError, check_known

ScoresOver = Literal["vocabulary", "level"]
KEYS = ("levels", "begin", "end", "scores_over")
END_KEYS = ("id", "scored")
MOST_LEVELS, MOST_CODES, MOST_ENDS, MOST_DOMAINS = 64, 2**20, 16, 64
MOST_ID = 2**31 - 1


@dataclass(frozen=True)
class EndToken:
    """An EndToken follows an item's last code: each beam is forced through it.

    scored: its log-probability over the whole vocabulary is a part of the item's score.
    """

    id: int
    scored: bool = True


@dataclass(frozen=True, eq=False)
class SidTokens:
    """SidTokens are the tokens of semantic IDs in a vocabulary.

    levels: for each level int64 [codes], the token id of each code; -1 where the vocabulary has none.
    begin: the token that a prompt ends with, by domain ("": the only one); empty where the family has none.
    end: the tokens after the last code, in their order.
    scores_over: the softmax of a step is over the whole vocabulary, or over the level's codes; then forced tokens
    count 0.
    Raises InputError for a level without a token, and a token that stands twice in a level. Levels may share tokens.
    """

    levels: tuple[np.ndarray, ...]
    begin: Mapping[str, int] = field(default_factory=dict)
    end: tuple[EndToken, ...] = ()
    scores_over: ScoresOver = "vocabulary"

    def __post_init__(self) -> None:
        if not 1 <= len(self.levels) <= MOST_LEVELS:
            raise InputError("levels", len(self.levels), f"must be 1 to {MOST_LEVELS} levels")
        for place, ids in enumerate(self.levels):
            if ids.ndim != 1 or ids.dtype != np.int64 or not (ids >= 0).any():
                raise InputError(f"levels.{place}", ids.tolist()[:5], "must be a list with one token id or more")
            found, times = np.unique(ids[ids >= 0], return_counts=True)
            if (times > 1).any():
                raise InputError(f"levels.{place}", int(found[times > 1][0]), "a token must stand for one code")
        given = np.array([*self.begin.values(), *(token.id for token in self.end)], np.int64)
        if (twice := np.intersect1d(given, np.concatenate(self.levels))).size:
            raise InputError("begin, end", int(twice[0]), "a token of a code can neither begin nor end an item")

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Return the number of codes of each level, with those that have no token."""
        return tuple(map(len, self.levels))

    @property
    def largest(self) -> int:
        """Return the largest token id in use."""
        ends = (token.id for token in self.end)
        return max(*(int(ids.max()) for ids in self.levels), *self.begin.values(), *ends, -1)

    def to_dict(self) -> dict[str, Any]:
        """Return the object that stands in config.json as `sid_tokens`."""
        return {
            "levels": [ids.tolist() for ids in self.levels],
            "begin": dict(self.begin),
            "end": [{"id": token.id, "scored": token.scored} for token in self.end],
            "scores_over": self.scores_over,
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], where: str) -> "SidTokens":
        """Return the SidTokens of what `to_dict` gave, checked; `where` stands before the names of fields in errors."""
        check_known(where, raw, KEYS)
        levels = raw.get("levels")
        if not isinstance(levels, list) or not 1 <= len(levels) <= MOST_LEVELS:
            raise InputError(f"{where}: levels", levels, f"must be a list of 1 to {MOST_LEVELS} lists of token ids")
        scores_over = raw.get("scores_over", "vocabulary")
        if scores_over not in get_args(ScoresOver):
            raise InputError(f"{where}: scores_over", scores_over, f"allowed: {', '.join(get_args(ScoresOver))}")
        arrays = tuple(_level(ids, f"{where}: levels.{place}") for place, ids in enumerate(levels))
        try:
            return cls(arrays, _begin(raw.get("begin", {}), where), _end(raw.get("end", []), where), scores_over)
        except InputError as error:
            if error.field.startswith(where):
                raise
            raise InputError(f"{where}: {error.field}", error.value, error.allowed) from None


def _level(ids: Any, where: str) -> np.ndarray:
    if not isinstance(ids, list) or not 1 <= len(ids) <= MOST_CODES:
        raise InputError(where, ids, f"must be a list of 1 to {MOST_CODES:,} token ids")
    for place, one in enumerate(ids):
        if not _is_id(one, -1):
            raise InputError(f"{where}.{place}", one, f"must be a token id from 0 to {MOST_ID:,}, or -1 for none")
    return np.array(ids, np.int64)


def _begin(raw: Any, where: str) -> dict[str, int]:
    if not isinstance(raw, Mapping) or len(raw) > MOST_DOMAINS:
        raise InputError(f"{where}: begin", raw, f"must be an object of at most {MOST_DOMAINS} token ids by domain")
    for domain, one in raw.items():
        if not isinstance(domain, str) or not _is_id(one):
            raise InputError(f"{where}: begin.{domain}", one, f"must be a token id from 0 to {MOST_ID:,}")
    return dict(raw)


def _end(raw: Any, where: str) -> tuple[EndToken, ...]:
    if not isinstance(raw, list) or len(raw) > MOST_ENDS:
        raise InputError(f"{where}: end", raw, f"must be a list of at most {MOST_ENDS} objects of id and scored")
    tokens = []
    for place, one in enumerate(raw):
        here = f"{where}: end.{place}"
        check_known(here, one, END_KEYS)
        if not _is_id(one.get("id")):
            raise InputError(f"{here}: id", one.get("id"), f"must be a token id from 0 to {MOST_ID:,}")
        if not isinstance(one.get("scored", True), bool):
            raise InputError(f"{here}: scored", one["scored"], "must be true or false")
        tokens.append(EndToken(one["id"], one.get("scored", True)))
    return tuple(tokens)


def _is_id(value: Any, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= MOST_ID


def read(folder: str | Path) -> SidTokens:
    """Return the tokens of semantic IDs of a folder, from its tokenizer's files and `octorec.json`.

    Raises InputError as `layouts.read_layout`, which says more of them.
    """
    from octorec.models.layouts import read_layout  # which makes what is defined here

    return read_layout(folder).sids
