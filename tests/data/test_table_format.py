"""Tables with names, separators, times and places of their own: read alike, or refused with what to type."""

import gzip
import shlex

import pyarrow as pa
import pyarrow.parquet
import pytest

from octorec.data.interactions import read_interactions
from octorec.data.items import COLUMNS as ITEM_COLUMNS
from octorec.data.items import read_items
from octorec.data.table_format import TableFormat, parse_format
from octorec.data.users import read_users
from octorec.errors import InputError

KNOWN = ("user_id", "item_id", "timestamp", "title", "sets")
READ = {"1": ["010", "x y"], "2": ["010"]}
ROWS = [("1", "x y", "9"), ("1", "010", "8"), ("2", "010", "7")]
UNDER = "user_id=User ID,item_id=movie,timestamp=ts"
PLACES = "user_id=0,item_id=1,timestamp=2"


def text(separator, header="User ID,movie,ts"):
    lines = [header.replace(",", separator)] if header else []
    return "\n".join([*lines, *(separator.join(row) for row in ROWS), ""])


def write(folder, content, name="log.csv"):
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / name


@pytest.mark.parametrize(
    ("content", "name", "sep", "columns"),
    [
        (text(","), "log.csv", None, UNDER),
        (text(";"), "log.csv", ";", UNDER),
        (text("\t"), "log.tsv.gz", "tab", UNDER),
        (text("\t"), "log.txt", "\\t", UNDER),
        (text("::"), "log.dat", "::", UNDER),
        (text("|"), "log.csv", None, "timestamp=ts, item_id=movie ,user_id=User ID"),
        (text(":"), "log", ":", UNDER),
        (text(",", None), "log.csv", None, PLACES),
        (text("::", None), "log.dat", "::", PLACES),
        (text("\t", None), "u.data", "tab", PLACES),
        (text(",", "0,1,2"), "log.csv", None, PLACES),
    ],
)
def test_a_table_of_other_names_is_read_as_ours(content, name, sep, columns, tmp_path):
    content = gzip.compress(content.encode()) if name.endswith("gz") else content
    form = parse_format(sep, columns, None, KNOWN)
    assert read_interactions(write(tmp_path, content, name), form).histories() == READ


def test_the_file_may_have_our_name_for_something_else(tmp_path):
    path = write(tmp_path, "user_id,who,item_id,timestamp\n5,a,x,1\n6,a,y,2\n")
    assert read_interactions(path, TableFormat(columns={"user_id": "who"})).histories() == {"a": ["x", "y"]}


def test_names_are_mapped_in_parquet_too(tmp_path):
    table = pa.table({"uid": [1, 1], "item_id": ["a", "b"], "when": ["2024-01-05T10:00:00Z", "2024-01-05T10:00:00+02"]})
    pyarrow.parquet.write_table(table, tmp_path / "log.parquet")
    form = TableFormat(columns={"user_id": "uid", "timestamp": "when"})
    assert read_interactions(tmp_path / "log.parquet", form).histories() == {"1": ["b", "a"]}


def test_one_flag_serves_the_items_and_users_beside_the_interactions(tmp_path):
    form = parse_format(None, "user_id=uid,item_id=movieId,timestamp=ts,items.sets=genres,users.age=Alter", None, KNOWN)
    items = write(tmp_path, "movieId,title,genres\n1,T,a|b\n", "items.csv")
    assert read_items(items, form.of("items", ITEM_COLUMNS)).to_pylist() == [
        {"item_id": "1", "title": "T", "sets": ["a", "b"]}
    ]
    own = write(tmp_path, "item_id,genres\n1,a\n", "own.csv")
    assert read_items(own, form.of("items", ITEM_COLUMNS))["sets"].to_pylist() == [["a"]]
    users = write(tmp_path, "uid,Alter,plan\nu1,30,free\n", "users.csv")
    assert read_users(users, form=form.of("users", ("user_id", "age"))) == {"u1": {"age": 30, "plan": "free"}}


def test_places_are_the_interactions_own(tmp_path):
    form = parse_format(None, "user_id=0,item_id=1,timestamp=2,items.item_id=0,items.title=1", None, KNOWN)
    items = write(tmp_path, "1|Toy Story\n2|Heat\n", "items.csv")
    assert read_items(items, form.of("items", ITEM_COLUMNS))["title"].to_pylist() == ["Toy Story", "Heat"]
    plain = parse_format(None, PLACES, None, KNOWN)
    with pytest.raises(InputError, match=r"--columns \.\.\.,items\.item_id=0"):
        read_items(items, plain.of("items", ITEM_COLUMNS))


@pytest.mark.parametrize(
    ("sep", "columns", "time_format", "message"),
    [
        ("x", None, None, "sep: got 'x'; allowed: , ; | : tab space ::"),
        (None, "user_id", None, "columns: got 'user_id'; must be our name = the file's"),
        (None, "user_id=", None, "columns: got 'user_id='"),
        (None, "", None, "columns: got ''"),
        (None, "usr=uid", None, "columns: got 'usr'; unknown name; ours are user_id, item_id, timestamp"),
        (None, "user_id=a,user_id=b", None, "user_id is given twice"),
        (None, "user_id=a,item_id=a", None, "columns: got 'a'; one column cannot be user_id and item_id"),
        (None, "user_id=0,item_id=movie", None, "must be names of a header or places from 0, not both"),
        (None, None, "soon", "time_format: got 'soon'; must be as strptime has it"),
    ],
)
def test_bad_flags_are_refused_by_name(sep, columns, time_format, message):
    with pytest.raises(InputError) as caught:
        parse_format(sep, columns, time_format, KNOWN)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        (text(","), "user_id=uid", "columns: user_id: got 'uid'; {path} has no such column; found: User ID, movie, ts"),
        (text(","), "user_id=7,item_id=0,timestamp=1", "got '7'; {path} has no such column; places go from 0 to 2"),
        ("uid,uid,item_id,timestamp\na,b,c,1\n", "user_id=uid", "each name may stand once; duplicated: uid"),
        ("userId,movieId,ts\na,b,1\n", PLACES, "is a header, so name columns by it: --columns user_id=userId,item_id"),
    ],
)
def test_columns_that_the_file_lacks_are_refused(content, columns, message, tmp_path):
    path = write(tmp_path, content)
    with pytest.raises(InputError) as caught:
        read_interactions(path, parse_format(None, columns, None, KNOWN))
    assert message.format(path=path) in str(caught.value)


ADVISED = [
    (text(",", None), "log.csv"),
    (text("\t", None).replace(" ", ""), "log.dat"),
    (text("::", None).replace(" ", ""), "log.csv"),
    (text("::", None).replace(" ", ""), "log.dat"),
    (text(";", "userId;movieId;rated_at"), "log.csv"),
    (text(":", "uid:item:ts"), "log.csv"),
    (text(",", "User_ID,ITEM ID,Time"), "log.csv"),
    (text(",", "user_id:token,item_id:token,timestamp:float"), "log.csv"),
    (text(" ", "user item time").replace("x y", "xy"), "log.csv"),
    (text(" ", "user item time").replace("x y", "xy"), "log.txt"),
    (text(",").replace("9", "05.01.2024").replace("8", "04.01.2024").replace("7", "03.01.2024"), "log.csv"),
    (text(",", "user_id, item_id,timestamp"), "log.csv"),
    ('{"visitorid": "1", "asin": "010", "time": "2024-01-05 10:00"}\n', "log.jsonl"),
]


@pytest.mark.parametrize(("content", "name"), ADVISED)
def test_the_flags_that_an_error_names_mend_it(content, name, tmp_path):
    """A person who types what the errors say, one after the other, gets the table read."""
    path, given = write(tmp_path, content, name), {}
    while True:
        form = parse_format(given.get("--sep"), given.get("--columns"), given.get("--time-format"), KNOWN)
        try:
            found = read_interactions(path, form).histories()
        except InputError as error:
            words = shlex.split(error.allowed)
            new = {words[at]: words[at + 1] for at, word in enumerate(words) if word.startswith("--")}
            if new.items() <= given.items():
                raise
            given |= new
        else:
            break
    assert given
    assert "010" in found["1"]


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"PK\3\4" + b"x" * 99, "log.csv", "got 'a zip or Excel file'; its name ends in .csv: in Excel save it as CSV"),
        (b"PAR1" + b"x" * 99, "log.csv", "got 'a Parquet file'; its name ends in .csv: rename it to end in .parquet"),
        (
            gzip.compress(b"user_id", mtime=0),
            "log.csv",
            "got 'a gzip file'; its name ends in .csv: add .gz to its name",
        ),
        (b"user_id,item_id,timestamp\n", "log.csv.gz", "got 'no gzip file'; take .gz from its name"),
        (b"user_id,item_id,timestamp\n", "log.parquet", "got 'text'; must be a whole Parquet file; the name of a CSV"),
        (b'{"user_id": 1}\n', "log.csv", "this looks like JSON: the name of JSON lines, an object a line, ends in"),
        (b"[1]", "log.json", "a JSON array is not read: write an object a line, with jq"),
        (b'{"user_id": 1}\n', "log.json", "rename JSON lines, an object a line, to end in .jsonl"),
        (b"[\n{}]", "log.jsonl", "got 'a JSON array'; must be JSON lines"),
        (b"user_id,item_id\n", "log.jsonl", "line 1: got 'user_id,item_id"),
        (b"<!DOCTYPE html><html>", "log.csv", "got 'a web page'"),
        ("a,b\n".encode("utf-32"), "log.csv", "got 'UTF-32'; save it as UTF-8"),
        ("user_id,b\n".encode("utf-16-be"), "log.csv", "looks like UTF-16 without a byte order mark: save it as UTF-8"),
        (b"J\xf6rg,b\n", "log.csv", "maybe Latin-1 (Windows-1252): save it as UTF-8 (in Excel: CSV UTF-8), or: iconv"),
        (b"sep=;\nuser_id;item_id;timestamp\n", "log.csv", "remove the first line, 'sep=;'"),
        (b"# made today\nuser_id;item_id;timestamp\n", "log.csv", "line 2 looks like the header: remove what stands"),
        (b"  \nuserId,movie\n", "log.csv", "line 2 looks like the header: remove what stands before it"),
        (b"user_id,item_id\n1,2\n", "log.csv", "column timestamp is missing, and there is no other column that"),
        (b"user_id,item_id,timestamp\n1,2,3,4\n", "log.csv", "a value that holds the separator stands in quotes"),
        (b"a,b,c\n1,2,3\n", "log.csv", "--columns user_id=NAME,item_id=NAME,timestamp=NAME"),
        (b"user_id,title,timestamp\n1,2,3\n", "log.csv", "--columns item_id=NAME"),
    ],
)
def test_what_a_file_really_is_gets_named(content, name, message, tmp_path):
    with pytest.raises(InputError) as caught:
        read_interactions(write(tmp_path, content, name))
    assert message in str(caught.value)
