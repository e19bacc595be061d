"""The verbs recommend and serve answer for folders of language models, and show the prompt."""

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import torch
from peft import LoraConfig, get_peft_model

import octorec as package
from octorec import Request
from octorec.engine.starts_file import read_starts
from octorec.models.names import disk_tensors
from octorec.parity.folder import open_ours
from octorec.parity.theirs import open_model
from octorec.quant.load import load_model
from tests.cli.test_cli import octorec
from tests.qwen.made_models import Made
from tests.qwen.sid2pid_files import sid2pid

ASK = ("--beam-width", "16", "--k", "3")


@pytest.fixture(scope="module")
def adapter(made: Callable[[str], Made], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    wrapped = get_peft_model(
        open_model(made("openonerec").folder), LoraConfig(r=4, lora_alpha=16, target_modules="all-linear")
    )
    torch.manual_seed(0)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    wrapped.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("name", "domain"), [("openonerec", ""), ("onereason", "video"), ("minionerec", "")])
def test_an_answer_is_what_parity_compares_with_transformers(
    name: str, domain: str, made: Callable[[str], Made]
) -> None:
    one = made(name)
    asked = ("--history", "m1,m2,m3", "--domain", domain, "--show-prompt", "--json")
    found = json.loads(octorec("recommend", one.folder, *asked, *ASK).stdout)
    ours = open_ours(one.folder)
    prompt = ours.prompt(["m1", "m2", "m3"], domain)
    beams = ours.ours.beams(prompt, 16)
    assert found["prompt_ids"] == prompt.tolist()
    assert found["scores"][0] == beams[0].score
    assert set(found["scores"]) <= {beam.score for beam in beams}


def test_the_prompt_is_shown_before_the_items(made: Callable[[str], Made]) -> None:
    said = octorec("recommend", made("openonerec").folder, "--history", "m1", "--show-prompt", *ASK).stdout
    lines = said.splitlines()
    tokens = int(lines[0].split()[0])
    assert lines[0] == f"{tokens} tokens"
    assert any(line.startswith("item ") for line in lines)
    assert next(line for line in lines if "<|sid_begin|>" in line).startswith("token ")
    assert [line.split()[0] for line in lines[-4:-1]] == ["1", "2", "3"]


def test_texts_messages_and_token_ids_are_asked_for(made: Callable[[str], Made]) -> None:
    folder = made("openonerec").folder
    for prompt in (("--text", "hello"), ("--input-ids", "1, 2"), ("--messages", '[{"role":"user","content":"hi"}]')):
        assert json.loads(octorec("recommend", folder, *prompt, *ASK, "--json").stdout)["complete"]
    words = ("--history", "m1", "--task", "interactive", "--user", "profile=young", "--user", "keyword=space")
    shown = octorec("recommend", folder, *words, *ASK, "--show-prompt").stdout
    assert "young" in shown
    assert "space" in shown


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--input-ids", "1,x"), "input_ids: got 'x'; token ids are written with commas, such as 151669,12"),
        (("--messages", "hi"), "messages: got 'hi'; must be a JSON list such as"),
        (("--messages", "{}"), "messages: got {}; must be a list of one message or more"),
        (("--text", "hi", "--history", "m1"), "text: got 'hi'; give it or history, not both"),
        (("--history", "m1", "--task", "news"), "task: got 'news'; allowed: video, "),
        (("--history", "m1,nope"), "history: got 'nope'; is no item of the catalog"),
        (("--history", "m1", "--domain", "a b"), "domain: got 'a b'; must be a name"),
        (("--history", "m1", "--user", "age=3"), "user.age: got '3'; task video reads no words of the user"),
        (("--history", "m1", "--base", "nowhere"), "base: got 'nowhere'"),
        (("--history", "m1", "--catalog", "video=nowhere"), "catalog: got 'nowhere'"),
    ],
)
def test_what_is_wrong_is_one_line(options: tuple[str, ...], said: str, made: Callable[[str], Made]) -> None:
    done = octorec("recommend", made("openonerec").folder, *options, *ASK, expect=2)
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_adapter_needs_its_base_and_answers_with_it(made: Callable[[str], Made], adapter: Path) -> None:
    one = made("openonerec")
    catalog = ("--catalog", one.folder / "catalog")
    asked = ("recommend", adapter, "--history", "m1,m2", *catalog, *ASK)
    renamed = json.loads((adapter / "adapter_config.json").read_text())
    renamed["base_model_name_or_path"] = "somebody/model"
    (adapter / "adapter_config.json").write_text(json.dumps(renamed))
    refused = octorec(*asked, expect=2).stderr
    assert "base_model_name_or_path: got 'somebody/model'; is no folder here: give the base's" in refused
    assert "--base" in refused
    found = json.loads(octorec(*asked, "--base", one.folder, "--json").stdout)
    plain = package.load(one.folder).recommend([Request(["m1", "m2"], k=3, beam_width=16)])[0]
    merged = package.load(adapter, one.folder / "catalog", base=one.folder)
    assert found["scores"] == merged.recommend([Request(["m1", "m2"], k=3, beam_width=16)])[0].scores
    assert abs(found["scores"][0] - plain.scores[0]) > 1e-3


@pytest.mark.usefixtures("undrawn")
def test_an_adapter_is_analyzed_as_it_is_merged(made: Callable[[str], Made], adapter: Path, tmp_path: Path) -> None:
    one, out = made("openonerec"), tmp_path / "out"
    ask = ("analyze", adapter, "--base", one.folder, "--catalog", one.folder / "catalog", "--out", out, "--json")
    data = ("--data", csv_of(one, tmp_path), "--requests", "2")
    found = json.loads(octorec(*ask, *data).stdout)
    merged = disk_tensors(load_model(adapter, base=one.folder))
    assert {row["name"] for row in found["weights"]} == {*merged}
    name = "model.layers.0.mlp.up_proj.weight"
    (measured,) = (row for row in found["weights"] if row["name"] == name)
    assert measured["absmax"] == pytest.approx(float(merged[name].abs().max()))
    assert measured["absmax"] != float(disk_tensors(load_model(one.folder))[name].abs().max())
    assert found["activations"]
    assert (
        "is no adapter"
        in octorec("analyze", one.folder, "--base", one.folder, "--out", tmp_path / "b", expect=2).stderr
    )


def test_widths_of_an_adapter_lie_beside_it(made: Callable[[str], Made], adapter: Path, tmp_path: Path) -> None:
    one = made("openonerec")
    asked = ("--data", csv_of(one, tmp_path), "--k", "2", "--beam-widths", "4,16", "--limit", "3")
    catalog = ("--catalog", one.folder / "catalog")
    octorec("widths", adapter, "--base", one.folder, *catalog, *asked)
    assert [*read_starts(adapter).widths] == [2]


def csv_of(one: Made, folder: Path) -> Path:
    """Interactions of a few users."""
    rows = itertools.islice(one.interactions.histories().items(), 6)
    lines = [f"{user},{item},{time}" for user, items in rows for time, item in enumerate(items)]
    path = folder / "data.csv"
    path.write_text("\n".join(["user_id,item_id,timestamp", *lines]))
    return path


@pytest.mark.slow
def test_a_folder_with_sid2pid_files_is_served(made: Callable[[str], Made], tmp_path: Path) -> None:
    one = made("onereason")
    sid2pid(tmp_path / "a.json", one.catalog, range(0, 120), 1000)
    sid2pid(tmp_path / "b.json", one.catalog, range(80, 200), 5000)
    flags = ["--catalog", f"video={tmp_path / 'a.json'}", "--catalog", f"prod={tmp_path / 'b.json'}", "--show-prompt"]
    flags += ["--beam-widths", "16", "--default-beam-width", "16", "--batch-sizes", "1,4", "--port", "0"]
    command = [sys.executable, "-m", "octorec", "serve", str(one.folder), *flags]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        assert server.stderr
        lines = []
        while not any(line["message"] == "listening" for line in lines):
            lines.append(json.loads(server.stderr.readline()))
        while not any(line["message"] == "ready" for line in lines):
            lines.append(json.loads(server.stderr.readline()))
        (port,) = [line["port"] for line in lines if line["message"] == "listening"]
        for domain, history, first in (("video", 1003, "1"), ("product", 5003, "5")):
            body = {"history": [history], "domain": domain, "k": 3}
            answer = httpx.post(f"http://127.0.0.1:{port}/v1/recommend", json=body, timeout=60).json()
            assert all(item.startswith(first) for item in answer["items"]), answer
            assert answer["prompt_tokens"] > 10
        server.send_signal(signal.SIGTERM)
        lines += map(json.loads, server.communicate(timeout=60)[1].splitlines())
    finally:
        server.kill()
    said = [line["message"] for line in lines]
    assert any(message.startswith("generation_config.json is ignored in beam search: do_sample") for message in said)
    assert said.count("prompt") == 2
