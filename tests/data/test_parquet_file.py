"""Parquet files and folders of files, and what a small one may take in memory."""

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from octorec.data import expanded
from octorec.data.interactions import read_interactions
from octorec.data.items import read_items
from octorec.data.parquet_file import count_rows, read_parts
from octorec.data.parquet_footer import _Reader, read_chunks
from octorec.errors import InputError

TABLE = pa.table({"user_id": ["a", "a", "b"], "item_id": ["1", "2", "1"], "timestamp": [1, 2, 3]})
READ = {"a": ["1", "2"], "b": ["1"]}


@pytest.mark.parametrize("name", ["log.parquet", "log.pq", "log.snappy.parquet", "LOG.PARQUET", "log.parquet.gzip"])
def test_names_of_parquet_files(name, tmp_path):
    pyarrow.parquet.write_table(TABLE, tmp_path / name)
    assert read_interactions(tmp_path / name).histories() == READ


@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "zstd", "brotli", "lz4"])
def test_codecs_pages_and_row_groups(codec, tmp_path):
    path = tmp_path / "log.parquet"
    options = {"compression": codec, "data_page_version": "2.0", "row_group_size": 1, "use_dictionary": ["user_id"]}
    pyarrow.parquet.write_table(TABLE, path, **options)
    assert read_interactions(path).histories() == READ


def test_old_timestamps_of_spark_do_not_wrap(tmp_path):
    years = pa.array(["2020-01-01", "9999-12-31"]).cast(pa.timestamp("us"))
    table = pa.table({"user_id": ["u", "u"], "item_id": ["now", "never"], "timestamp": years})
    pyarrow.parquet.write_table(table, tmp_path / "log.parquet", use_deprecated_int96_timestamps=True)
    assert read_interactions(tmp_path / "log.parquet").histories() == {"u": ["now", "never"]}


def test_columns_that_nobody_asked_for_may_be_anything(tmp_path):
    odd = {"x": [{"a": 1}] * 3, "user_id.x": [1, 2, 3], "codes": [[1], [2, 3], None]}
    pyarrow.parquet.write_table(
        pa.table({**dict(zip(TABLE.column_names, TABLE, strict=True)), **odd}), tmp_path / "l.pq"
    )
    assert read_interactions(tmp_path / "l.pq").histories() == READ


def test_a_folder_is_read_as_all_its_files(tmp_path):
    folder = tmp_path / "log.parquet"
    for part, day in enumerate(["day=1", "day=2"]):
        (folder / day).mkdir(parents=True)
        rows = TABLE.slice(part, 1 + part)
        if part:
            rows = rows.set_column(2, "timestamp", rows["timestamp"].cast(pa.int32()))
        pyarrow.parquet.write_table(rows, folder / day / f"part-{part}.snappy.parquet")
    (folder / "_SUCCESS").touch()
    (folder / "_metadata.parquet").write_text("the writer's own")
    (folder / ".part-0.parquet.crc").touch()
    assert read_interactions(folder).histories() == READ
    pyarrow.csv.write_csv(TABLE, folder / "part.csv")
    with pytest.raises(InputError, match="Parquet and CSV files"):
        read_interactions(folder)


def test_folders_that_are_no_table(tmp_path):
    with pytest.raises(InputError, match="got 'no files'"):
        read_interactions(tmp_path)
    pyarrow.parquet.write_to_dataset(TABLE, tmp_path / "hive", ["user_id"])
    with pytest.raises(InputError, match="column user_id is missing: the names of folders are not read"):
        read_interactions(tmp_path / "hive")
    pyarrow.parquet.write_table(TABLE, tmp_path / "part.parquet")
    (tmp_path / "_delta_log").mkdir()
    with pytest.raises(InputError, match="a Delta table"):
        read_interactions(tmp_path)


def test_names_that_no_file_can_have_are_refused():
    with pytest.raises(InputError, match="File name too long"):
        read_interactions("x" * 5000 + ".parquet")


def test_parts_of_unlike_types_are_refused(tmp_path):
    pyarrow.parquet.write_table(TABLE, tmp_path / "1.parquet")
    pyarrow.parquet.write_table(TABLE.set_column(0, "user_id", pa.array([True] * 3)), tmp_path / "2.parquet")
    with pytest.raises(InputError, match=r"user_id.*must be written alike in all files"):
        read_interactions(tmp_path)


def test_parts_whose_times_have_other_zones_are_one_order(tmp_path):
    for part, (zone, hour) in enumerate([("Europe/Berlin", 10), ("UTC", 9), ("America/New_York", 11)]):
        times = pa.array([hour * 3600], pa.timestamp("s", "UTC")).cast(pa.timestamp("s", zone))
        table = pa.table({"user_id": ["a"], "item_id": [str(hour)], "timestamp": times})
        pyarrow.parquet.write_table(table, tmp_path / f"part-{part}.parquet")
    assert read_interactions(tmp_path).histories() == {"a": ["9", "10", "11"]}


def test_a_partition_whose_name_begins_with_an_underscore_is_of_the_table(tmp_path):
    for part, folder in enumerate(["_day=1", "_temporary", ".day=2"]):
        (tmp_path / folder).mkdir()
        pyarrow.parquet.write_table(TABLE.slice(part, 1), tmp_path / folder / "part.parquet")
    assert read_interactions(tmp_path).histories() == {"a": ["1"]}


ROWS = 3000
LONG = pa.DictionaryArray.from_arrays(pa.array(np.zeros(ROWS, np.int32)), pa.array(["x" * 100_000]))
ZEROS = pa.array(np.zeros(2**20, np.int64))
IDS = pa.array([str(row) for row in range(ROWS)])
EACH = pa.array(np.arange(ROWS + 1, dtype=np.int32))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"item_id": IDS, "title": LONG},
            "its text: got '300 MB or more in memory'; a file of its size may take 268 MB",
        ),
        ({"item_id": IDS, "sets": pa.ListArray.from_arrays(EACH, LONG)}, "its text: got '300 MB or more"),
        ({"item_id": pa.nulls(2**25, pa.string())}, "column item_id and others: got '268 MB or more"),
        ({"item_id": pa.chunked_array([ZEROS] * 40)}, "column item_id and others: got '336 MB or more"),
    ],
)
def test_a_small_file_that_would_take_much_memory_is_refused(columns, message, tmp_path):
    path = tmp_path / "items.parquet"
    pyarrow.parquet.write_table(pa.table(columns), path, compression="zstd")
    assert path.stat().st_size < 500_000
    before = pa.total_allocated_bytes()
    with pytest.raises(InputError, match=message):
        read_items(path)
    assert pa.total_allocated_bytes() - before < 2**24


def test_the_footer_says_what_pyarrow_says(tmp_path):
    columns = {
        "text": ["a", None, "b" * 50] * 100,
        "lists": [[1, 2], None, []] * 100,
        "flags": [True, None, False] * 100,
        "half": pa.array([1.5] * 300).cast(pa.float16()),
        "inner": [{"x": 1.0, "y": ["é"]}] * 300,
    }
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "x.parquet", row_group_size=200)
    about = pyarrow.parquet.read_metadata(tmp_path / "x.parquet")
    chunks = [about.row_group(group).column(leaf) for group in range(2) for leaf in range(about.num_columns)]
    found = read_chunks(tmp_path / "x.parquet", columns)
    assert not read_chunks(tmp_path / "x.parquet", ["other"])
    assert [".".join(chunk.path) for chunk in found] == [chunk.path_in_schema for chunk in chunks]
    width = {"BYTE_ARRAY": 8, "INT64": 8, "BOOLEAN": 1, "FIXED_LEN_BYTE_ARRAY": 2, "DOUBLE": 8}
    for ours, theirs in zip(found, chunks, strict=True):
        size = theirs.num_values * (width[theirs.physical_type] + 8 * (len(ours.path) > 1))
        assert 0 < ours.largest_page < theirs.total_uncompressed_size  # which counts the pages' headers too
        pages = ours.size - size
        assert 0 < pages < theirs.total_uncompressed_size if theirs.physical_type == "BYTE_ARRAY" else pages == 0


def varint(number, width):
    """A 64-bit integer as Thrift writes it, padded to `width` bytes."""
    parts = [(2 * number >> 7 * place) & 127 for place in range(width)]
    return bytes([part | 128 for part in parts[:-1]] + parts[-1:])


def test_a_footer_that_understates_its_pages_is_seen_through(tmp_path, monkeypatch):
    monkeypatch.setattr(expanded, "SMALL", 2**20)
    path = tmp_path / "items.parquet"
    table = pa.table({"item_id": ["x" * 2**22]})
    pyarrow.parquet.write_table(table, path, compression="zstd", use_dictionary=False, write_statistics=False)
    size = pyarrow.parquet.read_metadata(path).row_group(0).column(0).total_uncompressed_size
    content, said = path.read_bytes(), varint(size, 4)
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    assert content[start:].count(said) >= 1
    path.write_bytes(content[:start] + content[start:].replace(said, varint(100, 4)))
    assert pyarrow.parquet.read_metadata(path).row_group(0).column(0).total_uncompressed_size == 100
    with pytest.raises(InputError, match="column item_id and others: got '8 MB or more"):
        read_items(path)


@pytest.mark.parametrize(
    "footer",
    [
        b"\x15",  # ends within a field
        b"\x1c" * 1000 + b"\0" * 1000,  # structs in one another
        b"\x29\xfc\xff\xff\xff\xff\x7f",  # a list of more values than there are bytes
        b"\x16" + b"\xff" * 30,  # an integer without an end
        b"\x19\x1f\0\0",  # a type that does not exist
        b"\0",  # no fields
        b"\x15\x02\x19\x0c\x16\0\x19\x1c\0\0",  # a row group without columns
    ],
)
def test_damaged_footers_are_refused(footer, tmp_path):
    path = tmp_path / "log.parquet"
    path.write_bytes(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(InputError, match=r"log.parquet: got 'a damaged footer or page header'"):
        read_chunks(path, ["user_id"])
    with pytest.raises(InputError, match=r"log.parquet"):
        read_interactions(path)


def test_text_that_is_no_utf8_is_refused(tmp_path):
    pyarrow.parquet.write_table(TABLE, tmp_path / "log.parquet", compression="none", write_statistics=False)
    content = (tmp_path / "log.parquet").read_bytes()
    place = content.index(b"\1\0\0\0a") + 4
    (tmp_path / "log.parquet").write_bytes(content[:place] + b"\xff" + content[place + 1 :])
    with pytest.raises(InputError, match="UTF8"):
        read_interactions(tmp_path / "log.parquet")


def test_long_text_that_nobody_asked_for_costs_nothing(tmp_path):
    pyarrow.parquet.write_table(pa.table({"item_id": IDS, "description": LONG}), tmp_path / "items.parquet")
    assert read_items(tmp_path / "items.parquet").num_rows == ROWS


def test_a_large_file_may_take_more(tmp_path, monkeypatch):
    monkeypatch.setattr(expanded, "SMALL", 1000)
    pyarrow.parquet.write_table(pa.table({"item_id": IDS}), tmp_path / "items.parquet")
    assert read_items(tmp_path / "items.parquet").num_rows == ROWS
    monkeypatch.setattr(expanded, "RATIO", 0.1)
    with pytest.raises(InputError, match="in memory"):
        read_items(tmp_path / "items.parquet")


@pytest.mark.parametrize("content", [b"\x19" * 10_000, b"\x1b" + b"\x01\xbb" * 10_000, b"\x1c" * 10_000])
def test_lists_maps_and_structs_of_a_footer_are_not_followed_for_ever(content: bytes) -> None:
    with pytest.raises(ValueError, match="too deep"):
        _Reader(content, 0).struct(0)  # type: ignore[arg-type]


@pytest.mark.parametrize("group", [1, 3, 10, 100])
def test_parts_are_read_across_row_groups(group, tmp_path):
    table = pa.table({"user_id": [f"u{n}" for n in range(20)], "history": [["a"] * n for n in range(20)]})
    path = tmp_path / "users.parquet"
    pyarrow.parquet.write_table(table, path, row_group_size=group)
    parts = [(0, 4), (4, 1), (9, 8), (19, 1)]
    found = [*read_parts(path, table.column_names, parts)]
    assert [part.to_pylist() for part in found] == [table.slice(*part).to_pylist() for part in parts]
    assert count_rows(path) == 20
