"""Files of semantic IDs that other projects write, of a few items each."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from octorec.catalog.catalog import Catalog
from octorec.catalog.foreign import import_catalog, open_catalog, read
from octorec.catalog.foreign_kinds import kind_of
from octorec.catalog.tokens import check_tokens
from octorec.errors import InputError

SIZES = (8192, 8192, 8192)
LEVELS = [np.array([100, 101, -1, 103]), np.array([200, 201]), np.array([302, 301, 300])]


def packed(*codes: int) -> int:
    number = 0
    for code in codes:
        number = number * 8192 + code
    return number


def written(folder: Path, content: Any, name: str = "x.dat") -> Path:
    """A file whose name says nothing."""
    path = folder / name
    if isinstance(content, pa.Table):
        pyarrow.parquet.write_table(content, path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def rows(catalog: Catalog) -> list[tuple[str, list[int]]]:
    return list(zip(catalog.item_ids, catalog.codes.tolist(), strict=True))


def entry(pid: Any, count: Any = 1, downsampled: Any = 1, name: str = "pid") -> dict[str, Any]:
    return {name: pid, "count": count, "count_after_downsample": downsampled}


# pid2sid


SIDS = {
    "lists": pa.array([[1, 7, 3], [0, 8191, 2]]),
    "lists of fixed size": pa.array([[1, 7, 3], [0, 8191, 2]], pa.list_(pa.int16(), 3)),
    "integers": pa.array([packed(1, 7, 3), packed(0, 8191, 2)]),
    "text": pa.array(["<|sid_begin|><s_a_1><s_b_7><s_c_3><|sid_end|>", "<s_a_0><s_b_8191><s_c_2>"]),
    "text of one domain": pa.array(["<|video_begin|><s_a_1><s_b_7><s_c_3>", "<|ad_begin|><s_a_0><s_b_8191><s_c_2>"]),
    "bare text": pa.array(["<a_1><b_7><c_3>", "<a_0><b_8191><c_2>"]),
}  # fmt: skip


@pytest.mark.parametrize("columns", [("pid", "sid"), ("pid", "codes"), ("iid", "sid"), ("item_id", "codes")])
@pytest.mark.parametrize("sids", SIDS.values(), ids=SIDS)
def test_a_table_of_sids_is_read_in_each_form(sids: pa.Array, columns: tuple[str, str], tmp_path: Path) -> None:
    path = written(tmp_path, pa.table(dict(zip(columns, (pa.array([12, 5]), sids), strict=True))))
    catalog = read(path, SIZES)
    assert rows(catalog) == [("5", [0, 8191, 2]), ("12", [1, 7, 3])]
    assert (catalog.codebook, catalog.codebook_sizes, catalog.interactions) == (None, SIZES, None)
    assert read(path).codebook_sizes == (2, 8192, 4)


def table(sid: Any, pid: Any = None) -> pa.Table:
    return pa.table({"pid": list(range(1, len(sid) + 1)) if pid is None else pid, "sid": sid})


BAD_TABLES: list[tuple[pa.Table, str]] = [
    (pa.table({"pid": [1]}), "columns: got .*; must have a column sid or codes"),
    (pa.table({"sid": [1]}), "must have a column pid or iid or item_id"),
    (table([[1, 2], [1]]), "column sid: got .*a length that is not the first row's 2 in row 2"),
    (table([[1, -2]]), "column sid: got 'a negative code in row 1'"),
    (table([[1, None]]), "column sid.*null in row 2"),
    (table([[1, 2], None]), "column sid: got 'null in row 2'"),
    (table([[1, 2**40]]), "column sid.*codes must be below"),
    (table([[1.0, 2.0]]), "column sid: got 'list<item: double>'"),
    (table([-1]), "column sid: got 'a number out of range in row 1'; must be a . 8192.2"),
    (table([8192**3]), "column sid: got 'a number out of range in row 1'"),
    (table([1, None]), "column sid"),
    (table([1.5]), "column sid: got 'double'"),
    (table(["<a_1><b_2>", "<a_1>"]), "column sid, row 2: got '<a_1>'"),
    (table(["<a_1><b_2>", "x"]), "column sid, row 2: got 'x'"),
    (table(["x"]), "column sid, row 1: got 'x'"),
    (table(["<b_1><a_2>"]), "column sid, row 1: got '<b_1><a_2>'"),
    (table(["<a_9999999999>"]), "column sid, row 1"),
    (table(["<a_1>", None]), "column sid: got 'null in row 2'"),
    (table([1], pid=[None]), "column pid: got"),
    (table([1], pid=[1.5]), "column pid"),
    (table([1], pid=[""]), "column pid: got 'empty text in row 1'"),
    (table([], pid=[]), "no rows"),
    (table([1, 2], pid=[7, 7]), r"pid '7': got 'the SIDs \[0, 0, 1\] and \[0, 0, 2\]'; one SID an item"),
    (table([1], pid=[0]), "got 'no items'"),
]


@pytest.mark.parametrize(("content", "said"), BAD_TABLES)
def test_what_is_no_table_of_sids_is_refused_by_column_and_row(content: pa.Table, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said) as refused:
        read(written(tmp_path, content))
    assert str(refused.value).startswith(str(tmp_path / "x.dat"))


def test_an_item_may_say_its_sid_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    catalog = read(written(tmp_path, table([5, 5, 6, 0], pid=[7, 7, 8, 0])))
    assert rows(catalog) == [("7", [0, 0, 5]), ("8", [0, 0, 6])]
    assert "left out 1 rows that say an item's SID again" in caplog.text
    assert "left out 1 rows whose pid is 0" in caplog.text


def test_a_truncated_parquet_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, table([1, 2, 3]))
    written(tmp_path, path.read_bytes()[:-9])
    with pytest.raises(InputError, match="must be a whole"):
        read(path)


# codes that a level lacks


def test_codes_beyond_the_models_are_named_and_counted(tmp_path: Path) -> None:
    path = written(tmp_path, table([[n % 9, 1, n] for n in range(30)]))
    said = r"codes of level a: got '4 codes that the level lacks \(5, 6, 7, 8\), of 12 items'; the model's level has 5"
    with pytest.raises(InputError, match=said):
        read(path, (5, 2, 30))
    with pytest.raises(InputError, match=r"29 codes that the level lacks \(1, 2, 3, 4, 5, \.\.\.\), of 29 items"):
        read(path, (9, 2, 1))
    with pytest.raises(InputError, match="levels: got 3; the model has 2"):
        read(path, (9, 2))


def test_only_gaps_that_an_item_needs_are_refused(tmp_path: Path) -> None:
    fits = read(written(tmp_path, table([[0, 1, 2], [3, 0, 0]])), levels=LEVELS)
    assert fits.codebook_sizes == (4, 2, 3)
    check_tokens(fits, LEVELS)
    path = written(tmp_path, table([[0, 1, 2], [2, 0, 0]]))
    with pytest.raises(InputError, match=r"level a: got '1 codes that the level lacks \(2\), of 1 items'; .*no token"):
        read(path, levels=LEVELS)
    with pytest.raises(InputError, match="catalog: codes of level a"):
        check_tokens(read(path, (4, 2, 3)), LEVELS)
    with pytest.raises(InputError, match=r"catalog: codes of level c: got .*the level lacks"):
        check_tokens(read(path, (4, 2, 3)), [*LEVELS[:2], LEVELS[2][:2]])


# JSON lines of token ids


def lines(*objects: Any) -> str:
    return "\n".join(one if isinstance(one, str) else json.dumps(one) for one in objects)


def test_token_ids_become_codes_by_the_models_layout(tmp_path: Path) -> None:
    first = {"item_id": "shoe", "token_ids": [103, 201, 302], "metadata": {"title": "A shoe"}}
    catalog = read(written(tmp_path, lines(first, "", {"item_id": 7, "token_ids": [100, 200, 300]})), levels=LEVELS)
    assert rows(catalog) == [("7", [0, 0, 2]), ("shoe", [3, 1, 0])]
    assert catalog.titles == ["", "A shoe"]
    assert catalog.codebook_sizes == (4, 2, 3)


GOOD = {"item_id": "a", "token_ids": [100, 200, 300]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lines(GOOD, {"item_id": "b"}), "line 2: token_ids: got None; must be a list of 3 token ids"),
        (lines(GOOD, {"token_ids": [1, 2, 3]}), "line 2: item_id: got None"),
        (lines(GOOD, {**GOOD, "item_id": ""}), "line 2: item_id: got ''"),
        (lines(GOOD, {**GOOD, "item_id": 2**70}), "line 2: item_id"),
        (lines(GOOD, {**GOOD, "item_id": True}), "line 2: item_id: got True"),
        (lines(GOOD, {**GOOD, "token_ids": [100, 200]}), r"line 2: token_ids: got \[100, 200\]"),
        (lines(GOOD, {**GOOD, "token_ids": [100, 200, "300"]}), "line 2: token_ids"),
        (lines(GOOD, {**GOOD, "token_ids": [100, 200, -1]}), "line 2: token_ids"),
        (lines(GOOD, {**GOOD, "token_ids": [100, 200, 2**80]}), "line 2: token_ids"),
        (lines(GOOD, {**GOOD, "token_ids": "100 200 300"}), "line 2: token_ids"),
        (lines(GOOD, {"item_id": "b", "token_ids": [100, 300, 200]}), r"item 2: token_ids: got \[100, 300, 200\]"),
        (lines({"item_id": "b", "token_ids": [-1, 200, 300]}), "line 1: token_ids"),
        (lines(GOOD, {**GOOD, "token_ids": [101, 200, 300]}), "item_id 'a': got 'the SIDs"),
        (lines(GOOD, "{"), "line 2: got '{'; is no JSON"),
        (lines(GOOD, "[]"), "line 2: got"),
        (lines({**GOOD, "item_id": "\ud800"}), "must be UTF-8 text"),
        (lines('{"item_id": "a", "token_ids": [1'), "line 1: got .*is no JSON"),
    ],
)
def test_what_are_no_lines_of_tokens_is_refused_by_line(content: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        read(written(tmp_path, content), levels=LEVELS)


def test_token_ids_need_the_models_layout(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="are read beside the model whose tokens they are"):
        read(written(tmp_path, lines(GOOD)))


# MiniOneRec


INDEX = {"0": ["<a_236>", "<b_231>", "<c_226>"], "1": ["<a_3>", "<b_1>", "<c_0>"], "10": ["<a_3>", "<b_1>", "<c_0>"]}
INFO = "<a_236><b_231><c_226>\tA drill\t0\n<a_3><b_1><c_0>\tGlue\twith a tab\t1\n<a_3><b_1><c_0>\tTape\t10\n"


def test_info_lines_give_titles_and_items(tmp_path: Path) -> None:
    catalog = read(written(tmp_path, INFO), (256, 256, 256))
    assert rows(catalog) == [("1", [3, 1, 0]), ("10", [3, 1, 0]), ("0", [236, 231, 226])]
    assert catalog.titles == ["Glue\twith a tab", "Tape", "A drill"]


@pytest.mark.parametrize("place", ["index/../info/Tools_5_2016.txt", "index/Tools.txt"])
def test_an_index_has_the_titles_of_the_info_of_its_name(place: str, tmp_path: Path) -> None:
    for folder in ("index", "info"):
        (tmp_path / folder).mkdir()
    path = written(tmp_path / "index", INDEX, "Tools.index.json")
    assert read(path).titles == ["", "", ""]
    written(tmp_path, "<a_0>\tOther\t0\n", "info/Toys.txt")
    written(tmp_path, INFO, place)
    catalog = read(path, (256, 256, 256))
    assert catalog.titles == ["Glue\twith a tab", "Tape", "A drill"]
    assert rows(catalog) == [("1", [3, 1, 0]), ("10", [3, 1, 0]), ("0", [236, 231, 226])]
    assert catalog.codebook_sizes == (256, 256, 256)
    written(tmp_path, INFO.replace("<a_236>", "<a_2>"), place)
    with pytest.raises(
        InputError, match=r"SID of item '0': got \[2, 231, 226\]; Tools.index.json has \[236, 231, 226\]"
    ):
        read(path)
    written(tmp_path, INFO, "info/Tools.more.txt")
    with pytest.raises(InputError, match=r"info: got .*must be one file"):
        read(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (INFO + "<a_3>\tx\n", "line 4: got"),
        (INFO + "\tx\t3", "SIDs, row 4: got ''"),
        (INFO + "<a_3><b_1>\tx\t3", "SIDs, row 4: got '<a_3><b_1>'"),
        (INFO + "<a_3><b_1><c_1>\tx\t", "line 4"),
        (INFO + "<a_3><b_1><c_1>\tx\t10", "item_id '10': got 'the SIDs"),
        (INFO.encode() + b"\xff", "cannot be read"),
        (INFO.replace("\n", "\r"), "line 1: got .* has a carriage return inside"),
    ],
)
def test_what_is_no_info_is_refused_by_line(content: str | bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        read(written(tmp_path, content))


def test_an_index_that_needs_more_codes_than_the_model_has_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, INDEX)
    with pytest.raises(InputError, match=r"codes of level a: got '1 codes that the level lacks \(236\), of 1 items'"):
        read(path, (48, 256, 256))
    assert read(path, (256, 256, 256)).codebook_sizes == (256, 256, 256)


def test_an_index_takes_items_and_a_base_and_other_files_do_not(tmp_path: Path) -> None:
    index = written(tmp_path, INDEX)
    items = pa.table({"item_id": ["0", "1", "10"], "title": ["a", "b", "c"]})
    base = import_catalog(index, items, (256, 256, 256))
    assert import_catalog(index, base=base).titles == ["b", "c", "a"]
    assert import_catalog(index).titles == ["", "", ""]
    other = written(tmp_path, {"5": [entry(1)]}, "y")
    for given in ({"items": items}, {"base": base}):
        with pytest.raises(InputError, match=f"^{next(iter(given))}: .*goes with an .index.json alone"):
            import_catalog(other, **given)


# which kind a file is


KINDS = {"sid2pid": {"5": [entry(1)]}, "index": INDEX, "info": INFO, "lines": lines(GOOD), "parquet": table([1])}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["sid2pid.json", "x.index.json", "x.jsonl", "x.parquet", "x"])
def test_a_kind_is_told_by_content_and_not_by_name(kind: str, name: str, tmp_path: Path) -> None:
    assert kind_of(written(tmp_path, KINDS[kind], name)) == kind
    if isinstance(KINDS[kind], str):
        assert kind_of(written(tmp_path, "\ufeff" + KINDS[kind], name)) == kind


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        (" ", "must begin as one of"),
        ("{}", "has no items"),
        ("[]", "must begin as one of"),
        ("null", "must begin as one of"),
        ('{"5": 3}', "must begin as one of"),
        ('{"5": [3]}', "must begin as one of"),
        ("user_id,item_id\n1,2\n", "must begin as one of"),
        (b"\xff\xfe{\x00", "is UTF-16 and must be UTF-8: iconv -f UTF-16"),
        (b"\x1f\x8b\x08", "a gzip file"),
        ("version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS'; .*git lfs pull"),
        ("<!DOCTYPE html>", "a web page"),
        ("{" * 100_000, "must begin as one of"),
    ],
)
def test_what_is_of_no_kind_is_refused(content: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        read(written(tmp_path, content))


def test_a_folder_is_opened_too_and_what_is_missing_is_refused(tmp_path: Path) -> None:
    catalog = read(written(tmp_path, KINDS["sid2pid"]), SIZES)
    catalog.save(tmp_path / "saved")
    assert (
        open_catalog(tmp_path / "saved").version == catalog.version == open_catalog(tmp_path / "x.dat", SIZES).version
    )
    with pytest.raises(InputError, match="there is no such file"):
        open_catalog(tmp_path / "none")
    with pytest.raises(InputError, match=r"must be a folder that holds catalog\.json"):
        open_catalog(tmp_path)
