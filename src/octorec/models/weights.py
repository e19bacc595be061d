"""Weights are moved between a checkpoint folder and a model's memory, for every family.

`models.names` knows which is which.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from octorec.errors import MismatchError
from octorec.kernels.fp8 import E4M3
from octorec.models.hf_folder import Checkpoint, write_config, write_tensors
from octorec.models.names import disk_tensors
from octorec.models.scales import PLAIN, SCALE_TYPES


def save(model: nn.Module, folder: Path, dtype: torch.dtype) -> int:
    """Write a 16-bit (or float32) model with its `config` into `folder`; the router's bias stays float32.

    Returns its bytes.
    """
    config: Any = model.config
    write_config(folder, {**config.to_dict(), "torch_dtype": str(dtype).removeprefix("torch.")})
    tensors = disk_tensors(model).items()
    return write_tensors(folder, ((name, stored(name, tensor, dtype)) for name, tensor in tensors))


def stored(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return `tensor` in the type it is kept in: the router's bias and the scales in float32, the rest in `dtype`."""
    return tensor if name.endswith(("router.bias", "_scale")) else tensor.to(dtype)


def load_into(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Copy every tensor of `checkpoint` into `model`, after `check_fits`."""
    check_fits(model, checkpoint)
    stored_as = checkpoint.scale_names()
    for name, tensor in disk_tensors(model).items():
        values = checkpoint.load(stored_as.get(name, name))
        tensor.copy_(values.view(-1, 1) if _serves_channels(name, tuple(values.shape), tensor) else values)


def check_fits(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Raise MismatchError unless the tensors of `checkpoint` have the names, shapes and types that `model` is made of.

    Reads headers alone; the model may be on the meta device.
    """
    wanted, where = disk_tensors(model), f"checkpoint {checkpoint.folder}"
    stored_as = checkpoint.scale_names()
    own_name = {scale: name for name, scale in stored_as.items()}
    present = {own_name.get(name, name) for name in checkpoint.names()}
    for name in (name for name in wanted if name in present):
        fp8 = wanted[name].dtype == E4M3
        types = ("F8_E4M3",) if fp8 else (SCALE_TYPES if name.endswith("_scale") else PLAIN)
        found = checkpoint.dtype(stored_as.get(name, name))
        if found not in types:
            allowed = f"its config.json says {'FP8' if fp8 else '16 bit'}: {', '.join(types)}"
            raise MismatchError(f"{where}: {name}", found, allowed)
    missing, foreign = sorted(set(wanted) - present), sorted(present - set(wanted))
    if missing or foreign:
        found = f"missing {_some(missing)}; unexpected {_some(foreign)}"
        raise MismatchError(where, found, "its tensors must be those its config.json says")
    for name, tensor in wanted.items():
        shape = checkpoint.shape(stored_as.get(name, name))
        if shape != tuple(tensor.shape) and not _serves_channels(name, shape, tensor):
            raise MismatchError(f"{where}: {name}", shape, f"its config.json says {tuple(tensor.shape)}")


def _serves_channels(name: str, shape: tuple[int, ...], tensor: Tensor) -> bool:
    """Tell whether a scale of this shape on disk gives each row of the scales `tensor` [N, 1] its own:
    one of all, or N.
    """
    channels = name.endswith("_scale") and tensor.dim() == 2 and tensor.shape[1] == 1
    return channels and shape in ((), (1,), (1, 1), (len(tensor),))


def _some(names: list[str]) -> str:
    return "nothing" if not names else ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
