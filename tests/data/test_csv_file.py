"""CSV files as programs write them, and the ways in which they are broken."""

import csv
import gzip

import pytest

from octorec.data import csv_file, expanded
from octorec.data.interactions import read_interactions
from octorec.data.items import read_items
from octorec.errors import InputError

HEADER = "user_id,item_id,timestamp\n"
TEXT = HEADER + "07,010,1\n07,NA,2\n"
READ = {"07": ["010", "NA"]}


def write(folder, content, name="log.csv"):
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / name


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (TEXT, "log.csv"),
        (TEXT, "LOG.CSV"),
        (TEXT.rstrip(), "log.csv"),
        (b"\xef\xbb\xbf" + TEXT.encode(), "log.csv"),
        (TEXT.replace("\n", "\r\n"), "log.csv"),
        (TEXT.replace("\n", "\r"), "log.csv"),
        ("\n" + TEXT.replace("\n", "\n\n"), "log.csv"),
        (TEXT.replace(",", ";"), "log.csv"),
        (TEXT.replace(",", "\t"), "log.tsv"),
        (TEXT.replace(",", "|"), "log.csv"),
        (TEXT.replace("\n", ",,\n"), "log.csv"),
        ('"user_id","item_id","timestamp","two\nlines"\n"07","010","1",""\n"07","NA","2",","\n', "log.csv"),
        (gzip.compress(TEXT.encode(), mtime=0), "log.csv.gz"),
    ],
)
def test_one_table_in_every_dress(content, name, tmp_path):
    assert read_interactions(write(tmp_path, content, name)).histories() == READ


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "got 'nothing'; must hold a table"),
        ("\n\n", "got 'blank lines'"),
        (HEADER, "got 'no rows'"),
        (HEADER.strip(), "got 'no rows'"),
        (TEXT.encode("utf-16"), "got 'UTF-16'; save it as UTF-8"),
        (TEXT.encode("utf-16-le"), "NUL bytes.*save it as UTF-8"),
        (f"{HEADER}é,1,2\n".encode("latin-1"), "got 'byte e9 near byte 26 of the file'; is no UTF-8, maybe Latin-1"),
        (f"{HEADER[:-1]},é\na,1,2,3\n".encode("latin-1"), "byte e9"),
        (f"{TEXT * 30_000}é,1,2\n".encode("latin-1"), f"byte e9 near byte {len(TEXT) * 30_000}"),
        (TEXT.encode() * 30_000 + b"\xc3", "is no UTF-8"),
        (b"PK\3\4\0\0", "got 'a zip or Excel file'; its name ends in .csv: in Excel save it as CSV UTF-8"),
        (TEXT * 30_000 + "a\0,b,1\n", "column user_id: got 'NUL bytes'"),
        ("User_ID,item_id,timestamp\na,b,1\n", r"got \['User_ID', 'item_id', 'timestamp'\]; rename 'User_ID' to"),
        ("user_id, item_id,timestamp\na,b,1\n", "rename ' item_id' to 'item_id'"),
        ("user id,item_id,timestamp\na,b,1\n", "rename 'user id' to 'user_id'"),
        ("uid,item,time\na,b,1\n", r"got \['uid', 'item', 'time'\]; column user_id is missing"),
        (HEADER + "a,b\n", "Expected 3 columns, got 2"),
        (HEADER + "a,b,1,\n", "Expected 3 columns, got 4"),
        (HEADER + '"a",b\n', "line 2: got '2 values'; 3 in the header"),
        (HEADER + 'a,b,"1\nc,d,2\n', "line 3: got 'unexpected end of data'"),
        (HEADER + 'a,"b,1\nc,"d",2\n', "line 3: got .*a value with quotes stands in quotes"),
        (HEADER + "a,b,99999999999999999999\n", "column timestamp: got 'a number of 2.63 or more in row 1'"),
        (HEADER + "a,b,\n", "column timestamp: got 'null in row 1'"),
        (HEADER + "a,b,1\na,b,soon\n", "column timestamp, row 2: got 'soon'; known: numbers, and ISO 8601"),
        ("," * 20_000 + "\n", "got 20001; at most 10000"),
        ("," * csv_file.HEAD, "must end within"),
        ("x" * csv_file.HEAD, "header: got 'xxx"),
    ],
)
def test_broken_files_are_refused_by_name(content, message, tmp_path):
    path = write(tmp_path, content)
    with pytest.raises(InputError, match=message) as caught:
        read_interactions(path)
    assert caught.value.field.startswith(str(path))


def test_quotes_that_swallow_rows_are_found(tmp_path):
    for title in ('"Alien', '"Alien\n8,"Aliens"'):
        with pytest.raises(InputError, match=r"line [34]"):
            read_items(write(tmp_path, f"item_id,title\n7,{title}\n9,Heat\n"))
    items = read_items(write(tmp_path, 'item_id,title\n7,5" pipe\n8,"say ""hi"""\n'))
    assert items["title"].to_pylist() == ['5" pipe', 'say "hi"']


@pytest.mark.parametrize("count", [10, 30_000])
def test_line_breaks_in_quotes_do_not_depend_on_the_size_of_the_file(count, tmp_path):
    path = tmp_path / "items.csv"
    titles = [f"first {row}\nsecond\r\n{'third ' * 5}" for row in range(count)]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("item_id", "title"), *enumerate(titles)])
    assert read_items(path)["title"].to_pylist() == titles


@pytest.mark.parametrize("title", ["x" * 3_000_000, "x\n" * 1_000_000])
def test_a_value_longer_than_a_block(title, tmp_path):
    path = tmp_path / "items.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("item_id", "title"), ("1", title), ("2", "b")])
    assert read_items(path)["title"].to_pylist() == [title, "b"]


def test_a_row_longer_than_any_block_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_file, "BLOCKS", (2**10, 2**12))
    with pytest.raises(InputError, match="a row above 4096 bytes"):
        read_items(write(tmp_path, "item_id,title\n1," + "x" * 50_000 + "\n2,b\n"))


@pytest.mark.parametrize("content", [b"\x1f\x8b" + b"x" * 40, gzip.compress(TEXT.encode() * 99, mtime=0)[:-10]])
def test_broken_gzip_files(content, tmp_path):
    with pytest.raises(InputError, match=r"must be a whole \.gz file"):
        read_interactions(write(tmp_path, content, "log.csv.gz"))


def test_a_small_gzip_file_may_not_grow_without_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(expanded, "SMALL", 2**20)
    path = write(tmp_path, gzip.compress(HEADER.encode() + b"a,b,1\n" * 2**19), "log.csv.gz")
    with pytest.raises(InputError, match=r"or more in memory.*100 times what it has on disk"):
        read_interactions(path)


def test_a_gzip_file_within_a_gzip_file_is_named(tmp_path):
    path = write(tmp_path, gzip.compress(gzip.compress(TEXT.encode())), "log.csv.gz")
    with pytest.raises(InputError, match=r"a gzip file within a gzip file.*gunzip log.csv.gz"):
        read_interactions(path)
