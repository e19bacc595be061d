"""What long verbs say before they begin, that they can be limited, and what they say when they are interrupted."""

import json
from pathlib import Path

import pytest

from octorec.cli import leads
from tests.cli.test_cli import octorec
from tests.test_terminal import work as work

TABLE = "240 interactions, 40 users, 30 items"


@pytest.mark.parametrize(
    ("verb", "ahead"),
    [
        (
            "evaluate {w}/bf16 {w}/fp8 --data {w}/data.csv --limit 8 --k 5",
            "ahead: 8 requests to each of two checkpoints",
        ),
        pytest.param(
            "prove {w}/bf16 --data {w}/data.csv --recipe fp8-channel --beam-width 16 --limit 8",
            "ahead: 8 requests each",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_verdicts_say_what_they_ask_print_the_floors_and_can_be_limited(work: Path, verb: str, ahead: str) -> None:
    done = octorec(*verb.format(w=work).split(), expect=None)
    assert done.code in (0, 3, 4)
    reading, table, predict, said = done.stderr.splitlines()[:4]
    assert (reading, table.startswith(TABLE)) == (f"reading {work}/data.csv", True)
    assert predict.startswith("to predict: 8 interactions, the newest of 8 of 40 users, chosen by a hash")
    assert said.startswith(ahead)
    for line in ("8 targets of 8 users", "8 of 40 users, chosen by a hash", "popularity  ", "Markov chain  "):
        assert line in done.stdout, line
    found = json.loads(octorec(*verb.format(w=work).split(), "--json", expect=None).stdout)
    found = found.get("comparison", found)
    assert found["sample"] == {"taken": 8, "of": 40, "chosen": "lowest keyed BLAKE2b hashes"}
    assert set(found["floors"]) == {"popularity", "markov"}
    assert {"recall@5", "ndcg@5", "lead"} <= set(found["floors"]["markov"])


def test_shadow_can_be_limited(work: Path, tmp_path: Path) -> None:
    lines = [json.dumps({"history": [str(n)], "k": 3}) for n in range(20)]
    (tmp_path / "requests.jsonl").write_text("\n".join(lines))
    arguments = ("evaluate", work / "bf16", work / "fp8", "--requests", tmp_path / "requests.jsonl", "--limit", 5)
    done = octorec(*arguments, "--json")
    found = json.loads(done.stdout)
    assert (found["requests"], found["sample"]["of"]) == (5, 20)
    assert "ahead: 5 requests to each of two checkpoints" in done.stderr


def test_a_limit_of_nobody_is_refused_in_a_line(work: Path) -> None:
    done = octorec("evaluate", work / "bf16", work / "fp8", "--data", work / "data.csv", "--limit", 0, expect=2)
    assert done.stderr.splitlines()[-1] == "error: limit: got 0; must be 1 or more"


@pytest.mark.slow
def test_what_learns_says_what_from_and_what_lies_ahead(work: Path, tmp_path: Path) -> None:
    data = ("--data", work / "data.csv", "--hold-out", 1)
    built = octorec("catalog", "build", *data, "--items", work / "items.csv", "--codebook-sizes", "5,4,4", "--out",
                    tmp_path / "catalog")  # fmt: skip
    held_out = "to learn from: 200 interactions; 40 held out, the newest of each user"
    assert built.stderr.splitlines()[2:5] == [
        held_out,
        f"{work}/items.csv: 30 items with title",
        "ahead: 3 levels of 5, 4, 4 codes by residual k-means",
    ]
    arguments = ("--catalog", tmp_path / "catalog", "--out", tmp_path / "model", "--preset", "tiny")
    trained = octorec("train", *data, *arguments, "--steps", 2, "--batch-size", 4)
    lines = trained.stderr.splitlines()
    assert lines[1].startswith(TABLE)
    assert lines[2] == held_out
    assert lines[3].endswith("parameters; catalog: 30 items in 5 x 4 x 4 codes")
    assert lines[4] == "ahead: 2 steps of 4 examples on cpu; recall of held-out items every 250 and at the end"
    two = octorec("train", *data[:2], "--hold-out", 2, *arguments, "--steps", 1, "--force")
    assert "ahead: 1 steps of 256 examples on cpu; recall of each user's oldest held-out item every" in two.stderr
    quantized = octorec("quantize", work / "bf16", "--out", tmp_path / "fp8", "--recipe", "fp8-channel")
    assert "tensors, " in quantized.stderr
    assert "ahead: recipe fp8-channel" in quantized.stderr


def test_an_interrupted_training_names_its_state(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(record: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(
        "octorec.progress_bar.Counter.__call__", lambda self, *at: interrupted(at) if at[0] == 3 else None
    )
    arguments = ("train", "--data", work / "data.csv", "--catalog", work / "bf16/catalog", "--hold-out", 0, "--preset",
                 "tiny", "--steps", 9, "--batch-size", 4, "--save-every")  # fmt: skip
    done = octorec(*arguments, 2, "--out", tmp_path / "model", expect=130)
    state = tmp_path / "model.training"
    assert done.stderr.splitlines()[-1] == f"interrupted: {state} keeps step 2: go on with --resume"
    assert [path.name for path in tmp_path.iterdir()] == [state.name]
    done = octorec(*arguments, 100, "--out", tmp_path / "other", expect=130)
    assert done.stderr.splitlines()[-1] == "interrupted: no state was saved yet, nothing is kept"
    assert [path.name for path in tmp_path.iterdir()] == [state.name]


def test_an_interrupted_demo_names_its_parts(tmp_path: Path) -> None:
    assert leads.of_part(tmp_path / "demo") == "nothing was written"
    (tmp_path / "demo/bf16").mkdir(parents=True)
    assert leads.of_part(tmp_path / "demo") == f"{tmp_path}/demo keeps bf16: begin again with --force"
