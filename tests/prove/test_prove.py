"""What a proof says: of numbers by hand, and through the command line on a small checkpoint."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from rich.console import Console

from octorec.catalog.build import build_catalog
from octorec.cli import app as cli
from octorec.data.interactions import read_interactions
from octorec.data.splits import leave_last_out
from octorec.errors import InputError
from octorec.evaluate.paired import Estimate, estimate, mean, relative
from octorec.evaluate.verdict import EXIT_CODES, decide
from octorec.models.onerec import OneRecV2, initialize
from octorec.models.presets import preset
from octorec.models.weights import save
from octorec.numerics.fidelity import LayerFidelity, edges_hold, sqnr
from octorec.output.write import new_folder
from octorec.progress import silent
from octorec.prove.config import ProveConfig
from octorec.prove.run import Proof, Speed, faults, nll_outcome, prove
from octorec.report.proof import render_proof
from tests.cli.test_cli import octorec

GOOD = LayerFidelity("blocks.0.ffn.down_proj", "ffn", 31.0, 31.5, 29.5)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data.csv, and bf16/: a checkpoint of random weights over its items."""
    folder = tmp_path_factory.mktemp("work")
    rows = [f"u{u},{(u + t) % 30},{t}" for u in range(60) for t in range(8)]
    (folder / "data.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]))
    catalog = build_catalog(read_interactions(folder / "data.csv"), None, (7, 5, 6))
    model = OneRecV2(preset("tiny", codebook_fingerprint=catalog.fingerprint, d_expert=128))
    initialize(model, seed=0)
    with new_folder(folder / "bf16") as scratch:
        save(model, scratch, torch.bfloat16)
        catalog.save(scratch / "catalog")
    return folder


def nll(value: float, reach: float = 0.005, users: int = 1000) -> Estimate:
    return Estimate(value, value - reach, value + reach, value + reach, users, users)


def test_faults_name_what_is_wrong() -> None:
    assert faults([GOOD], True, nll(0.01)) == []
    assert "down_proj: output 24.0" in faults([replace(GOOD, output=24.0)], True, nll(0.01))[0]
    assert "worst row 20.0" in faults([replace(GOOD, worst_row=20.0)], True, nll(0.01))[0]
    assert "edge" in faults([GOOD], False, nll(0.01))[0]
    assert "NLL grows by at least 0.0250" in faults([GOOD], True, nll(0.03))[0]
    assert "not a number" in faults([GOOD], True, nll(float("nan")))[0]


def test_nll_that_few_users_or_a_wide_interval_cannot_judge_is_no_fault() -> None:
    assert faults([GOOD], True, nll(0.03, users=999)) == []
    assert faults([GOOD], True, nll(0.0, reach=0.5)) == []
    assert faults([GOOD], True, nll(0.0, reach=np.inf)) == []
    assert nll_outcome(nll(0.0)) == "not_inferior"
    assert nll_outcome(nll(0.03)) == "inferior"
    assert nll_outcome(nll(0.018)) == "inconclusive"
    assert nll_outcome(nll(0.5, users=999)) is None


def test_nll_of_a_thousand_users_of_whom_few_are_scored_is_no_fault() -> None:
    loss = np.where(np.arange(2000) < 999, 0.1, np.nan)
    assert faults([GOOD], True, estimate(np.arange(2000), {"nll": mean(np.zeros(2000), loss)})["nll"]) == []
    loss[999] = 0.1
    assert "NLL grows" in faults([GOOD], True, estimate(np.arange(2000), {"nll": mean(np.zeros(2000), loss)})["nll"])[0]


@pytest.mark.parametrize("users", [1, 8, 9])
def test_identical_engines_and_few_users_are_undecided(users: int) -> None:
    """There is neither a fault nor `inferior`: a few users cannot show either."""
    ids = np.arange(users).astype(object)
    same = np.linspace(5, 9, users)
    found = estimate(ids, {"nll": mean(same, same), "recall": relative(np.ones(users), np.ones(users))})
    assert faults([GOOD], True, found["nll"]) == []
    assert decide({"recall@10": found["recall"]}, 0.01).outcome == "inconclusive"


def test_identical_engines_are_not_inferior_where_users_are_many() -> None:
    ids, same = np.arange(5000).astype(object), np.random.default_rng(0).normal(8, 1, 5000)
    found = estimate(ids, {"nll": mean(same, same), "recall": relative(np.ones(5000), np.ones(5000))})
    assert faults([GOOD], True, found["nll"]) == []
    assert decide({"recall@10": found["recall"]}, 0.01).outcome == "not_inferior"


@pytest.mark.slow
def test_an_open_nll_leaves_a_proof_open(work: Path) -> None:
    proof = small_proof(work)
    comparison = replace(proof.comparison, verdict=replace(proof.comparison.verdict, outcome="not_inferior"))
    clear = replace(proof, layers=[GOOD], edges=True, comparison=replace(comparison, nll=nll(0.0)))
    assert clear.outcome == "not_inferior"
    assert replace(clear, comparison=replace(comparison, nll=nll(0.018))).outcome == "inconclusive"
    assert replace(clear, comparison=replace(comparison, nll=nll(0.018, users=999))).outcome == "not_inferior"
    assert replace(clear, comparison=replace(comparison, nll=nll(0.5))).outcome == "inferior"


def test_sqnr_by_hand() -> None:
    x = torch.tensor([3.0, 4.0])
    assert sqnr(x, x + torch.tensor([0.3, 0.4])) == pytest.approx(20)
    assert sqnr(x, x) == np.inf
    assert sqnr(x, x * float("nan")) == -np.inf


def test_the_references_hold_at_the_edges() -> None:
    from octorec.kernels import reference

    assert edges_hold(reference)


def small_proof(work: Path, progress: Any = silent) -> Proof:
    _, examples = leave_last_out(read_interactions(work / "data.csv"), 2)
    return prove(
        work / "bf16", examples, ProveConfig(recipe="fp8-channel", beam_width=16, margin=0.9), progress=progress
    )


def test_a_proof_and_its_lines(work: Path) -> None:
    said: list[tuple[str, int, int]] = []
    proof = small_proof(work, lambda *at: said.append(at))
    assert proof.noise.overlap > 0.99
    assert {layer.name for layer in proof.layers} >= {"blocks.0.cross_attn.q_proj", "blocks.1.ffn.experts"}
    total = 120 + 120 + 120  # two of each of 60 users, by both precisions, and again for the noise floor
    stages = [("quantizing", 0), ("16 bit", 120), ("FP8", 240), ("noise floor", 360), ("speed and layers", 360)]
    of_memory = [each for each in said if str(each[2]).startswith("memory: weights ")]
    assert [each for each in said if each not in of_memory] == [(done, total, what) for what, done in stages]
    assert [done for done, *_ in of_memory] == [0, 0, 240]  # an engine of each precision, and of other batches
    quick = replace(proof, speed={"FP8": Speed(500.0, 70.0, 1.389)})
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render_proof(quick))
    text = console.export_text()
    assert "layers are safe" in text
    assert "noise floor" in text
    assert "1.389" in text
    assert text.strip().splitlines()[-1].startswith(proof.outcome.replace("_", " "))
    broken = replace(proof, layers=[replace(GOOD, worst_row=3.0)])
    assert (broken.outcome, broken.exit_code) == ("inferior", 3)


@pytest.mark.slow
def test_the_command_line(work: Path, tmp_path: Path) -> None:
    arguments = ("prove", work / "bf16", "--data", work / "data.csv", "--recipe", "fp8-channel", "--beam-width", "16")
    done = octorec(*arguments, "--out", tmp_path / "fp8", "--json", expect=None)
    result = json.loads(done.stdout)
    assert done.code == result["exit_code"]
    assert done.code in (0, 3, 4)
    assert (tmp_path / "fp8" / "quantization.json").exists()
    again = octorec(*arguments, "--out", tmp_path / "fp8", expect=2)
    assert "exists already" in again.stderr


@pytest.mark.parametrize("verb", ["evaluate", "prove"])
def test_the_help_of_a_verb_that_judges_names_every_exit_code(verb: str) -> None:
    command: Any = typer.main.get_command(cli.app)
    said = command.commands[verb].help
    assert all(f"{code} {outcome.replace('_', ' ')}" in said for outcome, code in EXIT_CODES.items())


def test_a_price_is_above_nothing() -> None:
    with pytest.raises(InputError, match=r"dollars_per_hour: got 0; must be above 0"):
        ProveConfig(dollars_per_hour=0)


@pytest.mark.parametrize("policy", [pytest.param("drop", marks=pytest.mark.slow), "refuse"])
def test_items_that_the_catalog_lacks_are_left_out_and_named_or_refused(
    work: Path, tmp_path: Path, policy: str
) -> None:
    text = (work / "data.csv").read_text()
    (tmp_path / "new.csv").write_text(f"{text}\nu3,999,8\nu3,4,9\nu4,888,8\nu5,777,3.5")
    arguments = ["prove", work / "bf16", "--data", tmp_path / "new.csv", "--k", 5, "--beam-width", 16, "--json"]
    done = octorec(*arguments, "--unknown-items", policy, expect=None)
    code, out, err = done.code, done.stdout, done.stderr
    if policy == "refuse":
        assert code == 2
        assert "history of u3: got '999'; is no item of the catalog" in err
        return
    assert code in (0, 3, 4), err
    comparison = json.loads(out)["comparison"]
    assert comparison["targets_not_in_catalog"] == {"baseline": 1, "candidate": 1}
    expected = {"items": 2, "users": 2, "first": [{"user": "u3", "item": "999"}, {"user": "u5", "item": "777"}]}
    assert comparison["unknown_items"]["baseline"] == {**expected, "not_asked": 0, "by_popularity": 0}


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_activations_are_measured_on_what_is_known_of_the_data_and_a_note_says_so(work: Path, tmp_path: Path) -> None:
    text = (work / "data.csv").read_text()
    (tmp_path / "new.csv").write_text(f"{text}\nu3,999,8\nu3,4,9\nu4,888,8")
    arguments = ["analyze", work / "bf16", "--data", tmp_path / "new.csv", "--out", tmp_path / "out", "--json"]
    notes = json.loads(octorec(*arguments).stdout)["notes"]
    assert "Items not in the catalog, left out: 1 of 1 users, such as '999' of u3" in notes
    assert "such as" in (tmp_path / "out" / "report.html").read_text()
    refused = octorec(*arguments, "--force", "--unknown-items", "refuse", expect=2)
    assert "history of u3: got '999'" in refused.stderr
