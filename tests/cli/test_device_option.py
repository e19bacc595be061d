"""A device that is not there is one line that says what to do, from every verb, before anything is read."""

from pathlib import Path

import pytest
import torch
import typer

from octorec.cli import app as cli
from octorec.errors import InputError
from octorec.kernels.device import open_device
from tests.cli.test_command import said_at_the_end

VERBS = {
    "train": ["--data", "d", "--catalog", "c", "--out", "o"],
    "recommend": ["checkpoint", "--history", "i1"],
    "recommend-all": ["checkpoint", "--data", "d", "--out", "o"],
    "doctor": [],
    "evaluate": ["one", "two", "--data", "d"],
    "prove": ["checkpoint", "--data", "d"],
    "parity": ["checkpoint", "--data", "d"],
    "serve": ["."],
    "widths": ["checkpoint", "--data", "d"],
}


def test_every_verb_with_a_device_is_tried() -> None:
    commands = typer.main.get_command(cli.app).commands.items()  # type: ignore[attr-defined]
    assert {name for name, verb in commands if any(p.name == "device" for p in verb.params)} == set(VERBS)


@pytest.mark.parametrize("device", ["cuda", "gpu", "cuda:9", "mps", "cpu:1", ""])
@pytest.mark.parametrize("verb", VERBS)
def test_a_device_that_is_not_there(verb: str, device: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "catalog").mkdir()
    for name in ("config.json", "model.safetensors"):  # enough of a checkpoint for a first look
        (tmp_path / name).write_text("{}")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, said = said_at_the_end([verb, *VERBS[verb], "--device", device])
    assert code == 2
    assert said.startswith(f"error: device: got {device!r}; ")
    assert said.count("\n") == 1


@pytest.mark.parametrize("built_for", [None, "13.0"])
def test_what_to_do_without_a_gpu_depends_on_torch(built_for: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built_for)
    said = "check with nvidia-smi .* CUDA 13.0, or take cpu" if built_for else "built without CUDA: install one with it"
    with pytest.raises(InputError, match=said):
        open_device("cuda")


@pytest.mark.parametrize(
    ("device", "said"), [("cuda", "Tesla T4 has compute capability 7.5; 8.0"), ("cuda:1", "1 GPUs")]
)
def test_a_card_that_is_too_old_or_not_there(device: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("is_available", True), ("device_count", 1), ("get_device_capability", (7, 5)),
                        ("get_device_name", "Tesla T4")):  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    with pytest.raises(InputError, match=said):
        open_device(device)
