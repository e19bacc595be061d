"""A manifest is read whole or refused by its field, and changed without losing what another said before."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from octorec.cli.ray import ids
from octorec.errors import InputError
from octorec.serve import manifest
from octorec.serve.manifest import Followed, Manifest
from tests.cli.test_command import said_at_the_end


@pytest.mark.parametrize("kind", ["", "file://", "memory://"])
def test_what_was_written_is_read(kind: str, tmp_path: Path) -> None:
    path = f"{kind}{tmp_path}/shared/manifest.json"
    manifest.begin_manifest(path)
    assert manifest.read_manifest(path) == Manifest()
    manifest.change_manifest(path, lambda now: {"model": "fp8-2", "withdrawn": now.withdrawn | {"50", "é"}})
    manifest.change_manifest(path, lambda now: {"withdrawn": now.withdrawn - {"50"}})
    manifest.begin_manifest(path)  # leaves what is there
    assert manifest.read_manifest(path) == Manifest(2, "fp8-2", None, frozenset({"é"}))
    if not kind:
        assert [one.name for one in (tmp_path / "shared").iterdir()] == ["manifest.json"]


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ("", "manifest"),
        ("[]", "manifest"),
        ('{"generation": 1, "generation": 2}', "manifest"),
        ("{}", "generation"),
        ('{"generation": true}', "generation"),
        ('{"generation": -1}', "generation"),
        ('{"generation": 1, "model": "../x"}', "model"),
        ('{"generation": 1, "catalog": 7}', "catalog"),
        ('{"generation": 1, "withdrawn": "50"}', "withdrawn"),
        ('{"generation": 1, "withdrawn": [50]}', "withdrawn"),
        ('{"generation": 1, "experiment": 1}', "experiment"),
        ('{"generation": 1, "wanted": 1}', "manifest"),
    ],
)
def test_what_is_wrong_is_refused_by_its_field(raw: str, field: str, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(raw)
    with pytest.raises(InputError) as refused:
        manifest.read_manifest(str(path))
    assert refused.value.field.startswith("manifest")
    assert refused.value.field.endswith(field) or field == "manifest"


@pytest.mark.parametrize("path", ["nope/manifest.json", "nope://x/manifest.json", "memory://nope.json"])
def test_what_is_not_there_is_said(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="manifest: got"):
        manifest.read_manifest(path)
    with pytest.raises(InputError, match="manifest: got"):
        manifest.change_manifest(path, lambda _: {})
    assert not list(tmp_path.glob("nope/*.json"))


def test_replicas_that_say_nothing_any_more_are_gone(tmp_path: Path) -> None:
    path = str(tmp_path / "manifest.json")
    assert manifest.read_followed(path) == []
    here = Followed("b", 3, "fp8", "c", 1, None)
    for one in (Followed("a", 3, "fp8", "c", 1, None, time.time() - 100), here, Followed("c", 3, "fp8", "c", 0, "no")):
        manifest.say_followed(path, one)
    manifest.forget_followed(path, "c")
    assert manifest.read_followed(path) == [here]


def want(path: Path, *flags: str) -> tuple[int, str]:
    return said_at_the_end(["ray", "want", str(path), *flags])


def test_the_command_line_changes_and_shows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "manifest.json"
    manifest.begin_manifest(str(path))
    (tmp_path / "gone.txt").write_text("50\n\n 51 \n")
    code, _ = want(path, "--model", "two", "--withdraw", f"@{tmp_path}/gone.txt", "--withdraw", "52")
    assert code == 0
    assert want(path, "--restore", "51", "--catalog", "c2")[0] == 0
    found: dict[str, Any] = json.loads(path.read_text())
    assert found == {"generation": 2, "model": "two", "catalog": "c2", "withdrawn": ["50", "52"], "experiment": None}
    for flags in (("--restore", "7"), ("--model", "a/b"), ("--withdraw", "1", "--restore", "1"), ("--withdraw", "@no")):
        code, said = want(path, *flags)
        assert (code, said.count("\n")) == (2, 1), flags
    assert json.loads(path.read_text()) == found
    capsys.readouterr()
    manifest.say_followed(str(path), Followed("r1", 2, "two", "c", 2, None))
    assert said_at_the_end(["ray", "state", str(path)])[0] == 0
    manifest.say_followed(str(path), Followed("r2", 2, "one", "c", 2, "scores are NaN"))
    assert said_at_the_end(["ray", "state", str(path)])[0] == 1
    assert "r2: one, c, 2 withdrawn: scores are NaN" in capsys.readouterr().out


def test_ids_of_a_file_and_of_flags(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("a\nb\n")
    assert ids([f"@{tmp_path}/f", "c"], "withdraw") == {"a", "b", "c"}
    assert ids(None, "withdraw") == set()


def test_two_threads_of_a_process_that_write_at_once_leave_a_whole_file(tmp_path: Path) -> None:
    path, said = str(tmp_path / "manifest.json"), Followed("a", 1, "one", "one", 0, None)
    end = time.monotonic() + 0.5

    def write() -> None:
        while time.monotonic() < end:
            manifest.say_followed(path, said)

    with ThreadPoolExecutor() as threads:
        writers = [threads.submit(write) for _ in range(2)]
        while time.monotonic() < end:
            assert {one.replica for one in manifest.read_followed(path)} <= {"a"}
        for writer in writers:
            writer.result()
