"""A context module of the user's: what is refused of its file, its class, its checkpoint and its output."""

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from octorec.errors import InputError, MismatchError
from octorec.kernels import reference
from octorec.models.context_file import context_class, require_module_file
from octorec.models.families import FAMILIES, Family
from octorec.models.features import Feature
from octorec.models.layers import Linear
from octorec.models.onerec import OneRecV2, initialize
from octorec.models.presets import preset
from octorec.models.weights import save
from octorec.quant.load import load_model
from octorec.training.run import model_config
from tests.cli.test_cli import octorec
from tests.second_family.gru import Config, TinyGRU
from tests.serve.served import make_catalog

B, S = 2, 5


class Mood(nn.Module):
    """Context of one feature, the same for each item of the history."""

    features: ClassVar[dict[str, Feature]] = {"mood": Feature((3,))}

    def __init__(self, config: Any, ops: Any):
        super().__init__()
        self.proj = Linear(3, config.d_context, ops)

    def forward(self, batch: Any) -> Any:
        made = self.proj(batch.features["mood"].to(self.proj.weight.dtype))
        return made[:, None].expand(-1, batch.codes.shape[1], -1)


def model_of(kind: type[nn.Module], **changes: Any) -> OneRecV2:
    catalog = make_catalog()
    named = {"codebook_fingerprint": catalog.fingerprint, "context_module": kind.__name__, **changes}
    return OneRecV2(preset("tiny", **named), reference, kind)


def inputs(**changes: Tensor) -> dict[str, Tensor]:
    codes = torch.zeros(B, S, 3).long()
    mood = {"features.mood": torch.ones(B, 3)}
    return {"lengths": torch.full((B,), S), "codes": codes, "user": torch.zeros(B, 0), **mood, **changes}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = model_of(Mood)
    initialize(model, 0)
    (tmp_path / "checkpoint").mkdir()
    save(model, tmp_path / "checkpoint", torch.bfloat16)
    make_catalog().save(tmp_path / "checkpoint" / "catalog")
    return tmp_path / "checkpoint"


def edit(folder: Path, change: Any) -> None:
    """Change the one file of tensors, without an index beside it."""
    (path,) = folder.glob("*.safetensors")
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    (folder / "model.safetensors.index.json").unlink()


def test_what_a_request_writes_is_what_the_module_reads() -> None:
    model = model_of(Mood)
    initialize(model, 0)
    assert model.features == Mood.features
    assert model.inputs(S)["features.mood"].shape == (3,)
    state = model.prefill(inputs())
    assert state.keys[0].shape[:2] == (B, S)
    other = model.prefill(inputs(**{"features.mood": torch.zeros(B, 3)}))
    assert not torch.equal(state.keys[0], other.keys[0])


def test_a_checkpoint_with_a_module_is_refused_where_nobody_names_one(folder: Path) -> None:
    for verb in (("recommend", folder, "--history", "i1"), ("quantize", folder, "--out", folder.parent / "fp8")):
        said = octorec(*verb, expect=2).stderr
        assert "config.json: context_module: got 'Mood'" in said
        assert "--context-module FILE.py:Mood" in said


def test_nothing_in_a_folder_makes_code_run(folder: Path) -> None:
    ran = folder.parent / "ran"
    (folder / "Mood.py").write_text(f"open({str(ran)!r}, 'w')")
    raw = json.loads((folder / "config.json").read_text())
    for name in ("Mood", "Mood.py:Mood", str(folder / "Mood.py:Mood"), 3):
        (folder / "config.json").write_text(json.dumps({**raw, "context_module": name}))
        with pytest.raises(InputError, match="context_module"):
            load_model(folder)
    assert not ran.exists()


def test_a_module_is_refused_by_a_checkpoint_that_has_none(tmp_path: Path) -> None:
    model = OneRecV2(preset("tiny"))
    initialize(model, 0)
    save(model, tmp_path, torch.bfloat16)
    with pytest.raises(InputError, match=r"context_module: got 'Mood'.*has no context_module"):
        load_model(tmp_path, context_module=Mood)


def test_a_family_without_the_seam_refuses_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "tiny_gru", Family("tests.second_family.gru", "TinyGRU", "tiny GRU"))
    model = TinyGRU(Config((7, 5, 6)), reference)
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    save(model, tmp_path, torch.bfloat16)
    with pytest.raises(InputError, match="models of type tiny_gru take none"):
        load_model(tmp_path, context_module=Mood)
    assert load_model(tmp_path).codebook_sizes == (7, 5, 6)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda tensors: tensors.pop("context.proj.weight"), "missing context.proj.weight"),
        (lambda tensors: tensors.update({"context.more": torch.ones(2)}), "unexpected context.more"),
        (lambda tensors: tensors.update({"context.proj.weight": torch.ones(2, 3)}), "context.proj.weight"),
        (lambda tensors: tensors["context.proj.weight"].fill_(float("nan")), "context.proj.weight"),
    ],
)
def test_a_tensor_that_the_module_does_not_have_so_is_named(folder: Path, change: Any, named: str) -> None:
    edit(folder, change)
    with pytest.raises(InputError, match=named):
        load_model(folder, context_module=Mood)


def test_a_tensor_beside_the_module_s_is_still_refused(folder: Path) -> None:
    edit(folder, lambda tensors: tensors.update({"contextual": torch.ones(2)}))
    with pytest.raises(MismatchError, match="unexpected contextual"):
        load_model(folder, context_module=Mood)


FILE = "from torch import nn\nclass Mine(nn.Module):\n    def __init__(self, config, ops):\n        {}\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("def f(:", "SyntaxError"),
        ("\n\nimport no_such_library", r"line 3 of .*mine.py: ModuleNotFoundError"),
        ("Mine = 3", "must be FILE.py:CLASS"),
        ("class Mine: pass", "a torch.nn.Module"),
        ("Mine = print", "must be FILE.py:CLASS"),
    ],
)
def test_a_file_without_such_a_class_is_refused_with_its_line(tmp_path: Path, text: str, found: str) -> None:
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(InputError, match=found):
        context_class(f"{tmp_path}/mine.py:Mine")


@pytest.mark.parametrize("text", ["mine.py", "mine:Mine", "gone.py:Mine", "mine.py:", "mine.py:a-b", ":", 3, None])
def test_what_names_no_file_and_class_is_refused(text: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").touch()
    with pytest.raises(InputError, match="context_module"):
        require_module_file(text)


def test_a_file_is_run_once_whatever_becomes_of_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(FILE.format("pass") + "from dataclasses import dataclass\n@dataclass\nclass Part:\n    a: 'int'\n")
    first = context_class(f"{path}:Mine")
    path.write_text("1 / 0")
    assert context_class(f"{path}:Mine") is first


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("1 / 0", r"got 'Mine'; line 4 of .*mine.py: ZeroDivisionError"),
        ("super().__init__()", "Mine: features: got None"),
        ("super().__init__(); self.features = [1]", r"Mine: features: got \[1\]"),
        ("super().__init__(); self.features = {'a': 3}", "names to octorec.Feature"),
        ("super().__init__(); self.features = {}; self.register_buffer('x', self.features, False)", "TypeError"),
    ],
)
def test_a_class_that_cannot_be_made_is_refused(tmp_path: Path, body: str, found: str) -> None:
    (tmp_path / "mine.py").write_text(FILE.format(body))
    with pytest.raises(InputError, match=found):
        model_of(context_class(f"{tmp_path}/mine.py:Mine"))


@pytest.mark.parametrize("name", ["", "a.b", " a", "a\n", 3, "x" * 101])
def test_a_feature_needs_a_name_that_can_be_shown(name: Any) -> None:
    class Mine(Mood):
        features: ClassVar[dict[str, Feature]] = {name: Feature()}

    with pytest.raises(InputError, match="a name is a text"):
        model_of(Mine)


@pytest.mark.parametrize(("buffer", "persistent"), [(torch.ones(2), False), (torch.ones(2).long(), True)])
def test_a_buffer_that_no_checkpoint_holds_is_refused(buffer: Tensor, persistent: bool) -> None:
    class Mine(Mood):
        def __init__(self, config: Any, ops: Any):
            super().__init__(config, ops)
            self.proj.register_buffer("steps", buffer, persistent)

    with pytest.raises(InputError, match=r"Mine: buffer: got 'proj.steps'"):
        model_of(Mine)


@pytest.mark.parametrize(
    ("made", "found"),
    [
        (lambda context, batch: None, "Mine: context: got None"),
        (lambda context, batch: context[0], r"Mine: context: got '\(5, 32\)"),
        (lambda context, batch: context[:1], r"must be a tensor \[2, S, 32\]"),
        (lambda context, batch: context[..., 1:], r"\(2, 5, 31\)"),
        (lambda context, batch: context.double(), "torch.float64"),
        (lambda context, batch: (context, batch.lengths.float()), "Mine: lengths"),
        (lambda context, batch: (context, batch.lengths[:1]), r"Mine: lengths.*must be a tensor \[2\]"),
        (lambda context, batch: batch.features["gone"], r"got 'Mine'; line \d+ of .*test_context_module.py: KeyError"),
    ],
)
def test_context_of_another_form_is_refused(made: Any, found: str) -> None:
    class Mine(Mood):
        def forward(self, batch: Any) -> Any:
            return made(super().forward(batch), batch)

    model = model_of(Mine)
    initialize(model, 0)
    with pytest.raises(InputError, match=found):
        model.prefill(inputs())


def test_training_refuses_dimensions_with_a_module(tmp_path: Path) -> None:
    raw = {**preset("tiny").to_dict(), "context_module": "Mood"}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    with pytest.raises(InputError, match="context_module"):
        model_config(tmp_path / "config.json", make_catalog())


def test_an_import_brings_the_module_s_weights(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from tests.models.test_context_module import Mood\n")
    rules = [{"from": name.replace("context.", "ours."), "to": name} for name in _names(folder)]
    edit(folder, lambda tensors: tensors.update({"ours.proj.weight": tensors.pop("context.proj.weight")}))
    (tmp_path / "names.yaml").write_text(json.dumps({"rules": rules}))
    line = ("import", folder, "--map", tmp_path / "names.yaml", "--out", tmp_path / "out")
    assert "context_module" in octorec(*line, expect=2).stderr
    octorec(*line, "--context-module", f"{tmp_path}/mine.py:Mood")
    assert load_model(tmp_path / "out", context_module=Mood).features == Mood.features


def _names(folder: Path) -> list[str]:
    (path,) = folder.glob("*.safetensors")
    return list(load_file(path))
