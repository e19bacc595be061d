"""What commit 263567f wrote, before files said versions, is read as it was: README.md here says how it was made."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octorec
from octorec.catalog.catalog import Catalog
from octorec.data.interactions import read_interactions
from octorec.errors import InputError
from octorec.models.hf_folder import Checkpoint
from octorec.output.marker import foreign
from octorec.quant.convert import quantize_checkpoint
from octorec.training.config import TrainConfig
from octorec.training.run import model_config, train
from octorec.training.trainer import saved_step

MADE = Path(__file__).parent / "263567f"
SAID = json.loads((MADE / "said.json").read_text())
DRIFT = 1e-5  # of a score: float32 sums in another order


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state of the training in the middle, where `train` looks for that of `tmp_path / "model"`."""
    return Path(shutil.copytree(MADE / "state.training", tmp_path / "model.training"))


def trained(out: Path, **options: bool) -> None:
    """Train as its training did, but for two steps."""
    catalog = Catalog.load(MADE / "catalog")
    config = TrainConfig(**{**json.loads((MADE / "bf16/training.json").read_text())["train_config"], "steps": 2})
    interactions, model = read_interactions(MADE / "interactions.csv"), model_config(MADE / "bf16/config.json", catalog)
    train(interactions, catalog, model, config, out, users=SAID["users"], **options)


def assert_same_answers(folder: Path, answers: list[dict[str, Any]]) -> None:
    engine = octorec.load(folder, batch_sizes=(4,), beam_widths=(16,), default_beam_width=16)
    for answer, said in zip(
        engine.recommend([octorec.Request(**one) for one in SAID["requests"]]), answers, strict=True
    ):
        assert answer.items == said["items"]
        np.testing.assert_allclose(answer.scores, said["scores"], rtol=0, atol=DRIFT)


def test_its_folders_say_no_version_of_a_checkpoint_or_a_training() -> None:
    assert not list(MADE.rglob("*octorec.json"))
    assert "format" not in json.loads((MADE / "state.training/state.json").read_text())


def test_its_catalog_is_read_with_the_same_codes_and_versions() -> None:
    catalog = Catalog.load(MADE / "catalog")
    said = SAID["catalog"]
    assert (catalog.fingerprint, catalog.version, catalog.codes.tolist()) == tuple(
        said[name] for name in ("fingerprint", "version", "codes")
    )


@pytest.mark.parametrize("name", ["bf16", "fp8"])
def test_its_checkpoints_give_the_same_answers(name: str) -> None:
    assert_same_answers(MADE / name, SAID["answers"][name])


def test_quantizing_its_checkpoint_gives_its_fp8_weights_and_answers(tmp_path: Path) -> None:
    quantize_checkpoint(MADE / "bf16", tmp_path / "fp8", "fp8-channel")
    now, then = Checkpoint(tmp_path / "fp8"), Checkpoint(MADE / "fp8")
    assert sorted(now.names()) == sorted(then.names())
    for name in then.names():
        assert now.dtype(name) == then.dtype(name)
        np.testing.assert_array_equal(now.load(name).float().numpy(), then.load(name).float().numpy())
    assert_same_answers(tmp_path / "fp8", SAID["answers"]["fp8"])


@pytest.mark.parametrize("name", ["bf16", "fp8", "catalog", "state.training"])
def test_its_folders_are_known_as_ours_so_that_force_may_replace_them(name: str) -> None:
    assert foreign(MADE / name) == []


def test_its_training_is_not_resumed_but_trained_anew_as_the_error_says(state: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"state.json: format: got 1; was written by an older OctoRec: train anew"):
        trained(tmp_path / "model", resume=True)
    assert saved_step(state) is None
    assert [path.name for path in tmp_path.iterdir()] == [state.name]
    trained(tmp_path / "model", force=True)
    assert (tmp_path / "model/octorec.json").exists()
    assert not state.exists()
