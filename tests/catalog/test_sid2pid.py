"""sid2pid.json names the items of each semantic ID, with counts."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octorec.catalog.build import restore, withdraw
from octorec.catalog.catalog import Catalog
from octorec.catalog.foreign import read
from octorec.catalog.upsert import upsert
from octorec.data.items import check_items
from octorec.errors import InputError

SIZES = (8192, 8192, 8192)


def entry(pid: Any, count: Any = 1, downsampled: Any = 1, name: str = "pid") -> dict[str, Any]:
    return {name: pid, "count": count, "count_after_downsample": downsampled}


def key(*codes: int) -> str:
    return str(codes[0] * 8192**2 + codes[1] * 8192 + codes[2])


def written(folder: Path, content: Any) -> Path:
    path = folder / "sid2pid.json"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def of(folder: Path, content: Any, sizes: tuple[int, ...] | None = SIZES) -> Catalog:
    return read(written(folder, content), sizes)


SHARED = {
    key(2, 0, 8191): [entry(50, 9, 1), entry(40, 7, 3), entry(30, 2, 3), entry(20, 8, 2)],
    key(0, 7, 1): [entry(9, 4, 4)],
}


def test_items_of_one_sid_go_by_count_after_downsampling_and_ties_by_the_files_order(tmp_path: Path) -> None:
    catalog = of(tmp_path, SHARED)
    assert catalog.item_ids == ["9", "40", "30", "20", "50"]
    assert catalog.codes.tolist() == [[0, 7, 1], *[[2, 0, 8191]] * 4]
    assert catalog.interactions is not None
    assert catalog.interactions.tolist() == [4, 7, 2, 8, 9]  # before downsampling
    assert (catalog.codebook, catalog.as_given, catalog.n_sharing) == (None, True, 4)


def test_the_stride_is_8192_whatever_a_levels_size(tmp_path: Path) -> None:
    content = {key(3, 5, 7): [entry(1)]}
    assert of(tmp_path, content, (4, 6, 8)).codes.tolist() == [[3, 5, 7]]
    assert of(tmp_path, content, None).codebook_sizes == (4, 6, 8)


def test_the_order_outlives_saving_and_changes(tmp_path: Path) -> None:
    catalog = of(tmp_path, SHARED)
    catalog.save(tmp_path / "saved")
    loaded = Catalog.load(tmp_path / "saved")
    assert (loaded.item_ids, loaded.version, loaded.as_given) == (catalog.item_ids, catalog.version, True)
    changed = upsert(loaded, check_items_of({"item_id": ["10", "30"], "codes": [[2, 0, 8191], [0, 7, 1]]}))
    assert changed.item_ids == ["9", "30", "40", "20", "50", "10"]
    assert changed.as_given
    assert restore(withdraw(changed, ["40"]), ["40"]).item_ids == changed.item_ids


def check_items_of(columns: dict[str, Any]) -> Any:
    import pyarrow as pa

    return check_items(pa.table(columns))


@pytest.mark.parametrize("name", ["pid", "iid"])
@pytest.mark.parametrize("pid", [7, "seven", 2**62])
def test_ids_are_integers_or_text(pid: Any, name: str, tmp_path: Path) -> None:
    assert of(tmp_path, {"0": [entry(pid, name=name)]}).item_ids == [str(pid)]


def test_pid_0_is_no_item_and_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert of(tmp_path, {"0": [entry(0), entry(5)], "9": [entry(0)], "11": []}).item_ids == ["5"]
    assert "sid2pid.json: left out 2 rows whose pid is 0, which is no item" in caplog.text


def test_further_fields_and_any_order_of_fields_are_read(tmp_path: Path) -> None:
    one = {"count_after_downsample": 2, "pid": 3, "more": "x", "count": 5}
    catalog = of(tmp_path, {"0": [one, {**entry(4), "tags": ["a"], "note": None}]})
    assert catalog.item_ids == ["3", "4"]
    assert catalog.n_interactions == 6


BAD = [
    ({"-1": [entry(1)]}, "key: got '-1'; must be a . 8192.2"),
    ({"x": [entry(1)]}, "key: got 'x'"),
    ({"": [entry(1)]}, "key: got ''"),
    ({" 1": [entry(1)]}, "key: got ' 1'"),
    ({"01": [entry(1)]}, "key: got '01'"),
    ({"1.0": [entry(1)]}, "key: got '1.0'"),
    ({"\u0663": [entry(1)]}, "key: got"),
    ({str(8192**3): [entry(1)]}, f"key: got '{8192**3}'; .* below {8192**3}"),
    ({"9" * 400: [entry(1)]}, "key: got '999"),
    ('{"\\ud800": [{"pid": 1, "count": 1, "count_after_downsample": 1}]}', "key: got"),
    ('{"5": [{"pid": 1, "count": 1, "count_after_downsample": 1}], "5": []}', "key: got '5'; stands twice"),
    ({"5": [entry(1)], "6": entry(2)}, r"key 6: got 'an object'; must be \[\{"),
    ({"5": [entry(1)], "6": None}, "key 6: got None"),
    ({"5": [entry(1)], "6": [3]}, "key 6: got 3"),
    ({"5": [entry(1)], "6": [None]}, "key 6: got None"),
    ({"5": [entry(1)], "6": [[entry(2)]]}, r"key 6: got \[an object\]"),
    ({"5": [entry(1)], "6": [{}]}, r"key 6: got \[\]"),
    ({"5": [entry(1), {"pid": 1, "count": 1}]}, "key 5: count_after_downsample: got None; .*must be an integer"),
    ({"5": [entry(1), {"pid": 1, "count_after_downsample": 1}]}, "key 5: count: got None"),
    ({"5": [entry(1), {"count": 1, "count_after_downsample": 1}]}, "entries with pid and entries with iid"),
    ({"5": [entry(1)], "6": [entry(None)]}, "key 6: pid: got None; pid must be an integer of 0 or more or text"),
    ({"5": [entry(1)], "6": [entry(2, count="3")]}, "key 6: count: got '3'; count must be an integer of 0 or more"),
    ({"5": [entry(1, count="3")]}, "key 5: count: got '3'"),
    ({"5": [entry(1)], "6": [entry(2, count=-3)]}, "key 6: count: got -3"),
    ({"5": [entry(1)], "6": [entry(2, count=1.5)]}, "key 6: count: got 1.5"),
    ({"5": [entry(1)], "6": [entry(2, count=True)]}, "key 6: count: got True"),
    ({"5": [entry(1, count=True)]}, "key 5: count: got True"),
    ({"5": [entry(1)], "6": [entry(2, downsampled=2**70)]}, "key 6: count_after_downsample: got 11805916"),
    ({"5": [entry(1)], "6": [entry(2, downsampled=2**63)]}, "key 6: count_after_downsample: got 9223372036854775808"),
    ({"5": [entry(1)], "6": [entry(-2)]}, "key 6: pid: got -2"),
    ({"5": [entry(1)], "6": [entry(2.5)]}, "key 6: pid: got 2.5"),
    ({"5": [entry(1)], "6": [entry([2])]}, r"key 6: pid: got \[2\]"),
    ({"5": [entry(1)], "6": [entry({"pid": 3})]}, "key 6|an object within an entry"),
    ({"5": [entry(1)], "6": [entry("a")]}, "pid: got 'integers and text'"),
    ({"5": [entry("a")], "6": [entry("")]}, "pid: got 'empty text in row 2'"),
    ('{"5": [{"pid": "\\ud800", "count": 1, "count_after_downsample": 1}]}', "all text in UTF-8"),
    ({"5": [entry(1)], "6": [entry(2, name="iid")]}, "got 'entries with pid and entries with iid'"),
    ({"5": [entry(1)], "6": [entry(1)]}, r"pid '1': got 'the SIDs \[0, 0, 5\] and \[0, 0, 6\]'; one SID an item"),
    ('{"5": [{"pid": 1, "pid": 2, "count": 1, "count_after_downsample": 1}]}', "stands twice in one object"),
    ('{"5": [{"pid": 1, "count": 1, "count_after_downsample": 1}', "must be a readable JSON file"),
    ('{"5": [{"pid": 1, "count": NaN, "count_after_downsample": 1}]}', "key 5: count: got nan"),
    ('{"5": [{"pid": 1, "count": ' + "9" * 5000 + ', "count_after_downsample": 1}]}', "must be a readable JSON file"),
    ('{"5": [' + '{"a":' * 100_000, "must be a readable JSON file"),
    ('{"5": [{"pid": 1}]} x', "must be a readable JSON file"),
    ({"5": []}, "got 'no items'"),
    ({"5": [entry(0)]}, "got 'no items'"),
    (b'{"5": [{"pid": "\xff"}]}', "cannot be read"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "said"), BAD)
def test_what_is_no_sid2pid_is_refused_by_key(content: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said) as refused:
        of(tmp_path, content)
    assert "sid2pid.json" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octorec.catalog.sid2pid.MOST_BYTES", 20)
    with pytest.raises(InputError, match="bytes; at most 20"):
        of(tmp_path, SHARED)


sids = st.tuples(*[st.integers(0, 3) | st.integers(0, 8191)] * 3)
counts = st.integers(0, 3) | st.integers(0, 2**40)


@given(st.dictionaries(sids, st.lists(st.tuples(counts, counts), max_size=5), min_size=1), st.randoms())
def test_every_item_is_read_with_its_codes_and_in_its_place(found: dict[Any, Any], dice: Any) -> None:
    total = sum(map(len, found.values()))
    if not total:
        return
    pids = dice.sample(range(1, 10 * total + 1), total)
    content, expected = {}, {}
    for sid, entries in found.items():
        named = [entry(pids.pop(), *pair) for pair in entries]
        content[key(*sid)] = named
        expected[sid] = sorted(named, key=lambda one: -one["count_after_downsample"])  # stable
    with tempfile.TemporaryDirectory() as folder:
        catalog = of(Path(folder), content)
    rows = [(one["pid"], one["count"], list(sid)) for sid in sorted(expected) for one in expected[sid]]
    assert catalog.item_ids == [str(pid) for pid, _, _ in rows]
    assert catalog.codes.tolist() == [codes for _, _, codes in rows]
    assert catalog.interactions is not None
    assert catalog.interactions.tolist() == [count for _, count, _ in rows]
