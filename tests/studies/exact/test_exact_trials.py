"""The trials learn from what is not held out, are judged on validation targets, and say what a shell can read."""

import json
import sys
from pathlib import Path

import pytest
from made_union import made_shops

from benchmarks.records import read
from octorec.catalog.catalog import Catalog
from octorec.data.interactions import read_interactions
from octorec.models.presets import preset
from studies.exact import data, trials
from studies.exact.subject import Targets
from studies.exact.trials import TrialRow, best_rate

SIZES = (16, 16, 32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("trials")
    catalog = data.write(made_shops(base), base, SIZES)
    small = preset("tiny", codebook_sizes=SIZES, n_layer=3, n_dense=None, n_expert=0, n_shared=0, top_k=0)
    (base / "config.json").write_text(json.dumps({**small.to_dict(), "codebook_fingerprint": catalog.fingerprint}))
    return base


def test_a_validation_target_is_the_older_one_that_is_held_out(folder: Path) -> None:
    interactions, catalog = read_interactions(folder / "interactions.csv"), Catalog.load(folder / "catalog")
    train, validation = trials.split(interactions, catalog)
    targets = Targets.of(interactions)
    assert len(validation) == len(targets.validation)
    assert len(train) == len(targets.train) - len(targets.validation)  # a user's first item is no example
    wanted = [catalog.codes[catalog.index[one.target]].tolist() for one in targets.validation]
    assert validation.codes[validation.target].tolist() == wanted
    assert not set(train.target.tolist()) & set(validation.target.tolist())
    few = trials.spread_over(validation, 7)
    assert len(few) == 7
    assert (few.target[0], few.target[-1]) == (validation.target[0], validation.target[-1])


@pytest.mark.slow
def test_trials_and_their_settings(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "TIMED", 1)
    monkeypatch.setattr(trials, "LEAST", 30)
    out, env = tmp_path / "trials.jsonl", tmp_path / "settings.env"
    call = ["trials", "--data", str(folder), "--out", str(out), "--settings", str(env), "--device", "cpu"]
    more = ["--seconds", "1", "--batch-size", "32", "--targets", "40", "--variants", "learning_rate=1e-5"]
    monkeypatch.setattr(sys, "argv", [*call, *more, "learning_rate=5e-3", "dropout=0.1"])
    trials.main()
    rows = read(out, TrialRow)
    assert [row.variant for row in rows] == ["learning_rate=1e-5", "learning_rate=5e-3", "dropout=0.1"]
    assert rows[1].nll < rows[0].nll
    assert {(row.steps, row.targets) for row in rows} == {(30, 40)}
    said = dict(line.split("=") for line in env.read_text().splitlines())
    assert float(said["LR"]) == 5e-3
    assert int(said["MS"]) >= 0
    assert int(said["MOE_MS"]) == float(said["MOE_MS"])


def test_the_best_rate_is_that_of_the_least_nll_among_rates() -> None:
    made = [("learning_rate=5e-4", 9.0), ("learning_rate=1e-3", 8.5), ("dropout=0.1", 8.0)]
    assert best_rate([TrialRow(variant, 1, 1, 0.0, nll, 1.0, 1.0) for variant, nll in made]) == 1e-3
