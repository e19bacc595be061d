"""Where there is no GPU: Triton interprets its kernels, and tests marked `gpu` are skipped and say so.

And small OneRec-V2 checkpoints for tests that need one.
"""

import octorec as octorec  # isort: skip  # before torch, whose threads it sets
import gc
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from octorec.models.onerec import OneRecV2, initialize
from octorec.models.presets import preset
from octorec.models.weights import save
from octorec.output.write import new_folder

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # has to be set before triton is first imported


def pytest_collection_finish() -> None:
    """Spare thousands of tests and what they imported from each of the collections to come."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 9):
        return
    skip = pytest.mark.skip(reason="needs a CUDA GPU of compute capability 8.9 or more, and there is none here")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports have empty figures, as drawing takes longer than all the rest of an analysis."""
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, file, **_: file.write("<svg></svg>"))


@pytest.fixture
def make_checkpoint(tmp_path: Path) -> Callable[..., Path]:
    """make_checkpoint(preset name, dtype, changes...) -> a folder with an initialised model, router biases uneven."""

    def make(name: str = "demo", dtype: torch.dtype = torch.bfloat16, **changes: object) -> Path:
        model = OneRecV2(preset(name, **changes))
        initialize(model, seed=0)
        for router in (module for module in model.modules() if hasattr(module, "bias")):
            router.bias.copy_(torch.linspace(-0.01, 0.01, len(router.bias)) + 1e-5)
        folder = tmp_path / f"{name}-{len(list(tmp_path.iterdir()))}"
        with new_folder(folder) as scratch:
            save(model, scratch, dtype)
        return folder

    return make
