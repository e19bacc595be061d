"""Items come, change, go and come back under one codebook: all of a change or nothing, and what changed is counted."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from octorec.catalog.build import build_catalog, withdraw
from octorec.catalog.catalog import Catalog
from octorec.catalog.change import Change, change_items
from octorec.catalog.same_codebook import difference
from octorec.data.items import check_items
from octorec.errors import InputError

SIZES = (4, 4, 4)


def embedded(unique: bool = False, sizes: tuple[int, ...] = SIZES) -> Catalog:
    vectors = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    titles = [f"Title {i}" for i in range(40)]
    sets = [["even" if i % 2 == 0 else "odd"] for i in range(40)]
    columns = {"item_id": list(map(str, range(40))), "title": titles, "sets": sets, "vector": list(vectors)}
    return build_catalog(None, pa.table(columns), sizes, unique=unique)


def imported(n: int = 20) -> Catalog:
    codes = [[i % 4, i // 4 % 4, i % 3] for i in range(n)]
    return Catalog.of_items(check_items(pa.table({"item_id": [str(i) for i in range(n)], "codes": codes})), SIZES)


def row(catalog: Catalog, item: str) -> dict[str, Any]:
    return catalog.items.slice(catalog.index[item], 1).to_pylist()[0]


def counted(**counts: int) -> dict[str, int]:
    return asdict(Change(**counts))


def test_what_a_row_leaves_out_stays_and_an_empty_value_empties() -> None:
    catalog = embedded()
    changes = pa.table(
        {
            "item_id": ["1", "2", "3"],
            "title": ["One", None, ""],
            "sets": pa.array([None, [], ["new"]], pa.list_(pa.string())),
        }
    )
    after, change = change_items(catalog, changes)
    assert (row(after, "1")["title"], row(after, "1")["sets"]) == ("One", ["odd"])
    assert (row(after, "2")["title"], row(after, "2")["sets"]) == ("Title 2", [])
    assert (row(after, "3")["title"], row(after, "3")["sets"]) == ("", ["new"])
    assert after.set_names == ("even", "new", "odd")
    assert asdict(change) == counted(changed=3)
    for item in catalog.item_ids:
        assert row(after, item)["codes"] == row(catalog, item)["codes"]
    assert after.fingerprint == catalog.fingerprint
    assert after.version != catalog.version
    assert row(catalog, "1")["title"] == "Title 1"


def test_a_vector_gives_codes_anew_and_new_items_have_theirs_or_predicted_ones() -> None:
    catalog = embedded()
    assert catalog.codebook is not None
    vectors: Any = [[5.0, -5.0, 5.0], None, [0.5, 0.5, 0.5], None]
    changes = pa.table({"item_id": ["0", "1", "new", "told"], "vector": vectors, "sets": [None, ["x"], None, ["odd"]]})
    after, change = change_items(catalog, changes)
    expected = catalog.codebook.assign(np.array([vectors[0], vectors[2]], np.float32))
    assert row(after, "0")["codes"] == expected[0].tolist()
    assert row(after, "new")["codes"] == expected[1].tolist()
    assert row(after, "1")["codes"] == row(catalog, "1")["codes"]
    assert len(after) == 42
    assert asdict(change) == counted(added=2, changed=2, recoded=1)
    assert difference(after, catalog) is None


def test_where_tuples_are_unique_they_stay_so() -> None:
    catalog = embedded(unique=True, sizes=(4, 4, 12))
    vector = [1.0, 1.0, 1.0]
    names = ["0", "1", "a", "b"]
    after, _ = change_items(catalog, pa.table({"item_id": names, "vector": [vector] * 4}))
    assert len(np.unique(after.codes, axis=0)) == len(after) == 42
    for item in set(catalog.item_ids) - set(names):
        assert row(after, item)["codes"] == row(catalog, item)["codes"]


def test_an_imported_catalog_takes_codes_and_stays_of_its_codebook(tmp_path: Any) -> None:
    catalog = imported()
    changes = pa.table({"item_id": ["3", "a"], "codes": [[0, 0, 3], [1, 2, 3]], "title": ["Three", "A"]})
    after, change = change_items(catalog, changes, withdrawn=["4"])
    assert row(after, "3") == {"item_id": "3", "title": "Three", "codes": [0, 0, 3], "sets": [], "live": True}
    assert row(after, "a")["codes"] == [1, 2, 3]
    assert asdict(change) == counted(added=1, changed=1, recoded=1, withdrawn=1)
    assert difference(after, catalog) is None
    after.save(tmp_path / "after")
    loaded = Catalog.load(tmp_path / "after")
    assert (loaded.version, loaded.fingerprint) == (after.version, catalog.fingerprint)
    again, nothing = change_items(loaded, changes, withdrawn=["4"])
    assert again is loaded
    assert asdict(nothing) == counted(unchanged=3)


def test_upserts_come_before_withdrawals_and_restorals() -> None:
    catalog = withdraw(embedded(), ["5", "6"])
    changes = pa.table({"item_id": ["new", "5"], "vector": [[0.0, 0.0, 0.0]] * 2})
    after, change = change_items(catalog, changes, withdrawn=["new", "7", "6"], restored=["5", "8"])
    assert [row(after, item)["live"] for item in ("new", "5", "6", "7", "8")] == [False, True, False, False, True]
    moved = row(after, "5")["codes"] != row(catalog, "5")["codes"]
    assert asdict(change) == counted(added=1, changed=moved, recoded=moved, withdrawn=2, restored=1, unchanged=2)
    back, _ = change_items(after, restored=["new", "7"])
    assert row(back, "7")["codes"] == row(catalog, "7")["codes"]
    assert int(back.trie.levels[0].child_live.sum()) == 40


IMPORTED, EMBEDDED = imported(), embedded()
REFUSED: dict[str, tuple[Catalog, dict[str, Any], str]] = {
    "two unknown": (EMBEDDED, {"withdrawn": ["nope", "1", "no"]}, "withdraw: got '2 unknown items: nope, no'"),
    "one unknown": (EMBEDDED, {"restored": ["nope"]}, "restore: got 'nope'"),
    "in both": (EMBEDDED, {"withdrawn": ["1", "2"], "restored": ["2"]}, "withdraw: got '2'"),
    "twice": (EMBEDDED, {"upserts": {"item_id": ["1", "1"]}}, "stands more than once"),
    "no id": (EMBEDDED, {"upserts": {"item_id": [""]}}, "empty text"),
    "codes of a codebook": (EMBEDDED, {"upserts": {"item_id": ["1"], "codes": [[1, 1, 1]]}}, "leave the column out"),
    "a vector too wide": (EMBEDDED, {"upserts": {"item_id": ["1"], "vector": [[1.0] * 4]}}, "width 3"),
    "a vector of NaN": (EMBEDDED, {"upserts": {"item_id": ["1"], "vector": [[np.nan] * 3]}}, "NaN or infinity"),
    "nothing known": (EMBEDDED, {"upserts": {"item_id": ["1", "x"], "title": ["a", None]}}, "nothing is known: x"),
    "no codes": (IMPORTED, {"upserts": {"item_id": ["1", "x", "y"], "title": ["a"] * 3}}, "2 new items without codes"),
    "a code too large": (IMPORTED, {"upserts": {"item_id": ["1", "2"], "codes": [[0] * 3, [0, 4, 0]]}}, "codes of '2'"),
    "a level too few": (IMPORTED, {"upserts": {"item_id": ["1"], "codes": [[0, 1]]}}, "must be 3 codes below"),
    "a negative code": (IMPORTED, {"upserts": {"item_id": ["1"], "codes": [[0, -1, 0]]}}, "a negative code in row 1"),
    "counts where there are none": (IMPORTED, {"upserts": {"item_id": ["1"], "interactions": [3]}}, "has no counts"),
    "vectors": (IMPORTED, {"upserts": {"item_id": ["1"], "vector": [[1.0]]}}, "give `codes`, not vectors"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_named_and_changes_nothing(name: str) -> None:
    catalog, changes, message = REFUSED[name]
    before = catalog.version
    if "upserts" in changes:
        changes = {**changes, "upserts": pa.table(changes["upserts"])}
    with pytest.raises(InputError) as caught:
        change_items(catalog, **changes)
    assert message in str(caught.value)
    assert catalog.version == before
