"""`octorec inspect` says what lies in a folder: layout, shapes and settings, without weights and a tokenizer's code."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from octorec.kernels import reference
from octorec.models.generation_config import ignored_generation_line
from octorec.models.hf_folder import Checkpoint
from octorec.models.onerec import OneRecV2
from octorec.models.onerec_config import OneRecConfig
from octorec.models.weights import save
from tests.cli.test_cli import octorec
from tests.cli.test_command import said_at_the_end
from tests.models.made_tokenizers import minionerec, onereason, onerec_think_tokens, openonerec, write_tokenizer


def printed(folder: Path) -> str:
    return " ".join(octorec("inspect", folder).stdout.split())


def with_weights(folder: Path) -> Path:
    tensors = {"model.embed_tokens.weight": torch.full((8, 4), torch.nan, dtype=torch.bfloat16)}
    save_file({**tensors, "model.norm.weight": torch.ones(4)}, folder / "model.safetensors")
    return folder


def test_a_folder_s_layout_is_a_table(tmp_path: Path) -> None:
    said = printed(with_weights(minionerec(tmp_path)))
    layout = json.loads(octorec("inspect", tmp_path, "--json").stdout)["layout"]
    first = layout["levels"][0]["first"]
    assert (first["code"], first["text"]) == (2, "<a_2>")
    assert f"│ a │ 41 │ 4 │ 37 │ <a_2> = {first['id']} │ <a_40> =" in said
    assert "tokens: minionerec, by its added tokens" in said
    assert "begin none: a prompt ends as its template does" in said
    assert f'end "\\n" = {layout["end"][0]["id"]}, forced, scored' in said
    assert "scores over the vocabulary" in said
    assert "note LC-Rec and MIMIGenRec write the same tokens" in said
    assert "weights 1 file, 2 tensors, 80 bytes: 32 BF16, 4 F32" in said
    assert "model_type 'qwen2'" in said


def test_begin_tokens_stand_by_their_domains(tmp_path: Path) -> None:
    said = printed(onereason(tmp_path))
    assert "begin <|prod_begin|> = " in said
    assert "of the domain product" in said
    assert "end none: an item ends with its last code" in said
    assert "weights no safetensors file in the folder" in said


def test_what_the_user_s_file_says_is_shown(tmp_path: Path) -> None:
    own = {"end": [{"token": "<|im_end|>", "scored": False}], "prompt": "mine.jinja", "scores_over": "level"}
    said = printed(openonerec(tmp_path, said=own))
    assert "tokens: openonerec, by its added tokens; end, scores_over, prompt: octorec.json" in said
    assert "forced, not scored" in said
    assert "scores over the level" in said
    assert "prompts the template mine.jinja" in said


def test_nothing_is_loaded_and_no_tokenizer_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("a weight is read")

    monkeypatch.setattr(Checkpoint, "load", refuse)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert said_at_the_end(["inspect", str(with_weights(openonerec(tmp_path))), "--json"]) == (0, "")


def test_tokens_without_a_layout_end_with_what_was_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The rest is printed all the same."""
    folder = write_tokenizer(tmp_path, onerec_think_tokens(), special=True)
    code, err = said_at_the_end(["inspect", str(folder)])
    assert code == 2
    assert err.startswith("error: tokenizer: got ")
    assert "codes were found at 4 levels" in err
    assert "model_type" in capsys.readouterr().out
    assert said_at_the_end(["inspect", str(folder), "--json"])[0] == 2
    found = json.loads(capsys.readouterr().out)
    assert found["layout"] is None
    assert "codes were found at 4 levels" in found["refused"]


def test_a_folder_of_onerec_v2_reads_codes(tmp_path: Path) -> None:
    model = OneRecV2(OneRecConfig(d_model=16, n_layer=1, n_head=2, embed_dim=4, codebook_sizes=(7, 5, 6)), reference)
    save(model, tmp_path, torch.float32)
    (tmp_path / "config.json").write_text(json.dumps(model.config.to_dict()))
    said = printed(tmp_path)
    assert f"{tmp_path}: OneRec-V2 reads codes, not tokens: 7, 5, 6 codes a level" in said
    assert "d_model 16" in said


def test_a_language_model_without_a_tokenizer_is_not_said_to_read_codes(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen3", "vocab_size": 100}')
    assert "has no tokenizer's files, which say what tokens stand for codes" in printed(tmp_path)


def test_an_adapter_s_folder_shows_its_settings(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"r": 16, "base_model_name_or_path": "/home/x/base"}')
    said = printed(tmp_path)
    assert "base_model_name_or_path '/home/x/base'" in said
    assert "r 16" in said


def test_settings_of_sampling_are_named_as_ignored(tmp_path: Path) -> None:
    folder = openonerec(tmp_path)
    assert ignored_generation_line(folder) is None
    raw = {"do_sample": True, "top_k": 20, "repetition_penalty": 1.1, "eos_token_id": 3, "_from_model_config": True}
    (folder / "generation_config.json").write_text(json.dumps(raw))
    line = "generation_config.json is ignored in beam search: do_sample True, top_k 20, repetition_penalty 1.1"
    assert ignored_generation_line(folder) == line
    assert "ignored of generation_config.json, in beam search: do_sample True, top_k 20" in printed(folder)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda folder: None, "must be a folder that holds config.json; this one is empty"),
        (lambda folder: minionerec(folder / "Office_ckpt"), "it lies in its folder Office_ckpt: give one of these"),
        (lambda folder: (folder / "config.json").write_text("{"), "is no JSON"),
    ],
)
def test_a_folder_that_is_none_is_refused(tmp_path: Path, make: object, expected: str) -> None:
    make(tmp_path)  # type: ignore[operator]
    code, err = said_at_the_end(["inspect", str(tmp_path)])
    assert (code, expected in err) == (2, True), err


def test_a_bare_call_helps(capsys: pytest.CaptureFixture[str]) -> None:
    code, err = said_at_the_end(["inspect"])
    assert (code, err) == (2, "error: a verb or an argument is missing\n")
    assert "Usage: octorec inspect" in capsys.readouterr().out
