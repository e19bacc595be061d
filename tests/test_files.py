"""Nobody meets half a file or half a folder, and nothing is lost when a write fails."""

from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from octorec.errors import InputError
from octorec.files import json_text, new_file, new_folder, refuse_existing, refuse_unwritable


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fail_within(writing: AbstractContextManager[Path], name: str = "") -> None:
    with writing as scratch:
        (scratch / name if name else scratch).write_text("half")
        raise ZeroDivisionError


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out") as scratch:
        (scratch / "a").write_text("1")
        assert names(tmp_path) == [scratch.name]
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out" / "a").read_text() == "1"


def test_a_failed_folder_leaves_nothing_and_keeps_the_old_one(tmp_path: Path) -> None:
    for force in (False, True):
        with pytest.raises(ZeroDivisionError):
            fail_within(new_folder(tmp_path / "out", force), "a")
        assert names(tmp_path) == (["out"] if force else [])
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / "old").write_text("old")
    assert names(tmp_path / "out") == ["old"]


def test_an_existing_folder_is_replaced_only_by_force(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")
    with pytest.raises(InputError, match=r"out: got .*it exists already"), new_folder(tmp_path / "out"):
        pass
    with new_folder(tmp_path / "out", force=True) as scratch:
        (scratch / "new").write_text("new")
    assert names(tmp_path / "out") == ["new"]
    assert names(tmp_path) == ["out"]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError):
        fail_within(new_file(path))
    assert path.read_text() == "old"
    with new_file(path) as scratch:
        scratch.write_text("new")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["rows.json"]


def test_json_has_null_where_a_number_is_not_finite() -> None:
    nan, inf = float("nan"), float("inf")
    text = json_text({"a": nan, "b": [inf, 1.5, (-inf,)], "c": {"d": None, "e": "NaN"}, "f": 3, "g": True})
    assert text == '{"a": null, "b": [null, 1.5, [null]], "c": {"d": null, "e": "NaN"}, "f": 3, "g": true}'
    assert json_text([nan], indent=1) == "[\n null\n]"


def test_where_nothing_can_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "broken").symlink_to(tmp_path / "nothing")
    (tmp_path / "there").mkdir()
    for name in ("file/out", "file/a/b", "broken", "a" * 300, "a\0b", "there", "there/.."):
        with pytest.raises(InputError, match="^out: got"):  # noqa: RUF043
            refuse_existing(tmp_path / name, force=False)
    for name in ("", ".", "/", "..", "there/.."):
        with pytest.raises(InputError, match="must name a folder"):
            refuse_existing(name, force=True)
    refuse_existing(tmp_path / "there", force=True)
    refuse_existing(tmp_path / "a" / "b" / "c", force=False)
    assert names(tmp_path) == ["broken", "file", "there"]


def test_a_file_cannot_be_written_over_a_folder_or_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "rows.jsonl"):
        with pytest.raises(InputError, match="^plot: got"):  # noqa: RUF043
            refuse_unwritable(path, "plot")
    refuse_unwritable(tmp_path / "file", "plot")
    refuse_unwritable(tmp_path / "new" / "plot.svg", "plot")
