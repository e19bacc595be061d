"""`octorec widths` from data to the file that `auto` begins by, and what verbs say of beams and exact answers."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from octorec.engine.policy import BeamStarts
from octorec.engine.starts_file import read_starts, starts_file, write_starts
from octorec.errors import InputError
from tests.cli.test_cli import Done, octorec
from tests.serve.served import N_ITEMS, make_catalog, save_checkpoint

WIDTHS = "2,8,64"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints of random weights, and the interactions of 40 users with their items."""
    folder = tmp_path_factory.mktemp("widths")
    for seed, name in enumerate(("model", "other")):
        save_checkpoint(folder / name, make_catalog(counted=True), seed)
    rows = [f"u{user},i{(7 * user + 3 * time) % N_ITEMS},{time}\n" for user in range(40) for time in range(5)]
    (folder / "data.csv").write_text("user_id,item_id,timestamp\n" + "".join(rows))
    return folder


@pytest.fixture
def alone(work: Path) -> Path:
    """The folder, without a table that a test before wrote."""
    starts_file(work / "model").unlink(missing_ok=True)
    return work


def measured(work: Path, *more: object, expect: int | None = 0) -> Done:
    data = ("--data", work / "data.csv", "--beam-widths", WIDTHS, "--limit", "12")
    return octorec("widths", work / "model", *data, *more, expect=expect)


def recommended(work: Path, *more: object) -> dict[str, Any]:
    asked = ("recommend", work / "model", "--history", "i1,i2", "--k", "2", "--json")
    found: dict[str, Any] = json.loads(octorec(*asked, *more).stdout)
    return found


def test_a_person_reads_a_line_a_width_and_where_auto_begins(alone: Path) -> None:
    done = measured(alone, "--k", "2,5")
    head, columns, *lines = done.stdout.splitlines()
    assert head == "share of 12 answers that are certified exact; batches of 12 on cpu"
    assert columns.split() == ["beam", "width", "ms", "a", "batch", "k", "2", "k", "5"]
    assert [line.split()[0] for line in lines[:3]] == WIDTHS.split(",")
    assert lines[0].split()[-1] == "-", "two beams never hold five items"
    assert all(re.fullmatch(r" +\d+ +[\d.]+ +(?:[\d.]+%|-) +(?:[\d.]+%|-)", line) for line in lines[:3])
    table = read_starts(alone / "model").widths
    begins = [f"auto begins k {k} with {width} beams" for k, width in table.items()]
    assert lines[3:] == [*begins, f"wrote {starts_file(alone / 'model')}"]
    assert list(table) == [2, 5]
    assert table[5] >= 8
    assert "to predict: 12 interactions" in done.stderr


def test_a_program_reads_what_the_file_says(alone: Path) -> None:
    found = json.loads(measured(alone, "--k", "2,5", "--json").stdout)
    written = json.loads(starts_file(alone / "model").read_text())
    assert written.pop("format") == 1
    assert found == written
    assert (found["requests"], found["batch"], found["device"]) == (12, 12, "cpu")
    assert found["checkpoint"].startswith("model-")
    assert found["catalog"] == make_catalog(counted=True).version
    assert [row["beam_width"] for row in found["widths"]] == [2, 8, 64]
    assert [sorted(row["certified"]) for row in found["widths"]] == [["2"], ["2", "5"], ["2", "5"]]
    shares = [row["certified"]["2"] for row in found["widths"]]
    assert shares == sorted(shares)
    assert all(row["ms"] > 0 for row in found["widths"])


def test_auto_begins_where_the_table_says(alone: Path) -> None:
    few = ("--exclude", ",".join(f"i{number}" for number in range(3, N_ITEMS)))  # nothing is dropped by any beam
    assert recommended(alone, "--beam-width", "auto", *few)["beam_width"] == 32, "4 k beams, in the narrowest bucket"
    for width, found in ((100, 128), (512, 512), (3, 32)):
        write_starts(alone / "model", BeamStarts({2: width}), {})
        answer = recommended(alone, "--beam-width", "auto", *few)
        assert (answer["beam_width"], answer["exact"]) == (found, True)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--k", "0"), "k: got [0]; must be an integer above 0"),
        (("--k", "ten"), "k: got 'ten'; must be integers above 0, with commas"),
        (("--k", ""), "k: got ''; must be integers above 0, with commas"),
        (("--k", "2,65"), "k: got 65; at most the widest beam, 64"),
        (("--beam-widths", "64"), "beam_widths: got '64'; must be two widths or more, to choose from"),
        (("--beam-widths", "2,2-4-8"), "beam_widths: got '2,2-4-8'; must be two widths or more"),
        (("--beam-widths", "64,2"), "beam_widths: got '64,2'; must be ascending integers"),
        (("--beam-widths", "2,wide"), "beam_widths: got 'wide'; must be an integer"),
        (("--limit", "0"), "limit: got 0; must be 1 or more"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_read(
    flags: tuple[str, ...], said: str, alone: Path, tmp_path: Path
) -> None:
    (tmp_path / "data.csv").write_text("no,interactions\n")
    ks = () if "--k" in flags else ("--k", "2")
    done = octorec("widths", alone / "model", "--data", tmp_path / "data.csv", "--beam-widths", WIDTHS, *ks, *flags,
                   expect=2)  # fmt: skip
    assert f"error: {said}" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not starts_file(alone / "model").exists()


def test_a_place_where_nothing_can_be_written_is_refused_before_anything_is_read(alone: Path) -> None:
    table = starts_file(alone / "model")
    table.mkdir()
    try:
        done = measured(alone, "--k", "2", expect=2)
    finally:
        table.rmdir()
    assert str(table) in done.stderr
    assert done.stderr.count("\n") == 1
    linked = alone / "elsewhere.json"
    table.symlink_to(linked)
    assert f"widths: got '{table}'; is a link to {linked}" in measured(alone, "--k", "2", expect=2).stderr
    assert not linked.exists()


def test_a_file_that_is_no_table_is_not_replaced(alone: Path) -> None:
    table = starts_file(alone / "model")
    table.write_text('{"mine": 1}')
    done = measured(alone, "--k", "2", expect=2)
    assert f"{table}: starts: got None; must be an object" in done.stderr
    assert table.read_text() == '{"mine": 1}'


def test_a_table_is_replaced_by_the_next(alone: Path) -> None:
    measured(alone, "--k", "2")
    measured(alone, "--k", "5")
    assert list(read_starts(alone / "model").widths) == [5]


def test_the_table_of_a_folder_lies_beside_it_however_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model" / "catalog").mkdir(parents=True)
    wanted = tmp_path / "model.widths.json"
    assert starts_file(f"{tmp_path}/model/") == wanted
    for place, name in ((tmp_path, "model"), (tmp_path / "model", "."), (tmp_path / "model" / "catalog", "..")):
        monkeypatch.chdir(place)
        assert starts_file(name) == wanted


@pytest.mark.parametrize("width", ["32-64-128", "auto", "2", "512"])
def test_recommend_ends_with_whether_its_answer_is_exact(width: str, alone: Path) -> None:
    answer = recommended(alone, "--beam-width", width)
    text = octorec("recommend", alone / "model", "--history", "i1,i2", "--k", "2", "--beam-width", width).stdout
    last = text.splitlines()[-1]
    if answer["exact"]:
        assert last == "exact: no other item that may be returned scores higher"
    else:
        told = f"not exact: an item that was not found may score up to {answer['bound']:.4f}; a wider beam would tell"
        assert last == told
    assert answer["exact"] is (width != "2")
    assert answer["beam_width"] == {"32-64-128": [32, 64, 128], "auto": answer["beam_width"]}.get(width) or int(width)
    assert answer["items"] == recommended(alone, "--beam-width", "512")["items"] or not answer["exact"]


@pytest.mark.parametrize(
    ("width", "said"),
    [
        ("wrong", "beam_width: got 'wrong'; must be an integer from 1 to 65536"),
        ("2-4", "beam_width: got (2, 4); must have a width for each of the model's 3 levels"),
        ("1024", "beam_width: got 1024; at most 512 in this engine"),
        ("4-2-1", "k: got 2; at most the last of beam_width = 4-2-1"),
        ("4--8", "beam_width: got '4--8'; must be"),
        ("0", "beam_width: got '0'; must be"),
    ],
)
def test_recommend_refuses_beams_that_there_are_not(width: str, said: str, alone: Path) -> None:
    asked = ("recommend", alone / "model", "--history", "i1", "--k", "2", "--beam-width", width)
    done = octorec(*asked, expect=2)
    assert f"error: {said}" in done.stderr


@pytest.mark.slow
def test_the_same_answers_get_the_same_verdict(alone: Path) -> None:
    """90 items are all found with 128 beams, so that each policy gives the list of the widest beam."""
    limits = ("--limit", "12", "--k", "5", "--json")
    judged = ("evaluate", alone / "model", alone / "other", "--data", alone / "data.csv", *limits)
    results = {}
    for width in ("128", "128-128-512", "auto"):
        done = octorec(*judged, "--beam-width", width, expect=None)
        found = json.loads(done.stdout)
        results[width] = done.code, found["baseline"], found["candidate"], found["verdict"]
    assert results["128"][0] in (0, 3, 4)
    assert results["128-128-512"] == results["auto"] == results["128"]


def test_evaluate_refuses_beams_that_cannot_give_the_lists(alone: Path) -> None:
    judged = ("evaluate", alone / "model", alone / "other", "--data", alone / "data.csv", "--k", "5,20")
    for width, said in (
        ("32-16-8", "k: got 20; at most the last of beam_width = 32-16-8"),
        ("32-64", "got (32, 64); must have a width for each of the model's 3 levels"),
        ("most", "or auto"),
    ):
        assert said in octorec(*judged, "--beam-width", width, expect=2).stderr


@pytest.mark.slow
def test_requests_without_a_width_are_asked_with_the_one_that_is_given(alone: Path, tmp_path: Path) -> None:
    (tmp_path / "requests.jsonl").write_text('{"history": ["i1"], "k": 4}\n{"history": ["i2"], "k": 40}\n')
    asked = ("evaluate", alone / "model", alone / "model", "--requests", tmp_path / "requests.jsonl")
    for width in ("auto", "64", "64-64-128"):
        assert json.loads(octorec(*asked, "--beam-width", width, "--json").stdout)["requests"] == 2
    assert "k: got 40; at most beam_width = 16" in octorec(*asked, "--beam-width", "16", expect=2).stderr


@pytest.mark.slow
def test_a_proof_takes_a_schedule_and_auto(alone: Path) -> None:
    proved = ("prove", alone / "model", "--data", alone / "data.csv", "--recipe", "fp8-channel", "--limit", "8",
              "--k", "5", "--json")  # fmt: skip
    codes, metrics = set(), []
    for width in ("128", "128-128-512", "auto"):
        done = octorec(*proved, "--beam-width", width, expect=None)
        found = json.loads(done.stdout)
        codes.add(done.code)
        metrics.append((found["comparison"]["baseline"], found["comparison"]["candidate"], found["outcome"]))
    assert len(codes) == 1
    assert codes <= {0, 3, 4}
    assert metrics[0] == metrics[1] == metrics[2]
    assert "at most the last of beam_width = 8-4-4" in octorec(*proved, "--beam-width", "8-4-4", expect=2).stderr


def test_a_proof_takes_fewer_beams_than_the_usual_list_has_items(alone: Path) -> None:
    proved = ("prove", alone / "model", "--data", alone / "data.csv", "--recipe", "fp8-channel", "--limit", "4")
    assert octorec(*proved, "--k", "2", "--beam-width", "4", expect=None).code in (0, 3, 4)


def test_a_table_that_is_none_is_one_line_of_every_verb(alone: Path) -> None:
    starts_file(alone / "model").write_text("[]")
    done = octorec("recommend", alone / "model", "--history", "i1", expect=2)
    assert done.stderr.startswith("error: ")
    assert "model.widths.json" in done.stderr
    with pytest.raises(InputError, match=r"model\.widths\.json"):
        read_starts(alone / "model")
    starts_file(alone / "model").unlink()
