"""People whose two lists are shown: where BF16 and FP8 agree least, as most do, and best.

Letters: n examples, k ranked items.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from octorec.catalog.catalog import Catalog
from octorec.data.splits import Example
from octorec.evaluate.metrics import overlap
from octorec.evaluate.predictions import Predictions

SEEN = 10  # newest items that are shown of a history


@dataclass(frozen=True)
class Person:
    """A Person is one prediction of both engines. which: what it is an example of. shared: items in both lists of `k`.

    seen: titles of the newest items, newest first; target: the title of what came next. lists: titles, by engine.
    """

    which: str
    user_id: str
    about: str
    shared: int
    k: int
    seen: tuple[str, ...]
    target: str
    lists: Mapping[str, tuple[str, ...]]


def people(
    predictions: Mapping[str, Predictions],
    examples: Sequence[Example],
    catalog: Catalog,
    users: Mapping[str, Mapping[str, object]],
) -> list[Person]:
    """Return three people, each another one: the least overlap of the two lists, the median, and the most.

    predictions: of two engines for `examples`, row by row. Of equal overlaps the first row is taken, for the most the
    last. Fewer people are returned where there are fewer.
    """
    (_, first), (_, second) = predictions.items()
    shared = overlap(first.ranked, second.ranked)
    order = np.argsort(shared, kind="stable")
    typical = int(np.searchsorted(shared[order], np.median(shared)))
    wanted = {"least": order, "typical": order[typical:], "most": order[::-1]}
    found: dict[str, Person] = {}
    for which, rows in wanted.items():
        row = next((int(row) for row in rows if examples[row].user_id not in found), None)
        if row is not None:
            found[examples[row].user_id] = _person(which, row, predictions, examples[row], catalog, users)
    return list(found.values())


def _person(
    which: str,
    row: int,
    predictions: Mapping[str, Predictions],
    example: Example,
    catalog: Catalog,
    users: Mapping[str, Mapping[str, object]],
) -> Person:
    ids = {name: [item for item in of.ranked[row] if item] for name, of in predictions.items()}
    one, other = ids.values()

    def title(item: str) -> str:
        return catalog.titles[catalog.index[item]]

    return Person(
        which=which,
        user_id=example.user_id,
        about=", ".join(f"{name} {value}" for name, value in users.get(example.user_id, {}).items()),
        shared=len(set(one) & set(other)),
        k=max(len(one), len(other)),
        seen=tuple(title(item) for item in example.history[-SEEN:][::-1]),
        target=title(example.target),
        lists={name: tuple(map(title, items)) for name, items in ids.items()},
    )
