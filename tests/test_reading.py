"""Small files of others: what is read, and what is refused by name, soon and without waiting."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from octorec.errors import InputError
from octorec.reading import MOST_YAML, read_text, read_yaml


def written(tmp_path: Path, content: bytes | str) -> Path:
    path = tmp_path / "file"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "broken").symlink_to(tmp_path / "nothing")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for path in ("pipe", "broken", "circle", "nothing", ".", "a" * 5000, "a\0b", "/dev/null", "/dev/zero"):
        with pytest.raises(InputError, match=r"^config: got"):
            read_text(tmp_path / path, "config")


@contextmanager
def without_roots_rights() -> Iterator[None]:
    """Be nobody for a while where the tests run as root, who may read everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_file_that_may_not_be_read_is_refused() -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders let nobody in
        os.chmod(folder, 0o755)
        path = written(Path(folder), "{}")
        path.chmod(0)
        with without_roots_rights(), pytest.raises(InputError, match="Permission denied"):
            read_text(path, "config")


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = written(tmp_path, b'\xef\xbb\xbf{"a": 1}\r\n')
    assert read_yaml(path, "config") == {"a": 1}


def test_what_is_no_utf8_is_refused(tmp_path: Path) -> None:
    for content in (b'{"a": "\xff"}', "{}".encode("utf-16")):
        for read in (read_text, read_yaml):
            with pytest.raises(InputError, match="cannot be read"):
                read(written(tmp_path, content), "config")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\na: 2", "'a' stands twice"), ("x: {a: 1, a: 1}", "stands twice"), ("[" * 999, "nested too deeply"),
        ("- " * 10_000, "nested too deeply"), ("a: 2026-99-99", "is no YAML"), ("a: 1\n b: 2", "line 2"),
        ("9" * 5000, "4300"), ("a: &a {x: 1}\nb: {<<: *a}", "merge keys"), ("a: !!python/object:os.system x", "tag"),
        ("? [a, b]\n: 1\n? {a: 1}\n: 1", "unhashable"), ("a: *b", "alias"), ("a: 1" + ":9" * 999 + ".5", "is no YAML"),
        ("a: !!bool maybe", "is no YAML"), ('a: !!int ""', "is no YAML"), ('a: !!float ""', "is no YAML"),
        ("a: !!timestamp soon", "is no YAML"),
        ("#" * (MOST_YAML + 1), "at most"), ("a: \x07", "is no YAML"), ("--- a\n--- b", "single document"),
    ],
    ids=lambda value: value[:20],
)  # fmt: skip
def test_yaml_is_read_strictly(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        read_yaml(written(tmp_path, text), "config")
    assert "\n" not in str(caught.value)


def test_yaml_aliases_are_read(tmp_path: Path) -> None:
    assert read_yaml(written(tmp_path, "a: &a [1]\nb: *a"), "config") == {"a": [1], "b": [1]}
