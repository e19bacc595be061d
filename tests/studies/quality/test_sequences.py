"""Text files of histories become interactions, or are refused."""

import pytest

from octorec.errors import InputError
from studies.quality.sequences import read_sequences


def test_sequences_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "s.txt").write_bytes(b"\xef\xbb\xbf1 30 2\r\n2 5\r\n")
    assert read_sequences(tmp_path / "s.txt").histories() == {"1": ["30", "2"], "2": ["5"]}


def test_sequences_keep_their_order(tmp_path):
    path = tmp_path / "beauty.txt"
    path.write_text("1 30 2 7\n\n2 5\n3 7 7 1\n")
    interactions = read_sequences(path)
    assert interactions.histories() == {"1": ["30", "2", "7"], "2": ["5"], "3": ["7", "7", "1"]}
    assert interactions.table["timestamp"].to_pylist() == [0, 1, 2, 0, 0, 1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"1 2 3\n2\n", "line 2"),
        (b"1 2 3\n1 4\n", "line 1 is its too"),
        (b"\n\n", "no lines"),
        (b"\xff 1 2\n", "UTF-8"),
    ],
)
def test_bad_sequences(tmp_path, text, message):
    (tmp_path / "s.txt").write_bytes(text)
    with pytest.raises(InputError, match=message):
        read_sequences(tmp_path / "s.txt")
    with pytest.raises(InputError, match="no such file"):
        read_sequences(tmp_path / "t.txt")
