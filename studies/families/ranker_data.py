"""What a traditional ranker reads of MovieLens-100K: ids, newest clicks and raw numbers as they stood at each rating.

Letters as in `models.ranker`; n examples.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from octorec.data.movielens import MovieLens
from octorec.data.tables import id_rank, one_array, text_column
from studies.families.ranker import TABLES, RankerBatch

CLICK = 4  # a rating of 4 or 5 counts as a click
PRIOR = 5  # clicks and non-clicks a rate is smoothed with, half of each
NUMBERS = (
    "age", "release_year", "timestamp", "user_ratings", "user_clicks", "item_ratings", "item_clicks",
    "seconds_since_last", "user_rate", "item_rate",
)  # fmt: skip
YEAR = re.compile(r" \((\d{4})\)$")


@dataclass(frozen=True)
class RankerSet:
    """Examples by time, ties by user and item. batch: all of them. clicks [n] float32 0 or 1. user_ids [n].

    rows: of each embedding table, see `RankerConfig`.
    """

    batch: RankerBatch
    clicks: torch.Tensor
    user_ids: np.ndarray
    rows: dict[str, int]

    def __len__(self) -> int:
        return len(self.clicks)

    def part(self, rows: slice) -> "RankerSet":
        return RankerSet(self.batch[rows], self.clicks[rows], self.user_ids[rows], self.rows)


def ranker_set(movies: MovieLens, history: int) -> RankerSet:
    """Every rating as an example; its history and its counts know only what came before it.

    numbers are NUMBERS, in the order of the file's own units: years, Unix seconds, counts, seconds, shares.
    """
    table = movies.ratings
    users, items = (one_array(text_column(table, name, "ratings")) for name in ("user_id", "item_id"))
    times = np.asarray(table["timestamp"]).astype(np.int64)
    order = np.lexsort((id_rank(items), id_rank(users), times))
    user_ids = np.array(users.to_pylist(), dtype=object)[order]
    item_ids = np.array(items.to_pylist(), dtype=object)[order]
    clicks = (np.asarray(table["rating"])[order] >= CLICK).astype(np.float32)
    vocabularies = _vocabularies(movies)
    films = _films(movies, vocabularies)
    seen = _replay(user_ids, item_ids, times[order], clicks, vocabularies["item"], history)
    ids = [[vocabularies[name].get(_value(movies, name, u, i), 0) for name in TABLES]
           for u, i in zip(user_ids, item_ids, strict=True)]  # fmt: skip
    known = [[float(movies.users[u]["age"]), films[i].year] for u, i in zip(user_ids, item_ids, strict=True)]
    numbers = np.concatenate([np.array(known), seen.numbers], 1)
    batch = RankerBatch(
        ids=torch.tensor(ids),
        genres=torch.from_numpy(np.stack([films[i].genres for i in item_ids])),
        history=torch.from_numpy(seen.history),
        numbers=torch.from_numpy(numbers.astype(np.float32)),
    )
    rows = {name: len(values) + 1 for name, values in vocabularies.items()}
    return RankerSet(batch, torch.from_numpy(clicks), user_ids, rows)


@dataclass(frozen=True)
class _Film:
    year: float
    genres: np.ndarray  # [genre rows] float32


@dataclass(frozen=True)
class _Seen:
    history: np.ndarray  # [n, H] int64
    numbers: np.ndarray  # [n, 8] float64: NUMBERS from timestamp on


def _vocabularies(movies: MovieLens) -> dict[str, dict[str, int]]:
    """Row of each value in each table, from 1 on."""
    values: dict[str, Sequence[Any]] = {
        "user": list(movies.users),
        "item": movies.items["item_id"].to_pylist(),
        "gender": sorted({user["gender"] for user in movies.users.values()}),
        "occupation": sorted({user["occupation"] for user in movies.users.values()}),
        "genre": sorted({name for sets in movies.items["sets"].to_pylist() for name in sets if not name[:1].isdigit()}),
    }
    return {name: {value: row for row, value in enumerate(found, 1)} for name, found in values.items()}


def _value(movies: MovieLens, table: str, user: str, item: str) -> str:
    return {"user": user, "item": item}.get(table) or movies.users[user][table]


def _films(movies: MovieLens, vocabularies: dict[str, dict[str, int]]) -> dict[str, _Film]:
    """Year and genres of each item; a film without a year gets the median year."""
    years = [YEAR.search(title) for title in movies.items["title"].to_pylist()]
    median = float(np.median([int(year[1]) for year in years if year]))
    rows = vocabularies["genre"]
    films = {}
    items, all_sets = movies.items["item_id"].to_pylist(), movies.items["sets"].to_pylist()
    for item, year, sets in zip(items, years, all_sets, strict=True):
        genres = np.zeros(len(rows) + 1, np.float32)
        genres[[rows[name] for name in sets if name in rows]] = 1
        films[item] = _Film(float(year[1]) if year else median, genres)
    return films


def _replay(
    users: np.ndarray, items: np.ndarray, times: np.ndarray, clicks: np.ndarray, rows: dict[str, int], history: int
) -> _Seen:
    """Walk through the examples in time, and note what a live counter would have said before each."""
    clicked: dict[str, list[int]] = defaultdict(list)
    shown: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])  # ratings, clicks
    last: dict[str, int] = {}
    newest = np.zeros((len(users), history), np.int64)
    numbers = np.zeros((len(users), len(NUMBERS) - 2))
    for row, (user, item, time, click) in enumerate(zip(users, items, times.tolist(), clicks.tolist(), strict=True)):
        found = clicked[user][-history:]
        newest[row, : len(found)] = found
        counts = shown["user", user], shown["item", item]
        rates = [(count[1] + PRIOR / 2) / (count[0] + PRIOR) for count in counts]
        numbers[row] = [time, *counts[0], *counts[1], time - last.get(user, time), *rates]
        for count in counts:
            count[0] += 1
            count[1] += click
        last[user] = time
        if click:
            clicked[user].append(rows[item])
    return _Seen(newest, numbers)
