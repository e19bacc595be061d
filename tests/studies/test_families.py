"""Rounded products against the reference's FP8 ones, and claims that can come out either way."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import torch
from made_rows import made
from torch import nn

from benchmarks.rows import FamilyRow
from benchmarks.rows.families import Effect, Summary
from octorec.kernels import reference
from octorec.kernels.fp8 import quantize
from octorec.models.layers import Linear
from octorec.numerics.activations import SCHEMES, watch
from octorec.numerics.stats import weight_stats
from octorec.report.page import render
from studies.families.figure import draw_families
from studies.families.ranker import TABLES, Ranker, RankerBatch, RankerConfig, initialize, save_ranker
from studies.families.report import sections
from studies.families.weights import SEVERE, Family, claims, paper, rounded

ROWS = {"user": 7, "item": 9, "gender": 3, "occupation": 4, "genre": 5}


@pytest.mark.parametrize("scheme", SCHEMES)
@torch.no_grad()
def test_rounded_products_are_the_references_fp8_products(scheme: str) -> None:
    torch.manual_seed(0)
    weights, activations = SCHEMES[scheme]
    layer = Linear(200, 30, reference)
    nn.init.normal_(layer.weight)
    before, x = layer.weight.clone(), torch.randn(17, 200) * torch.logspace(-2, 2, 200)
    wanted = reference.linear(quantize(x, activations), quantize(layer.weight, weights))
    model = nn.Sequential(layer)
    with rounded(model, weights, activations, lambda name: True):
        torch.testing.assert_close(model(x), wanted, rtol=1e-6, atol=1e-6 * float(wanted.abs().max()))
        assert not torch.equal(layer.weight, before)
    assert torch.equal(layer.weight, before)
    torch.testing.assert_close(model(x), reference.linear(x, before))


@torch.no_grad()
def test_what_is_not_chosen_stays_and_tokens_lie_in_the_last_but_one_dimension() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False))
    x = torch.randn(2, 3, 8)
    x[0] *= 1000
    with rounded(model, "channel", "token", lambda name: name == "1"):
        hidden = model[0](x)
        torch.testing.assert_close(hidden, torch.nn.functional.linear(x, model[0].weight))
        assert float((model(x) - hidden @ model[1].weight.T)[1].abs().max()) < 0.2  # not scaled by the large rows
    with rounded(model, None, None, lambda name: True):
        assert torch.equal(model[0].weight, model[0].weight.bfloat16().float())


def test_weights_come_back_after_an_error() -> None:
    model = nn.Sequential(nn.Linear(8, 8))
    before = model[0].weight.detach().clone()
    with pytest.raises(RuntimeError, match="shape"), rounded(model, "tensor", "tensor", lambda name: True):
        model(torch.randn(2, 9))
    assert torch.equal(model[0].weight.detach(), before)
    with pytest.raises(AssertionError, match="no product"), rounded(model, "tensor", "tensor", lambda name: False):
        pass


def row(kind: str, variance: float, absmax: float, change: float, width: float = 0.001, **more: Any) -> FamilyRow:
    effect = Effect("AUC", "channel/token", "", 0.8, 0.8 + change, change, change - width, change + width)
    weights = Summary(absmax, absmax, "w", 0.0, 0.0, "w", variance, variance, "w")
    about = {"effects": (effect,), "memory_bound": 0.9, "gain": 1.2, "trained": True, **more}
    return made(FamilyRow, family="ours", kind=kind, matrices=3, quiet=2, weights=weights, **about)


def verdicts(*rows: FamilyRow) -> dict[str, bool | None]:
    return {claim.id: claim.reproduced for claim in claims(rows)}


def test_claims_are_judged_by_the_numbers() -> None:
    wild, tame = row("ranker", 3e7, 5000.0, -0.3), row("ranker", 0.3, 9.0, 0.0, memory_bound=0.2)
    assert set(verdicts(wild).values()) == {True}
    assert set(verdicts(tame).values()) == {False}
    assert verdicts(row("OneRec-V2", 0.01, 1.0, -0.001)) == {"onerec-variance": True, "onerec-effect": True}
    assert verdicts(row("OneRec-V2", 0.2, 1.0, -0.3)) == {"onerec-variance": False, "onerec-effect": False}
    assert verdicts(row("LLM", 0.01, 1.0, 0.0)) == {"llm-variance": True}


def test_an_interval_across_the_bound_decides_nothing() -> None:
    at_bound = -SEVERE * 0.8
    assert verdicts(row("ranker", 1.0, 1.0, at_bound - 0.01, width=0.02))["ranker-effect"] is None
    assert verdicts(row("OneRec-V2", 0.0, 1.0, at_bound + 0.01, width=0.02))["onerec-effect"] is None


def test_lower_is_better_and_relative_changes() -> None:
    worse = Effect("NLL", "fp8", "", 10.0, 11.0, 1.0, 0.9, 1.1, larger_is_better=False)
    recall = Effect("recall@10", "fp8", "", 0.2, 0.199, -0.005, -0.01, 0.001, relative=True)
    for effect, wanted in ((worse, False), (recall, True)):
        assert verdicts(row("OneRec-V2", 0.0, 1.0, 0.0, effects=(effect,)))["onerec-effect"] is wanted


def test_what_was_not_measured_or_not_trained_proves_nothing() -> None:
    missing = verdicts(row("ranker", 1.0, 1.0, 0.0, effects=(), memory_bound=None))
    assert missing["ranker-effect"] is None
    assert missing["ranker-speed"] is None
    assert verdicts(row("ranker", 1e9, 1e9, -0.5, trained=False)) == {}


def test_every_statement_of_the_paper_has_a_source_and_a_bound() -> None:
    stated = paper()
    assert stated["source"].startswith("arXiv")
    for claim in stated["claims"]:
        assert claim["read"] in ("first-hand", "second-hand")
        assert claim["quantity"] == "effect of FP8" or {"at_least", "below"} & set(claim)


def test_an_untrained_family_is_labelled_in_the_report(tmp_path: Path) -> None:
    config = RankerConfig(ROWS, ("age", "timestamp"), False, 4, 3, 6, 5, 2, (8, 6))
    model = Ranker(config)
    initialize(model, 0)
    save_ranker(model, tmp_path / "ranker", {})
    numbers = torch.tensor([[30.0, 8.8e8], [50.0, 8.9e8]])
    batch = RankerBatch(
        torch.ones(2, len(TABLES), dtype=torch.long), torch.ones(2, 5), torch.ones(2, 3).long(), numbers
    )
    weights, inputs = weight_stats(tmp_path / "ranker"), watch(model, lambda: model(batch))
    made = Family("a ranker", "ranker", "nowhere", False, weights, inputs)
    found = made.row()
    assert {stats.role for stats in made.matrices} == {"attention", "mlp", "cross"}
    assert found.matrices == 9
    first = next(stats for stats in inputs if stats.name == "bottom_mlp.0.proj")
    assert first.distribution.absmax == pytest.approx(8.9e8)
    assert found.inputs.absmax_max > 1e9  # untrained, the cross layers multiply what they are given
    assert found.output_error["channel/token"] > 0.01
    page = render("t", "l", sections([made], [found]))
    assert "no evidence" in page
    assert claims([found]) == []


def test_models_stand_side_by_side_with_every_value_in_sight() -> None:
    """Each value above 0 is one marker in its panel, and what the lines say stands right of all panels."""
    columns = {
        "one": {"variance": {"weights": [1e-3, 0.0, 10.0], "inputs": [1e16]}},
        "two": {"variance": {"weights": [0.01]}},
    }
    root = ElementTree.fromstring(draw_families(columns, {"variance": {"paper: 0.1": 0.1}}))
    svg = "{http://www.w3.org/2000/svg}"
    texts = {"".join(node.itertext()): node for node in root.iter(f"{svg}text")}
    assert {"one", "two", "variance", "paper: 0.1", "weights", "inputs"} <= set(texts)
    lines = [group for group in root.iter(f"{svg}g") if group.get("clip-path")]
    markers = [use for group in lines for use in group.iter(f"{svg}use")]
    assert len(markers) == 4
    x = float(texts["paper: 0.1"].get("x") or "nan")
    assert x > max(float(use.get("x", 0)) for use in markers)
