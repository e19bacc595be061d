"""A family that is a file, a recipe and a row of the table goes through the same verbs as OneRec-V2."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from octorec.catalog.build import build_catalog
from octorec.data.interactions import read_interactions
from octorec.engine.load import load
from octorec.engine.request import Request
from octorec.errors import InputError
from octorec.kernels import reference
from octorec.models.families import FAMILIES, Family
from octorec.models.weights import save
from octorec.output.write import new_folder
from tests.cli.test_cli import octorec
from tests.second_family.gru import Config, TinyGRU
from tests.serve.served import run, served

RECIPE = Path(__file__).parent / "gru-fp8.yaml"
SIZES = (7, 5, 6)


@pytest.fixture(autouse=True)
def row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "tiny_gru", Family("tests.second_family.gru", "TinyGRU", "tiny GRU"))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data.csv, and bf16/: a checkpoint of the second family over its items."""
    folder = tmp_path_factory.mktemp("gru")
    rows = [f"u{u},{(u + t) % 30},{t}" for u in range(60) for t in range(8)]
    (folder / "data.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]))
    catalog = build_catalog(read_interactions(folder / "data.csv"), None, SIZES)
    torch.manual_seed(0)
    model = TinyGRU(Config(SIZES, codebook_fingerprint=catalog.fingerprint), reference)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    with new_folder(folder / "bf16") as scratch:
        save(model, scratch, torch.bfloat16)
        catalog.save(scratch / "catalog")
    return folder


@pytest.fixture
def fp8(work: Path) -> Path:
    if not (work / "fp8").exists():
        octorec("quantize", work / "bf16", "--out", work / "fp8", "--recipe", RECIPE)
    return work / "fp8"


def test_answers_are_the_best_of_all_items_with_their_forced_end(work: Path) -> None:
    engine = load(work / "bf16", batch_sizes=(4,), beam_widths=(64,), default_beam_width=64)
    items = engine.catalog.item_ids
    for history in (["3"], ["1", "2", "9"], [str(item) for item in range(20)]):
        answer = engine.recommend([Request(history, k=8)])[0]
        levels = engine.score([Request(history, k=1)] * len(items), items)
        assert levels.shape == (len(items), len(SIZES) + 1)  # the end is scored too
        totals = dict(zip(items, levels.sum(1), strict=True))
        assert answer.scores == pytest.approx(sorted(totals.values(), reverse=True)[:8], abs=1e-4)
        assert [totals[item] for item in answer.items] == pytest.approx(answer.scores, abs=1e-4)


def test_an_answer_is_the_same_alone_and_in_a_batch(work: Path) -> None:
    engine = load(work / "bf16", batch_sizes=(1, 4), beam_widths=(8, 32), default_beam_width=8)
    requests = [Request([str(item)], k=5, beam_width=width) for item, width in ((1, 8), (2, 8), (3, 32), (4, 8))]
    together = engine.recommend(requests)
    assert [engine.recommend([request])[0].items for request in requests] == [answer.items for answer in together]


def test_forced_logits_are_those_of_decoding(work: Path) -> None:
    engine = load(work / "bf16", batch_sizes=(4,), beam_widths=(8,), default_beam_width=8)
    inputs, codes = engine.forced_batch([Request(["3"], k=1), Request(["4", "5"], k=1)], ["7", "8"])
    found = [logits.values[:, 0].log_softmax(-1) for logits in engine.model.forced(inputs, codes)]
    picked = [*codes.T, torch.ones(2, dtype=torch.long)]
    by_hand = torch.stack([log_p.gather(1, code[:, None])[:, 0] for log_p, code in zip(found, picked, strict=True)], 1)
    scores = engine.score([Request(["3"], k=1), Request(["4", "5"], k=1)], ["7", "8"])
    np.testing.assert_allclose(scores, by_hand.detach().numpy(), atol=1e-5)


@pytest.mark.usefixtures("undrawn")
def test_it_is_analyzed_and_quantized_by_the_names_of_its_parts(work: Path, fp8: Path, tmp_path: Path) -> None:
    report = json.loads((fp8 / "quantization.json").read_text())
    assert [tensor["name"] for tensor in report["tensors"]] == ["gate_proj.weight", "new_proj.weight"]
    octorec("analyze", work / "bf16", "--out", tmp_path / "analysis", "--data", work / "data.csv")
    found = octorec("analyze", fp8, "--out", tmp_path / "of-fp8", "--json")
    assert json.loads(found.stdout)["family"] == "tiny GRU"


def test_a_width_that_no_product_takes_keeps_all_parts_of_its_product(work: Path, tmp_path: Path) -> None:
    config = json.loads((work / "bf16" / "config.json").read_text())
    model = TinyGRU(Config(SIZES, width=24, codebook_fingerprint=config["codebook_fingerprint"]), reference)
    with new_folder(tmp_path / "odd") as scratch:
        save(model, scratch, torch.bfloat16)
    found = octorec("quantize", tmp_path / "odd", "--out", tmp_path / "fp8", "--recipe", RECIPE, expect=2)
    assert "24 x 48: FP8 products take multiples of 16" in found.stderr


@pytest.mark.slow
def test_fp8_is_judged_against_its_parent_and_proved(work: Path, fp8: Path) -> None:
    words = {0: "not_inferior", 3: "inferior", 4: "inconclusive"}
    few = ("--data", work / "data.csv", "--hold-out", "1", "--k", "5", "--json")
    found = octorec("evaluate", work / "bf16", fp8, *few, expect=None)
    assert json.loads(found.stdout)["verdict"]["outcome"] == words[found.code]
    found = octorec("prove", work / "bf16", *few, "--recipe", RECIPE, expect=None)
    proof = json.loads(found.stdout)
    assert proof["outcome"] == words[found.code]
    assert [layer["name"] for layer in proof["layers"]] == ["mix"] * (len(SIZES))
    assert all(layer["safe"] for layer in proof["layers"])


def test_it_is_served(fp8: Path) -> None:
    async def test() -> None:
        engine = load(fp8, batch_sizes=(1, 4), beam_widths=(16,), default_beam_width=16)
        async with served(engine) as (_, client):
            answer = (await client.post("/v1/recommend", json={"history": ["1", "2"], "k": 5})).json()
            assert len(answer["items"]) == 5

    run(test())


def test_a_family_without_a_row_is_refused(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(FAMILIES, "tiny_gru")
    with pytest.raises(InputError, match=r"config.json: model_type: got 'tiny_gru'; allowed: 'onerec_v2'"):
        load(work / "bf16")
