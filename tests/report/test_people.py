"""People of the demo's report: the least, the median and the most overlap of two precisions."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from octorec.data.splits import Example
from octorec.evaluate.predictions import Predictions
from octorec.report.people import people

ITEMS = "abcdefgh"
CATALOG: Any = SimpleNamespace(index={item: at for at, item in enumerate(ITEMS)}, titles=[f"Film {i}" for i in ITEMS])
EXAMPLES = [Example(user, ("h", "g"), "f") for user in ("1", "1", "2", "3", "4")]
FIRST = ["abc", "abc", "abc", "abc", "abc"]
SECOND = ["def", "dea", "abd", "abd", "cba"]  # shared: 0, 1, 2, 2, 3


def predictions(lists: list[str]) -> Predictions:
    ranked = np.array([list(row) for row in lists], dtype=object)
    users = np.array([example.user_id for example in EXAMPLES], dtype=object)
    one = np.ones(len(lists), bool)
    return Predictions(users, np.array(["f"] * len(lists), dtype=object), ranked, one, ~one)


def test_least_typical_and_most_are_three_people() -> None:
    found = people({"bf16": predictions(FIRST), "fp8": predictions(SECOND)}, EXAMPLES, CATALOG, {"1": {"age": 24}})
    assert [(p.which, p.user_id, p.shared) for p in found] == [("least", "1", 0), ("typical", "2", 2), ("most", "4", 3)]
    assert found[0].about == "age 24"
    assert found[0].seen == ("Film g", "Film h")
    assert found[0].target == "Film f"
    assert found[0].lists == {"bf16": ("Film a", "Film b", "Film c"), "fp8": ("Film d", "Film e", "Film f")}


def test_one_person_is_shown_once() -> None:
    one = {name: Predictions(p.user_ids[:2], p.targets[:2], p.ranked[:2], p.known[:2], p.seen[:2])
           for name, p in (("bf16", predictions(FIRST)), ("fp8", predictions(SECOND)))}  # fmt: skip
    assert [p.which for p in people(one, EXAMPLES[:2], CATALOG, {})] == ["least"]
