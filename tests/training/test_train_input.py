"""What a training is asked for and goes on from: wrong values are refused by name, before anything is made."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.numpy import save_file

from octorec.catalog.catalog import Catalog
from octorec.errors import InputError
from octorec.models.onerec import OneRecV2, initialize
from octorec.models.presets import preset
from octorec.training.config import TrainConfig
from octorec.training.run import model_config
from octorec.training.trainer import Trainer


@pytest.fixture
def catalog() -> Catalog:
    codes = pa.array([[0, 1, 2], [6, 4, 5]], pa.list_(pa.int32()))
    return Catalog.of_items(pa.table({"item_id": ["a", "b"], "codes": codes}), (7, 5, 6))


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("steps", (0, -1, 10**30, 1.5, "5", True, None)), ("batch_size", (0, -1, 2**32, 1.0)), ("save_every", (0,)),
        ("validate_every", (0,)), ("warmup", (-1, 0.5, 2**40)), ("seed", (-1, 2**32, 10**30, 0.5)),
        ("learning_rate", (0.0, -1.0, NAN, INF, "1", True)), ("clip_norm", (0.0, NAN, INF)), ("bias_rate", (-1.0, NAN)),
        ("weight_decay", (-1.0, NAN, INF)), ("label_smoothing", (-0.1, 1.0, NAN)), ("dropout", (-0.1, 1.0, NAN)),
        ("history_drop", (1.0, NAN, INF)), ("precision", ("float16", None, 32)),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_refused_by_name(name: str, values: tuple[Any, ...]) -> None:
    for value in values:
        with pytest.raises(InputError, match=f"^{name}: got"):
            TrainConfig(**{name: value})


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1]", b"null", b"3", b'{"\xff": 1}', b"[" * 100_000, b'{"a": 32, "a": 64}', b'{"rms_eps": NaN}'],
    ids=lambda content: content[:20],
)
def test_a_model_configuration_that_is_none_is_refused(catalog: Catalog, tmp_path: Path, content: bytes) -> None:
    for name in ("config.json", "config"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match="config"):
            model_config(tmp_path / name, catalog)


def test_a_model_configuration_must_be_a_file(catalog: Catalog, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    for source in (tmp_path, tmp_path / "none", tmp_path / "pipe.json", str(tmp_path / "none.json")):
        with pytest.raises(InputError, match="config: got"):
            model_config(source, catalog)
    assert model_config("tiny", catalog).codebook_sizes == (7, 5, 6)


class Nothing:
    """A training set that is never asked."""

    target = torch.zeros(0, 3)

    def __len__(self) -> int:
        return 0

    def digest(self) -> str:
        return "of nothing"


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    model = OneRecV2(preset("tiny"))
    initialize(model, 0)
    trainer = Trainer(model, Nothing(), TrainConfig())  # type: ignore[arg-type]
    trainer.save(tmp_path / "state")
    about = json.loads((tmp_path / "state" / "state.json").read_text())
    whole = (tmp_path / "state" / "state.safetensors").read_bytes()
    for text in ("{", "[]", "{}", json.dumps({**about, "step": "5"}), json.dumps({**about, "examples": 10**30})):
        (tmp_path / "state" / "state.json").write_text(text)
        with pytest.raises(InputError, match="resume"):
            trainer.restore(tmp_path / "state")
    (tmp_path / "state" / "state.json").write_text(json.dumps(about))
    for content in (b"", whole[:-9], whole[:50]):
        (tmp_path / "state" / "state.safetensors").write_bytes(content)
        with pytest.raises(InputError, match="holds a damaged"):
            trainer.restore(tmp_path / "state")
    save_file({"model.x": np.zeros(3, np.float32)}, tmp_path / "state" / "state.safetensors")
    with pytest.raises(InputError, match="holds a damaged"):
        trainer.restore(tmp_path / "state")
    (tmp_path / "state" / "state.safetensors").write_bytes(whole)
    trainer.restore(tmp_path / "state")
