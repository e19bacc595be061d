"""The demo's tables are read by every verb and never written over a reader's own; its last words run as pasted."""

import shlex
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from octorec.data.interactions import Interactions, read_interactions
from octorec.data.items import check_items, read_items
from octorec.data.learned import digest
from octorec.data.movielens import MovieLens
from octorec.data.users import read_users
from octorec.demo import folder as demo_folder
from octorec.demo.claim import TABLES, claimed_demo
from octorec.demo.folder import last_words, write_examples, write_found, write_tables
from octorec.errors import InputError
from octorec.serve.examples import read_examples
from tests.pages.told import taken

LOG = {"user_id": ["2", "2", "10"], "item_id": ["5", "7", "5"], "timestamp": [3, 4, 1]}
SETS = [["Drama", "1990s"], []]
ITEMS = {"item_id": ["5", "7"], "title": ['"Film", the (1999)', "Other"]}
USERS = {
    "2": {"age": 24, "gender": "F", "occupation": "writer"},
    "10": {"age": 53, "gender": "M", "occupation": "other"},
}


def movies() -> MovieLens:
    table = pa.table(LOG)
    items = check_items(pa.table({**ITEMS, "sets": pa.array(SETS, pa.list_(pa.string()))}))
    return MovieLens(Interactions.from_table(table), items, USERS, table)


@pytest.mark.parametrize("force", [False, True])
def test_a_verb_and_the_work_that_it_starts_claim_the_same_folder(force: bool, tmp_path: Path) -> None:
    out, cache = tmp_path / "runs/demo", tmp_path / "cache"
    with claimed_demo(out, force, cache), claimed_demo(out, force, cache):
        write_tables(out, movies())
    assert {path.name for path in out.iterdir()} == set(TABLES)


def test_the_tables_are_read_as_what_the_demo_learned_from(tmp_path: Path) -> None:
    write_tables(tmp_path, movies())
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} == set(TABLES)
    interactions = read_interactions(tmp_path / "interactions.csv")
    assert interactions.table.equals(movies().interactions.table)
    assert digest(interactions) == digest(movies().interactions)
    items = read_items(tmp_path / "items.csv")
    assert items["title"].to_pylist() == ITEMS["title"]
    assert items["sets"].to_pylist() == SETS
    kinds = {"age": "number", "gender": "category", "occupation": "category"}
    assert read_users(tmp_path / "users.csv", kinds) == USERS


def test_a_table_that_somebody_changed_is_not_replaced(tmp_path: Path) -> None:
    write_tables(tmp_path, movies())
    write_tables(tmp_path, movies())
    (tmp_path / "interactions.csv").write_text("user_id,item_id,timestamp\nmine,1,1\n")
    with pytest.raises(InputError, match=r"interactions\.csv"):
        write_tables(tmp_path, movies())
    assert "mine" in (tmp_path / "interactions.csv").read_text()


def test_a_demo_may_replace_what_a_demo_left_and_no_json_of_somebody_else(tmp_path: Path) -> None:
    out, cache = tmp_path / "demo", tmp_path / "cache"
    out.mkdir()
    write_tables(out, movies())
    write_found(out, {"quantized_ratio": 0.5})
    with claimed_demo(out, True, cache):
        pass
    (out / "demo.json").write_text("{}")
    with pytest.raises(InputError, match=r"demo\.json"), claimed_demo(out, True, cache):
        pass


def test_the_last_words_are_commands_that_octorec_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_folder, "_on_the_path", list)
    opened, empty, *commands = last_words(Path("runs/my demo"))
    assert opened.startswith("Open runs/my demo/report.html; the numbers are in runs/my demo/demo.json.")
    assert empty == ""
    assert len(commands) >= 2
    for line in commands:
        taken(line)
        assert shlex.split(line)[2].startswith("runs/my demo/")


def test_the_last_words_say_how_octorec_gets_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bin_ = tmp_path / ".venv/bin"
    bin_.mkdir(parents=True)
    for name in ("python", "octorec"):
        (bin_ / name).touch(0o755)
    monkeypatch.setattr(sys, "executable", str(bin_ / "python"))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(tmp_path)
    assert last_words(Path("x"))[2] == f"export PATH={bin_}:$PATH"
    (bin_ / "activate").touch()
    assert last_words(Path("x"))[2] == "source .venv/bin/activate"
    monkeypatch.chdir("/")
    assert last_words(Path("x"))[2] == f"source {str(bin_ / 'activate').removeprefix('/')}"
    monkeypatch.setenv("PATH", str(bin_))
    assert last_words(Path("x"))[2].startswith("octorec ")


def test_the_examples_are_read_by_the_server(tmp_path: Path) -> None:
    write_examples(tmp_path, movies(), ("2", "10"))
    first, second = read_examples(str(tmp_path / "examples.json"))
    assert (first.name, first.history, first.user) == ("user 2", ["5", "7"], USERS["2"])
    assert (second.name, second.history) == ("user 10", ["5"])
