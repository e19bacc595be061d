"""`octorec import` brings another program's checkpoint into ours bit by bit, and refuses what is left over."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from octorec.catalog.build import build_catalog
from octorec.catalog.catalog import Catalog
from octorec.data.interactions import read_interactions
from octorec.engine.load import load
from octorec.engine.request import Request
from octorec.models.hf_folder import Checkpoint
from octorec.models.onerec import OneRecV2, initialize
from octorec.models.presets import preset
from octorec.models.weights import save
from octorec.output.write import new_folder
from octorec.quant.load import load_model
from tests.cli.test_cli import Done, octorec
from tests.models.foreign_onerec import MAP, foreign_tensors, write_foreign

SIZES = (7, 5, 6)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    path = tmp_path_factory.mktemp("data") / "data.csv"
    rows = [f"u{u},{(u + t) % 30},{t}" for u in range(60) for t in range(8)]
    path.write_text("\n".join(["user_id,item_id,timestamp", *rows]))
    return build_catalog(read_interactions(path), None, SIZES)


@pytest.fixture
def model(catalog: Catalog) -> OneRecV2:
    model = OneRecV2(preset("tiny", codebook_fingerprint=catalog.fingerprint))
    initialize(model, seed=0)
    for parameter in model.parameters():  # large enough for attention to matter
        torch.nn.init.normal_(parameter, std=0.3)
    for router in (module for module in model.modules() if hasattr(module, "bias")):
        router.bias.copy_(torch.linspace(-0.01, 0.01, len(router.bias)) + 1e-5)
    return model


@pytest.fixture
def work(tmp_path: Path, catalog: Catalog, model: OneRecV2) -> Path:
    """bf16/ as we write it, foreign/ and names.yaml as another program has it, config.json and catalog/."""
    with new_folder(tmp_path / "bf16") as scratch:
        save(model, scratch, torch.bfloat16)
        catalog.save(scratch / "catalog")
    catalog.save(tmp_path / "catalog")
    config = model.config.to_dict()
    (tmp_path / "config.json").write_text(json.dumps({**config, "codebook_fingerprint": None}))
    write_foreign(tmp_path / "foreign", foreign_tensors(model))
    return tmp_path


def run(work: Path, *more: object, out: str = "out", expect: int = 0) -> Done:
    """Import foreign/ of `work`; nothing is left at --out where it is refused."""
    line = ("--map", work / "names.yaml", "--config", work / "config.json", "--out", work / out)
    found = octorec("import", work / "foreign", *line, *more, expect=expect)
    assert (work / out).exists() == (expect != 2)
    return found


def test_the_same_bits_and_the_same_answers_come_back(work: Path) -> None:
    run(work, "--catalog", work / "catalog")
    ours, imported = Checkpoint(work / "bf16"), Checkpoint(work / "out")
    assert set(ours.names()) == set(imported.names())
    for name, tensor in ours.items():
        assert tensor.dtype == imported.load(name).dtype
        assert torch.equal(tensor, imported.load(name)), name
    asked = [Request([str(n), str(n + 1)], k=5) for n in range(6)]
    before, after = (load(work / name).recommend(asked) for name in ("bf16", "out"))
    assert [(each.items, each.scores) for each in before] == [(each.items, each.scores) for each in after]


@pytest.mark.slow
def test_it_can_be_quantized_and_carries_the_catalog_s_fingerprint(work: Path, catalog: Catalog) -> None:
    found = json.loads(run(work, "--catalog", work / "catalog", "--json").stdout)
    assert found["dropped"] == [f"layers.{layer}.rotary.inv_freq" for layer in range(3)]
    assert found["parity"] is None
    assert found["tensors"] == len(Checkpoint(work / "bf16").names())
    assert Checkpoint(work / "out").config["codebook_fingerprint"] == catalog.fingerprint
    octorec("analyze", work / "out", "--out", work / "analysis", "--json")


def test_a_catalog_of_other_codes_is_refused(work: Path, catalog: Catalog) -> None:
    config = json.loads((work / "config.json").read_text())
    (work / "config.json").write_text(json.dumps({**config, "codebook_fingerprint": "other"}))
    assert "codebook_fingerprint: got 'other'" in run(work, "--catalog", work / "catalog", expect=2).stderr
    (work / "config.json").write_text(json.dumps({**config, "codebook_sizes": [7, 5, 5]}))
    assert "codebook_sizes: got (7, 5, 5)" in run(work, "--catalog", work / "catalog", expect=2).stderr


def test_what_does_not_fit_is_one_line_and_nothing_is_written(work: Path) -> None:
    (work / "names.yaml").write_text(MAP.replace("slots, to: position", "slots, to: bos"))
    found = run(work, expect=2)
    assert found.stderr.startswith(f"error: {work / 'names.yaml'}: rule 2: slots: got (3, 32); must be (32,)")
    assert found.stderr.count("\n") == 1


def test_weights_that_are_not_finite_are_found_while_writing_and_nothing_is_left(work: Path) -> None:
    path = work / "foreign" / "model.safetensors"
    tensors = load_file(path)
    tensors["ctx.proj"].view(-1)[3:4].fill_(float("nan"))
    save_file(tensors, path)
    assert "ctx.proj: got 'NaN or infinity'" in run(work, expect=2).stderr
    assert sorted(each.name for each in work.iterdir() if "octorec-new" in each.name) == []


def test_a_folder_of_another_family_needs_a_configuration(work: Path) -> None:
    line = ("import", work / "foreign", "--map", work / "names.yaml", "--out", work / "out")
    assert "config: got None; is required, for" in octorec(*line, expect=2).stderr
    (work / "foreign" / "config.json").write_text('{"model_type": "llama"}')
    assert "model_type: got 'llama'; allowed: 'onerec_v2'" in octorec(*line, expect=2).stderr
    (work / "foreign" / "config.json").write_bytes((work / "config.json").read_bytes())
    octorec(*line)


def save_activations(model: Any, path: Path, watched: tuple[str, ...]) -> None:
    """Save inputs of two requests, and what a program's own hooks see of them."""
    torch.manual_seed(0)
    codes = torch.stack([torch.randint(size, (2, 5)) for size in SIZES], -1)  # [B, S + 1, L]
    inputs = {"lengths": torch.full((2,), 4), "codes": codes[:, :4].contiguous(), "user": torch.zeros(2, 0)}
    out = {f"inputs.{name}": tensor for name, tensor in inputs.items()} | {"codes": codes[:, 4].contiguous()}
    modules = dict(model.named_modules())
    for name in watched:
        modules[name].register_forward_hook(
            lambda module, given, output, name=name: out.update({f"activations.{name}": output.clone()})
        )
    with torch.inference_mode():
        out |= {f"logits.{step}": each.values for step, each in enumerate(model.forced(inputs, out["codes"]))}
    save_file({name: tensor.clone() for name, tensor in out.items()}, path)


def test_parity_says_where_a_wrong_map_differs(work: Path) -> None:
    watched = ("context", *(f"blocks.{b}.{part}" for b in range(3) for part in ("cross_attn", "self_attn", "ffn")))
    save_activations(load_model(work / "bf16"), work / "acts.safetensors", watched)
    found = run(work, "--parity", work / "acts.safetensors", out="right")
    assert "parity: all 13 have at least 80 dB" in found.stdout
    wrong = MAP.replace("self_attn.q_proj", "self_attn.x").replace("self_attn.k_proj", "self_attn.q_proj")
    (work / "names.yaml").write_text(wrong.replace("self_attn.x", "self_attn.k_proj"))
    found = run(work, "--parity", work / "acts.safetensors", expect=3)
    assert "no parity: activations.blocks.0.self_attn is the first below 80 dB" in found.stdout
    told = json.loads(run(work, "--parity", work / "acts.safetensors", "--force", "--json", expect=3).stdout)
    rows = [row["name"] for row in told["parity"]["compared"]]
    assert rows == [*(f"activations.{name}" for name in watched), *(f"logits.{step}" for step in range(3))]
    assert told["parity"]["first_below"] == "activations.blocks.0.self_attn"
    assert [row["sqnr_db"] for row in told["parity"]["compared"][:2]] == [None, None]  # nothing is lost before
    run(work, "--parity", work / "acts.safetensors", "--least-db", "0", "--force")


def test_a_file_of_activations_that_does_not_fit_leaves_nothing(work: Path) -> None:
    save_activations(load_model(work / "bf16"), work / "acts.safetensors", ("blocks.0.ffn",))
    tensors = load_file(work / "acts.safetensors")
    save_file({**tensors, "activations.nothing": torch.ones(1)}, work / "acts.safetensors")
    assert "is no name of this model's" in run(work, "--parity", work / "acts.safetensors", expect=2).stderr
    save_file({**tensors, "activations.blocks.0.ffn": torch.ones(3, 32)}, work / "acts.safetensors")
    assert "blocks.0.ffn: got (3, 32)" in run(work, "--parity", work / "acts.safetensors", expect=2).stderr
