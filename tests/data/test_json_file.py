"""JSON lines: values as they are written, bounds, and every refusal."""

import gzip
import json

import pytest

from octorec.data import expanded, json_file
from octorec.data.interactions import read_interactions
from octorec.data.items import read_items
from octorec.data.tables import read_table
from octorec.data.users import read_users
from octorec.errors import InputError

GOOD = [
    {"user_id": "07", "item_id": 10, "timestamp": 2, "rating": "good", "more": {"a": [1]}},
    {"timestamp": 1.5, "item_id": 9, "user_id": "07", "rating": 3},
]
LINE = '{"user_id": "a", "item_id": "b", "timestamp": 1}\n'


def lines(rows):
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def write(folder, content, name="log.jsonl"):
    content = content.encode() if isinstance(content, str) else content
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return folder / name


@pytest.mark.parametrize("name", ["log.jsonl", "log.jsonl.gz", "log.ndjson", "LOG.JSONL"])
@pytest.mark.parametrize("end", ["\n", "\n\n", "\r\n"])
def test_json_lines_are_read(name, end, tmp_path):
    path = write(tmp_path, "\ufeff" + lines(GOOD).replace("\n", end).rstrip(), name)
    assert read_interactions(path).histories() == {"07": ["9", "10"]}


def test_json_lines_are_read_in_parts_and_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(json_file, "ROWS", 2)
    monkeypatch.setattr(json_file, "SEEN", 1)
    for part in range(2):
        rows = [{"user_id": "u", "item_id": f"{part}{n}", "timestamp": n} for n in range(5)]
        write(tmp_path, lines(rows), f"part-{part}.jsonl")
    assert len(read_interactions(tmp_path)) == 10


def test_items_bring_lists(tmp_path):
    rows = [{"item_id": "a", "sets": ["x", "y"], "vector": [1, 2.5], "live": False}, {"item_id": "b", "vector": [0, 1]}]
    path = write(tmp_path, lines([rows[0], {**rows[1], "live": True}]))
    found = read_items(path).to_pydict()
    assert (found["sets"], found["vector"], found["live"]) == ([["x", "y"], []], [[1, 2.5], [0, 1]], [False, True])


def test_users_may_lack_fields_and_bring_them_late(tmp_path, monkeypatch):
    monkeypatch.setattr(json_file, "SEEN", 1)
    path = write(tmp_path, lines([{"user_id": "a"}, {"user_id": "b", "plan": "007", "age": 3}]))
    assert read_users(path) == {"a": {}, "b": {"plan": "007", "age": 3}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "got 'nothing'; must hold a table"),
        (LINE + "[1]\n", "line 2: got [1]; must be an object"),
        (LINE + "{]\n", "line 2: got '{]"),
        (LINE + '{"a": ' + "[" * 200_000 + "\n", 'line 2: got \'{"a": [[['),
        (LINE + '{"a": ' + "1" * 5000 + "}\n", "is no JSON"),
        (LINE.replace("item_id", "user_id"), 'line 1: got \'{"user_id": "a"'),
        (LINE.replace('"a"', "null"), "column user_id: got 'null in row 1'"),
        (LINE + LINE.replace('"a"', "1"), "column user_id: got 'integers and text"),
        (LINE + LINE.replace('"b"', str(2**70)), "column item_id"),
        (LINE.replace('"b"', "true"), "column item_id: got 'bool'"),
        (LINE.replace('"b"', '{"a": 1}'), "column item_id: got 'struct"),
        (LINE.replace('"b"', '"\\ud800"'), "column item_id"),
        (LINE + '{"user_id": "a", "timestamp": 1}\n', "column item_id: got 'null in row 2'"),
        (LINE.replace(": 1", ": NaN"), "column timestamp: got 'NaN or infinity"),
        (LINE.encode() + b'{"user_id": "\xff"}', "byte ff near byte 62 of the file"),
        ('{"user_id": "a", "timestamp": 1}\n', "got ['user_id', 'timestamp']; column item_id is missing"),
    ],
)
def test_bad_lines_are_refused_by_name(content, message, tmp_path):
    with pytest.raises(InputError) as caught:
        read_interactions(write(tmp_path, content))
    assert message in str(caught.value)


def test_a_small_file_cannot_ask_for_much_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(expanded, "SMALL", 2**16)
    with pytest.raises(InputError, match="a file of its size may take"):
        read_interactions(write(tmp_path, LINE * 20_000, "bomb.jsonl.gz"))
    names = {f"name {n}": None for n in range(500)}
    with pytest.raises(InputError, match="its rows and columns: got"):
        read_table(write(tmp_path, lines([{"user_id": "a", **names}]) + "{}\n" * 20_000), ["user_id"])


def test_long_lines_and_many_names_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(json_file, "LONGEST", 1000)
    monkeypatch.setattr(json_file, "MOST_COLUMNS", 5)
    with pytest.raises(InputError, match="line 2: got 'more than 1000 bytes'"):
        read_interactions(write(tmp_path, LINE + LINE.replace("b", "b" * 1000)))
    with pytest.raises(InputError, match="columns: got 6; at most 5"):
        read_interactions(write(tmp_path, lines([dict.fromkeys("abcdef")])))
