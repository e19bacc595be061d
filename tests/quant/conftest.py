"""Small OneRec-V2 checkpoints to quantize."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from octorec.files import new_folder
from octorec.models.checkpoint import save
from octorec.models.onerec import OneRecV2, initialize
from octorec.models.presets import preset

MakeCheckpoint = Callable[..., Path]


@pytest.fixture
def make_checkpoint(tmp_path: Path) -> MakeCheckpoint:
    """make(preset name, dtype, changes...) -> the folder of an initialised checkpoint."""

    def make(name: str = "demo", dtype: torch.dtype = torch.bfloat16, **changes: object) -> Path:
        model = OneRecV2(preset(name, **changes))
        initialize(model, seed=0)
        with torch.no_grad():
            for router in (module for module in model.modules() if hasattr(module, "bias")):
                router.bias.copy_(torch.linspace(-0.01, 0.01, len(router.bias)) + 1e-5)
        folder = tmp_path / f"{name}-{len(list(tmp_path.iterdir()))}"
        with new_folder(folder) as scratch:
            save(model, scratch, dtype)
        return folder

    return make
