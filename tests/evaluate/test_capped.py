"""What evaluation says of caps, against lists whose figures are known."""

from types import SimpleNamespace

import numpy as np

from octorec.catalog.codebook import Codebook
from octorec.evaluate.capped import Diversity, diversity, effect
from octorec.evaluate.metrics import ranked_items

CODEBOOK = Codebook((np.array([[1, 0], [0, 1], [1, 0.01]], np.float32),))
CATALOG = SimpleNamespace(
    index={"a": 0, "b": 1, "c": 2},
    sets=[["x"], ["y"], ["x", "z"]],
    codes=np.array([[0], [1], [2]], np.int32),
    codebook=CODEBOOK,
)


def test_diversity_counts_sets_and_near_duplicates() -> None:
    assert diversity(CATALOG, ranked_items([["a", "c"], ["a", "b"]], 2)) == Diversity(2.0, 0.75, 0.25)
    bare = SimpleNamespace(**{**vars(CATALOG), "codebook": None})
    assert diversity(bare, ranked_items([["a"]], 2)).near is None


def test_the_effect_is_that_of_lists_with_caps_on_lists_without() -> None:
    without, under = ranked_items([["a", "c"], ["a", "b"]], 2), ranked_items([["a", "b"], ["a"]], 2)
    found = effect(CATALOG, {"caps": {"x": 1}}, under, without, [("c",), ("a",)], np.array(["u", "v"], dtype=object))
    assert (found.changed, found.short) == (1.0, 0.5)
    assert (found.without["recall@2"], found.under["recall@2"]) == (1.0, 0.5)
    assert found.difference["recall@2"].value == -0.5
    assert found.diversity_without.near == 0.25
    assert found.diversity_under.near == 0
    assert found.lines()[0] == "caps (caps x=1) changed 100.0% of the lists; 50.0% are short"
    assert found.to_dict()["diversity"]["under"]["sets"] == 1.5
