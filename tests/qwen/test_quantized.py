"""Every verb opens the FP8 form of a trained folder, and `analyze` proposes the recipe that `quantize` takes."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.csv
import pytest
import yaml
from peft import LoraConfig, get_peft_model

import octorec
from octorec import Request
from octorec.models.hf_folder import Checkpoint
from octorec.parity.theirs import open_model
from octorec.quant.load import load_model
from octorec.quant.modules import FP8Linear
from tests.cli.test_cli import octorec as run
from tests.qwen.made_models import Made
from tests.qwen.test_prompted_server import served

pytestmark = pytest.mark.slow
BEAMS = {"beam_widths": (16,), "default_beam_width": 16}


@pytest.fixture(scope="module")
def fp8(made: Callable[[str], Made], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The FP8 form that the command line makes, and the interactions beside it."""
    of, folder = made("openonerec"), tmp_path_factory.mktemp("quantized")
    said = run("quantize", of.folder, "--out", folder / "fp8")
    assert "wrote " in said.stdout
    assert "14 quantized matrices" in said.stdout
    pyarrow.csv.write_csv(of.interactions.table, folder / "interactions.csv")
    return folder / "fp8"


def test_the_folder_is_whole(made: Callable[[str], Made], fp8: Path) -> None:
    source = {path.name for path in made("openonerec").folder.iterdir() if path.suffix != ".safetensors"}
    assert source <= {path.name for path in fp8.iterdir()}
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (fp8 / name).read_bytes() == (made("openonerec").folder / name).read_bytes()
    found = json.loads(run("inspect", fp8, "--json").stdout)
    assert found["family"] == "Qwen3"
    assert found["refused"] is None
    assert found["weights"]["parameters"]["F8_E4M3"] > 0


def test_answers_are_those_of_16_bit_but_for_roundings(made: Callable[[str], Made], fp8: Path) -> None:
    of = made("openonerec")
    histories = [items[-7:-1] for items in list(of.interactions.histories().values())[:80]]
    requests = [Request(history, k=10) for history in histories]
    lists = [octorec.load(folder, **BEAMS).lists(requests) for folder in (of.folder, fp8)]
    shared = sum(len({*one} & {*other}) for one, other in zip(*lists, strict=True)) / (10 * len(requests))
    assert 0.75 < shared < 1


@pytest.mark.gpu
def test_a_gpu_answers_as_the_cpu_does(made: Callable[[str], Made], fp8: Path) -> None:
    of = made("openonerec")
    requests = [Request(items[-7:-1], k=10) for items in list(of.interactions.histories().values())[:80]]
    lists = [octorec.load(fp8, device=device, **BEAMS).lists(requests) for device in ("cpu", "cuda")]
    shared = sum(len({*one} & {*other}) for one, other in zip(*lists, strict=True)) / (10 * len(requests))
    assert shared > 0.75


def test_an_adapter_is_quantized_with_its_base(made: Callable[[str], Made], tmp_path: Path) -> None:
    of = made("openonerec")
    model = get_peft_model(open_model(of.folder), LoraConfig(r=2, target_modules=["q_proj"]))
    model.save_pretrained(tmp_path / "adapter")  # it changes nothing yet
    run("quantize", tmp_path / "adapter", "--base", of.folder, "--out", tmp_path / "merged")
    run("quantize", of.folder, "--out", tmp_path / "plain")
    merged, plain = Checkpoint(tmp_path / "merged"), Checkpoint(tmp_path / "plain")
    assert merged.names() == plain.names()
    assert all(merged.load(name).equal(plain.load(name)) for name in plain.names() if not name.endswith("proj.weight"))
    assert (tmp_path / "merged" / "tokenizer.json").read_bytes() == (of.folder / "tokenizer.json").read_bytes()
    assert len(octorec.load(tmp_path / "merged", **BEAMS).lists([Request(["m1"], k=3)])[0]) == 3
    assert "is no adapter" in run("quantize", of.folder, "--base", of.folder, "--out", tmp_path / "x", expect=2).stderr


def test_every_verb_opens_it(made: Callable[[str], Made], fp8: Path, tmp_path: Path) -> None:
    of, data = made("openonerec"), fp8.with_name("interactions.csv")
    assert len(json.loads(run("recommend", fp8, "--history", "m1,m2", "--json").stdout)["items"]) == 10
    judged = run("evaluate", of.folder, fp8, "--data", data, "--limit", "30", "--json", expect=None)
    assert json.loads(judged.stdout)["targets"] == 30
    found = json.loads(run("analyze", fp8, "--data", data, "--requests", "4", "--out", tmp_path / "a", "--json").stdout)
    assert found["family"] == "Qwen3"
    assert not (tmp_path / "a" / "recipe.yaml").exists()  # it is quantized already
    ask = ("parity", fp8, "--data", data, "--requests", "4", "--beam-width", "8", "--tolerance", "0.1", "--json")
    compared = json.loads(run(*ask, "--no-free", expect=None).stdout)
    assert compared["scores"]["difference"] < 0.1  # rounding borders are met by either side

    async def ask_server() -> None:
        engine = octorec.load(fp8, batch_sizes=(1, 8), **BEAMS)
        async with served(engine) as (_, client):
            body = {"history": ["m1", "m2"], "k": 5}
            answer = (await client.post("/v1/recommend", json=body)).json()
            assert answer["items"] == engine.lists([Request(**body)])[0]

    asyncio.run(ask_server())


@pytest.mark.parametrize("name", ["openonerec", "onereason", "minionerec"])
def test_the_recipe_that_analyze_writes_is_what_quantize_takes(
    name: str, made: Callable[[str], Made], tmp_path: Path
) -> None:
    of = made(name)
    advised = json.loads(run("analyze", of.folder, "--out", tmp_path / "a", "--json").stdout)["verdict"]["layers"]
    written = tmp_path / "a" / "recipe.yaml"
    targets = [target for group in yaml.safe_load(written.read_text())["groups"] for target in group["targets"]]
    assert all(target.startswith("model\\.layers\\.") for target in targets)
    run("quantize", of.folder, "--recipe", written, "--out", tmp_path / "fp8")
    report = json.loads((tmp_path / "fp8" / "quantization.json").read_text())
    wanted = {f"{one['module']}.weight": one["decision"] for one in advised if one["decision"] != "keep"}
    assert {one["name"]: one["weights"] for one in report["tensors"]} == wanted
    assert any(isinstance(module, FP8Linear) for module in load_model(tmp_path / "fp8").modules())
    assert Checkpoint(tmp_path / "fp8").quantized is not None
