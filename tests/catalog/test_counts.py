"""A catalog keeps how often each item was met: from interactions, from a column, through versions and files."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from octorec.catalog.build import assign, build_catalog, restore, withdraw
from octorec.catalog.catalog import Catalog
from octorec.catalog.counts import counted
from octorec.catalog.index_json import read_index
from octorec.catalog.upsert import upsert
from octorec.data.interactions import Interactions
from octorec.data.items import check_items
from octorec.errors import InputError

ROWS = [(f"u{user}", f"{(user * step) % 9}", step) for user in range(12) for step in range(1, 6)]


def interactions() -> Interactions:
    users, items, times = zip(*ROWS, strict=True)
    return Interactions.from_table(pa.table({"user_id": users, "item_id": items, "timestamp": times}))


def counts_of(catalog: Catalog) -> dict[str, int]:
    assert catalog.interactions is not None
    return dict(zip(catalog.item_ids, catalog.interactions.tolist(), strict=True))


def met(last: int) -> dict[str, int]:
    """How often each item is met in all but the newest `last` interactions of each user."""
    return {str(n): sum(item == str(n) and time <= 5 - last for _, item, time in ROWS) for n in range(9)}


@pytest.mark.parametrize("hold_out", [0, 2])
def test_only_what_is_learned_from_is_counted(hold_out: int) -> None:
    built = build_catalog(interactions(), None, (4, 4), hold_out=hold_out)
    assert counts_of(built) == met(hold_out)
    assert built.n_interactions == sum(met(hold_out).values())
    order = built.popular_order
    assert order is not None
    assert (np.diff(built.interactions[order]) <= 0).all()


def test_items_that_nobody_met_count_0_and_an_own_column_gives_way_to_what_is_counted() -> None:
    items = pa.table({"item_id": [*map(str, range(9)), "new"], "interactions": [7] * 10, "sets": [["a"], ["b"]] * 5})
    assert counts_of(build_catalog(interactions(), items, (4, 4))) == {**met(0), "new": 0}


def test_versions_and_files_keep_counts(tmp_path: Path) -> None:
    items = pa.table({"item_id": [*map(str, range(9))], "sets": [["odd" if n % 2 else "even"] for n in range(9)]})
    built = build_catalog(interactions(), items, (4, 4))
    built.save(tmp_path / "catalog")
    loaded = Catalog.load(tmp_path / "catalog")
    assert counts_of(loaded) == met(0)
    assert loaded.version == built.version
    assert counts_of(restore(withdraw(loaded, ["1"]), ["1"])) == met(0)
    new = pa.table({"item_id": ["new", "newer"], "sets": [["odd"]] * 2})
    grown = assign(loaded, new.append_column("interactions", pa.array([None, 3])))
    assert counts_of(grown) == {**met(0), "new": 0, "newer": 3}
    assert counts_of(assign(loaded, new)) == {**met(0), "new": 0, "newer": 0}
    changed = upsert(loaded, pa.table({"item_id": ["1", "2"], "title": ["one", "two"], "interactions": [None, 5]}))
    assert counts_of(changed) == {**met(0), "2": 5}
    assert counts_of(upsert(loaded, new)) == {**met(0), "new": 0, "newer": 0}


def test_a_catalog_without_counts_stays_as_it_was_and_can_be_given_some(tmp_path: Path) -> None:
    items = check_items(pa.table({"item_id": ["a", "1"], "codes": [[0], [1]]}))
    plain = Catalog.of_items(items, (2,))
    assert plain.interactions is plain.popular_order is None
    plain.save(tmp_path / "plain")
    assert Catalog.load(tmp_path / "plain").version == plain.version
    given = counted(plain, interactions())
    assert counts_of(given) == {"a": 0, "1": met(0)["1"]}
    assert (given.fingerprint, given.version == plain.version) == (plain.fingerprint, False)
    given.save(tmp_path / "given")
    assert counts_of(Catalog.load(tmp_path / "given")) == counts_of(given)


def test_an_imported_catalog_takes_them_from_its_items_or_its_base(tmp_path: Path) -> None:
    index = {str(n): [f"<a_{n % 3}>", f"<b_{n}>"] for n in range(12)}
    (tmp_path / "one.json").write_text(json.dumps(index))
    (tmp_path / "two.json").write_text(json.dumps({**index, "12": ["<a_0>", "<b_11>"]}))
    items = pa.table({"item_id": list(index), "interactions": list(range(12))})
    base = read_index(tmp_path / "one.json", items)
    assert counts_of(base) == {str(n): n for n in range(12)}
    assert counts_of(read_index(tmp_path / "two.json", base=base)) == {**counts_of(base), "12": 0}
    assert read_index(tmp_path / "one.json").interactions is None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (pa.array([-1, 2]), "a negative number"),
        (pa.array(["many", "few"]), "'string'; must hold integers, 0 or more"),
        (pa.array([1.5, 2.0]), "must hold integers, 0 or more"),
        (pa.array([True, False]), "'bool'; must hold integers"),
        (pa.array([float("nan"), 1.0]), "must hold integers"),
        (pa.array([2**64 - 1, 1], pa.uint64()), "must hold integers"),
    ],
)
def test_a_column_of_something_else_is_refused_by_name(values: pa.Array, said: str) -> None:
    with pytest.raises(InputError) as caught:
        check_items(pa.table({"item_id": ["a", "b"], "interactions": values}))
    assert str(caught.value).startswith("items: column interactions")
    assert said in str(caught.value)


def test_whole_floats_are_counts() -> None:
    made = check_items(pa.table({"item_id": ["a", "b"], "interactions": pa.array([3.0, None])}))
    assert made["interactions"].to_pylist() == [3, 0]
