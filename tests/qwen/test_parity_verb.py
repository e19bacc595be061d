"""The verb `octorec parity`: a folder's own prompts, from interactions to the outcome in words and in JSON."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from peft import LoraConfig, get_peft_model

from octorec.errors import InputError
from octorec.models.prompts import Prompts
from octorec.parity.theirs import open_model, teacher_forced
from tests.cli.test_cli import octorec
from tests.qwen.made_models import Made
from tests.qwen.sid2pid_files import sid2pid

FEW = ("--requests", "3", "--beam-width", "8", "--hold-out", "1")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory, made: Callable[[str], Made]) -> Path:
    """The interactions as a table."""
    path = tmp_path_factory.mktemp("data") / "data.parquet"
    histories = made("openonerec").interactions.histories()
    rows = [(user, item, time) for user, items in histories.items() for time, item in enumerate(items)]
    columns = dict(zip(("user_id", "item_id", "timestamp"), map(list, zip(*rows, strict=True)), strict=True))
    pyarrow.parquet.write_table(pa.table(columns), path)
    return path


@pytest.mark.slow
def test_a_folder_has_parity(data: Path, made: Callable[[str], Made]) -> None:
    found = octorec("parity", made("minionerec").folder, "--data", data, *FEW)
    assert "beside transformers in float32: 3 requests, beam width 8" in found.stdout
    assert "teacher-forced, 5 steps" in found.stdout
    assert "free beams, length penalty 1" in found.stdout
    assert "parity: no score differs by more than 0.0001 nats" in found.stdout
    assert "ahead: 3 requests to OctoRec on cpu and to transformers" in found.stderr


def test_a_folder_has_parity_over_a_sid2pid_file(made: Callable[[str], Made], tmp_path: Path) -> None:
    one = made("openonerec")
    rows = [("u", str(1000 + item), time) for time, item in enumerate((3, 4, 9, 8))]
    columns = dict(zip(("user_id", "item_id", "timestamp"), map(list, zip(*rows, strict=True)), strict=True))
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "data.parquet")
    catalog = sid2pid(tmp_path / "sid2pid.json", one.catalog, range(100), 1000)
    asked = ("parity", one.folder, "--data", tmp_path / "data.parquet", *FEW, "--no-free", "--json")
    assert json.loads(octorec(*asked, "--catalog", catalog).stdout)["outcome"] == "parity"


def test_json_says_what_differs(data: Path, made: Callable[[str], Made]) -> None:
    options = ("--tolerance", "1e-12", "--no-free", "--json")
    done = octorec("parity", made("openonerec").folder, "--data", data, *FEW, *options, expect=3)
    found = json.loads(done.stdout)
    assert (found["outcome"], found["exit_code"]) == ("no_parity", 3)
    assert [beams["search"] for beams in found["beams"]] == ["constrained"] * 2
    assert 1e-12 < found["scores"]["difference"] < 1e-4
    assert found["differing_requests"]


@pytest.mark.slow
def test_a_domain_is_named_where_there_are_several(data: Path, made: Callable[[str], Made]) -> None:
    ask = ("parity", made("onereason").folder, "--data", data, *FEW)
    assert "error: domain: got ''; must be named: video, product, ad, live, sid" in octorec(*ask, expect=2).stderr
    assert json.loads(octorec(*ask, "--domain", "video", "--json").stdout)["outcome"] == "parity"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--beam-width", "0"), "beam_width: got 0; must be 2 or more"),
        (("--beam-width", "1"), "beam_width: got 1; must be 2 or more: of one beam transformers tells no score"),
        (("--tolerance", "2"), "tolerance: got 2.0; must be above 0 and below 1, in nats"),
        (("--requests", "0"), "requests: got 0; must be 1 or more"),
        (("--hold-out", "0"), "hold_out: got 0; must be 1 or more"),
    ],
)
def test_an_option_out_of_range_is_refused(
    options: tuple[str, str], said: str, data: Path, made: Callable[[str], Made]
) -> None:
    assert said in octorec("parity", made("openonerec").folder, "--data", data, *options, expect=2).stderr


def test_a_model_that_reads_no_tokens_is_refused(
    data: Path, made: Callable[[str], Made], make_checkpoint: Callable[..., Path]
) -> None:
    catalog = made("openonerec").folder / "catalog"
    folder = make_checkpoint(codebook_sizes=(32, 32, 32))
    done = octorec("parity", folder, "--data", data, "--catalog", catalog, *FEW, expect=2)
    assert "must be a language model, which transformers can run too" in done.stderr


@pytest.mark.slow
def test_an_adapter_is_compared_with_what_peft_merges(data: Path, made: Callable[[str], Made], tmp_path: Path) -> None:
    one = made("onereason")
    wrapped = get_peft_model(open_model(one.folder), LoraConfig(r=4, lora_alpha=16, target_modules="all-linear"))
    torch.manual_seed(0)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    wrapped.save_pretrained(tmp_path / "adapter")
    catalog = ("--catalog", one.folder / "catalog", "--base", one.folder, "--domain", "video", "--json")
    done = octorec("parity", tmp_path / "adapter", "--data", data, *FEW, *catalog)
    prompt, target = [one.layout.prompt(one.histories(1)[0])], one.targets(1)
    with_it, without = (
        teacher_forced(open_model(*where), prompt, target, one.layout.sids)
        for where in ((tmp_path / "adapter", "cpu", one.folder), (one.folder,))
    )
    assert json.loads(done.stdout)["outcome"] == "parity"
    assert abs(with_it - without).max() > 0.01


def test_a_quantized_checkpoint_is_refused(made: Callable[[str], Made], tmp_path: Path) -> None:
    folder = shutil.copytree(made("openonerec").folder, tmp_path / "fp8")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "fp8", "activation_scheme": "dynamic"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="runs quant_method compressed-tensors on every device, and 'fp8' not"):
        open_model(folder)


@pytest.mark.parametrize(("name", "domain"), [("openonerec", ""), ("onereason", "video"), ("minionerec", "")])
def test_test_models_learn_the_prompts_that_are_asked(name: str, domain: str, made: Callable[[str], Made]) -> None:
    one = made(name)
    for history in one.histories(3):
        asked = Prompts(one.folder).of_history(history, domain).ids
        np.testing.assert_array_equal(asked, one.layout.prompt(history, domain))


@pytest.mark.slow
def test_a_file_of_semantic_ids_is_a_catalog(data: Path, made: Callable[[str], Made], tmp_path: Path) -> None:
    one = made("minionerec")
    rows = zip(one.catalog.item_ids, one.catalog.codes.tolist(), strict=True)
    index = {item: [f"<{letter}_{code}>" for letter, code in zip("abc", codes, strict=True)] for item, codes in rows}
    (tmp_path / "x.index.json").write_text(json.dumps(index))
    ask = ("parity", one.folder, "--data", data, *FEW, "--no-free", "--json")
    assert octorec(*ask, "--catalog", tmp_path / "x.index.json").stdout == octorec(*ask).stdout


def test_an_item_whose_code_has_no_token_is_named(data: Path, made: Callable[[str], Made], tmp_path: Path) -> None:
    folder = made("minionerec").folder
    (tmp_path / "x.index.json").write_text('{"m1": ["<a_1>", "<b_1>", "<c_33>"], "m2": ["<a_1>", "<b_1>", "<c_1>"]}')
    ask = ("parity", folder, "--data", data, "--catalog", tmp_path / "x.index.json", *FEW)
    said = "codes of level c: got '1 codes that the level lacks (33), of 1 items'"
    assert said in octorec(*ask, expect=2).stderr


def test_an_adapter_with_rows_for_new_tokens_is_compared(
    data: Path, made: Callable[[str], Made], tmp_path: Path
) -> None:
    one = made("openonerec")
    base, adapter = shutil.copytree(one.folder, tmp_path / "base"), tmp_path / "adapter"
    model, whole = open_model(one.folder), open_model(one.folder)
    model.resize_token_embeddings(300)
    model.save_pretrained(base)
    modules = ["embed_tokens", "lm_head"]
    wrapped = get_peft_model(whole, LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=modules))
    wrapped.save_pretrained(adapter)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(one.folder / name, adapter)
        (base / name).unlink()
    options = ("--catalog", one.folder / "catalog", "--base", base, "--no-free", "--json")
    found = json.loads(octorec("parity", adapter, "--data", data, *FEW, *options).stdout)
    assert found["outcome"] == "parity"


def test_what_transformers_refuses_is_one_line(made: Callable[[str], Made], tmp_path: Path) -> None:
    folder = shutil.copytree(made("openonerec").folder, tmp_path / "odd")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "initializer_range": None}))
    with pytest.raises(InputError, match=r"is not read by transformers \(.*initializer_range"):
        open_model(folder)
