"""Rows of a benchmark are examples already: a prompt or a history with its targets. Their columns tell them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from octorec.data import minionerec, recif
from octorec.data.interactions import Interactions
from octorec.data.sampled import Sample, sampled
from octorec.data.splits import Example
from octorec.data.table_format import OURS, TableFormat
from octorec.data.tables import table_names


class Benchmark(NamedTuple):
    """A Benchmark is the rows of a file. name: whose rows they are. sample: which users', if not all.

    train: what floors may learn from; None where the rows have no histories.
    """

    name: str
    examples: list[Example]
    sample: Sample | None = None
    train: Interactions | None = None


def read_benchmark(path: str | Path, form: TableFormat = OURS, limit: int | None = None) -> Benchmark | None:
    """Return the rows of RecIF or MiniOneRec; None for a table of other columns, such as one of interactions.

    limit: number of users that are taken, chosen by a hash. Raises InputError for rows that are none.
    """
    names = set() if form.columns else set(table_names(path, form))
    if names.issuperset(recif.COLUMNS):
        name, examples = "RecIF", recif.read_recif(path)
    elif names.issuperset(minionerec.COLUMNS):
        name, examples = "MiniOneRec", minionerec.read_minionerec(path)
    else:
        return None
    train = first_histories(examples)
    users = list(dict.fromkeys(example.user_id for example in examples))
    if limit is None or limit >= len(users):
        return Benchmark(name, examples, None, train)
    taken = set(sampled(users, limit))
    chosen = [example for example in examples if example.user_id in taken]
    return Benchmark(name, chosen, Sample(limit, len(users)), train)


def first_histories(examples: Sequence[Example]) -> Interactions | None:
    """Return each user's shortest history as interactions: a longer one may hold the target of another row."""
    shortest: dict[str, tuple[str, ...]] = {}
    for example in examples:
        if len(example.history) <= len(shortest.get(example.user_id, example.history)):
            shortest[example.user_id] = example.history
    rows = [(user, item, time) for user, items in shortest.items() for time, item in enumerate(items)]
    if not rows:
        return None
    names = ("user_id", "item_id", "timestamp")
    return Interactions.from_table(pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))))
