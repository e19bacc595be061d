"""`octorec.load` of what is no checkpoint says what lies there."""

from pathlib import Path
from typing import Any

import pytest

import octorec
from octorec.errors import InputError


def folder(path: Path, *names: str) -> Path:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("{}")
    return path


@pytest.mark.parametrize("path", [None, 5, b"model", "", ["model"]])
def test_what_is_no_path_is_refused(path: Any) -> None:
    with pytest.raises(InputError, match=r"^checkpoint: got .*; must be a path"):
        octorec.load(path)


@pytest.mark.parametrize(
    ("names", "path", "said"),
    [
        ((), "nope", "there is no such file or folder"),
        (("config.json",), "config.json", "must be a folder that holds config.json, and is a file"),
        (("inside/x",), "inside/x/y", "cannot be read (Not a directory)"),
        (("a.txt", "b.txt"), ".", "must be a folder that holds config.json; this one holds a.txt, b.txt"),
        (tuple("abcdefg"), ".", "this one holds a, b, c, d, e and 2 more"),
        (("bf16/config.json", "fp8/config.json", "report.html"), ".", "it lies in its folders bf16, fp8: give one of"),
        (("config.json",), ".", "must be a folder that holds .safetensors files; this one holds config.json"),
        (("config.json", "pytorch_model.bin"), ".", "pickled files are not read"),
        (("config.json", "model.safetensors"), ".", "has no folder 'catalog': name a catalog"),
    ],
)
def test_an_error_blames_the_folder_and_says_what_it_holds(
    tmp_path: Path, names: tuple[str, ...], path: str, said: str
) -> None:
    asked = folder(tmp_path, *names) / path
    with pytest.raises(InputError) as caught:
        octorec.load(asked)
    assert said in str(caught.value)
    assert caught.value.field == "checkpoint"
    assert str(caught.value).startswith(f"checkpoint: got '{asked}")


def test_an_empty_folder_and_a_broken_link_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(InputError, match="this one is empty"):
        octorec.load(tmp_path / "empty")
    with pytest.raises(InputError, match="is a link to what is not there"):
        octorec.load(tmp_path / "link")


def test_a_catalog_that_is_named_is_looked_at_by_its_own_name(tmp_path: Path) -> None:
    model = folder(tmp_path / "model", "config.json", "model.safetensors", "catalog/items.parquet")
    with pytest.raises(InputError, match=r"^catalog: got .*model/catalog'; must be a folder that holds catalog.json"):
        octorec.load(model)
    with pytest.raises(InputError, match=r"^catalog: got 'nope'; there is no such file or folder"):
        octorec.load(model, catalog="nope")
