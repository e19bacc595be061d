"""What the command line refuses before it reads anything."""

import pytest

from tests.cli.test_cli import octorec


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["catalog", "build", "--out", "x", "--hold-out", "-1"], "error: hold_out: got -1; must be 0 or more"),
        (
            ["catalog", "build", "--out", "x", "--data", "data.csv", "--codebook-sizes", "4,0"],
            "error: codebook_sizes: got (4, 0); needs a size of 1",
        ),
        (
            ["catalog", "build", "--out", "x", "--data", "data.csv", "--codebook-sizes", "4", "--seed", "-1"],
            "error: seed: got -1; must be an integer from 0",
        ),
        (["evaluate", ".", ".", "--data", "data.csv", "--limit", "0"], "error: limit: got 0; must be 1 or more"),
        (
            ["train", "--data", "data.csv", "--catalog", "catalog", "--out", "new", "--resume"],
            "error: resume: got 'new.training'; holds no saved training state",
        ),
        (["evaluate", ".", ".", "--margin", "2"], "error: margin: got 2.0; must be between 0 and 1"),
    ],
)
def test_a_wrong_number_is_refused_before_anything_is_read(line, said, tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "catalog").mkdir()
    (tmp_path / "catalog" / "catalog.json").write_text("{}")
    (tmp_path / "data.csv").write_text("no,interactions\n")
    monkeypatch.chdir(tmp_path)
    found = octorec(*line, expect=2)
    assert found.stderr.startswith(said)
    assert found.stderr.count("\n") == 1
