"""No spelling of a path, and no link, makes an input replaceable."""

import os
from pathlib import Path

import pytest

from octorec.errors import InputError
from octorec.output.inputs import refuse_inputs, refuse_places


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A file and a folder to read, links to them, and a Hugging Face cache, whose files are links."""
    for name in ("data/deep/x.csv", "links/none", "other/none", "hub/blobs/a1", "hub/snapshots/r/none"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "links" / "x.csv").symlink_to("../data/deep/x.csv")
    (tmp_path / "links" / "twice.csv").symlink_to(tmp_path / "links" / "x.csv")
    (tmp_path / "links" / "deep").symlink_to("../data/deep")
    (tmp_path / "hub" / "snapshots" / "r" / "model.safetensors").symlink_to("../../blobs/a1")
    os.link(tmp_path / "data/deep/x.csv", tmp_path / "hard.csv")
    return tmp_path


@pytest.mark.parametrize(
    ("read", "out"),
    [
        ("data/deep", "data/deep"),  # the same
        ("data/deep", "data/deep/../deep"),
        ("data/deep/x.csv", "hard.csv"),
        ("links/x.csv", "data/deep/x.csv"),
        ("data/deep/x.csv", "data/deep"),  # above it
        ("data/deep/x.csv", "data"),
        ("links/x.csv", "data"),
        ("links/x.csv", "links"),  # which holds the link
        ("links/twice.csv", "data/deep"),
        ("links/deep/x.csv", "links"),
        ("links/deep/x.csv", "data"),
        ("links/deep", "data/deep"),
        ("hub/snapshots/r", "hub/blobs"),  # whose files the links are
        ("hub/snapshots/r", "hub"),
        ("data", "data/deep"),  # in it
        ("links/deep/..", "data/deep"),
    ],
)
def test_an_input_is_found_however_it_is_written(tree: Path, read: str, out: str) -> None:
    with pytest.raises(InputError, match="what is read") as error:
        refuse_inputs(tree / out, [tree / "missing", tree / read], "out")
    assert error.value.field == "out"


def test_what_is_beside_an_input_may_be_replaced(tree: Path) -> None:
    for out in ("other", "other/none", "links/none"):
        refuse_inputs(tree / out, [tree / "data", tree / "links/x.csv", tree / "hub/snapshots/r", "a\0b"], "out")


def test_the_current_folder_home_and_what_holds_them_stay(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree / "data/deep")
    monkeypatch.setenv("HOME", str(tree / "other"))
    for out in (tree / "data/deep", tree / "data", Path("../../data"), tree / "other", tree, Path("/proc")):
        with pytest.raises(InputError, match=r"the current folder|your home folder|a mount point"):
            refuse_places(out, "out")
    refuse_places(tree / "links", "out")
