"""The verbs take a file of semantic IDs in the place of a catalog's folder, and convert it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from octorec.catalog.catalog import Catalog


def octorec(*words: object, expect: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "octorec", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == expect, done.stderr
    return done


@pytest.fixture
def file(tmp_path: Path) -> Path:
    entries = [{"pid": pid, "count": 20 - pid, "count_after_downsample": pid} for pid in range(1, 13)]
    content = {str((pid % 3) * 8192**2 + (pid % 2) * 8192 + 1): [] for pid in range(1, 13)}
    for one in entries:
        content[str((one["pid"] % 3) * 8192**2 + (one["pid"] % 2) * 8192 + 1)].append(one)
    path = tmp_path / "sid2pid.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.slow
def test_a_file_is_shown_converted_and_answered_from(file: Path, make_checkpoint: Callable[..., Path]) -> None:
    shown = json.loads(octorec("catalog", "show", file, "7", "--json").stdout)["items"][0]
    assert (shown["item_id"], shown["codes"], shown["interactions"]) == ("7", [1, 1, 1], 13)
    out = file.parent / "catalog"
    made = octorec("catalog", "import", "--index", file, "--codebook-sizes", "4,4,4", "--out", out, "--json")
    assert json.loads(made.stdout)["items"] == 12
    assert Catalog.load(out).as_given
    model = make_checkpoint("tiny", codebook_sizes=(4, 4, 4), codebook_fingerprint=None)
    answers = [
        json.loads(octorec("recommend", model, "--catalog", catalog, "--history", "7,3", "--k", 12, "--json").stdout)
        for catalog in (file, out)
    ]
    assert answers[0] == answers[1]
    broken = file.with_name("broken.json")
    broken.write_text(file.read_text().replace('"count": 13', '"count": "13"'))
    said = octorec("recommend", model, "--catalog", broken, "--history", "7", expect=2).stderr
    assert "broken.json: key 67117057: count: got '13'; count must be an integer of 0 or more" in said
    assert len(said.splitlines()) == 1


def test_what_is_no_catalog_is_refused_before_anything_is_read(file: Path, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("x")
    (tmp_path / "x.csv").write_text("item_id\n7\n")
    said = octorec("catalog", "show", tmp_path / "x.txt", "7", expect=2).stderr
    assert "must begin as one of: sid2pid.json" in said
    said = octorec(
        "catalog", "withdraw", file, "--items", tmp_path / "x.csv", "--out", tmp_path / "new", expect=2
    ).stderr
    assert "must be a folder that holds catalog.json, and is a file" in said
