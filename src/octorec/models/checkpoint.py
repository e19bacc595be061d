"""OneRec-V2's names: which tensor of a checkpoint folder is which part of the model in memory.

On disk every matrix is 2-D and goes by its own name; in memory q, k, v and gate, up lie together, and so do the experts
of a block. `disk_tensors` is the one place that knows both: it gives views of a model's memory under the disk's names.
`docs/checkpoint.md` lists every tensor.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from octorec.errors import MismatchError
from octorec.kernels.fp8 import E4M3
from octorec.models.config import OneRecConfig
from octorec.models.context import FIELD
from octorec.models.hf_folder import Checkpoint, write_config, write_tensors
from octorec.models.layers import MoE
from octorec.models.onerec import OneRecV2
from octorec.models.scales import PLAIN, SCALE_TYPES
from octorec.models.shapes import checked_config

PARTS = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}


def disk_tensors(model: OneRecV2) -> dict[str, Tensor]:
    """Every tensor of a OneRecV2, 16 bit or FP8, under its name on disk: views, so that copying into one loads it."""
    shared = {name: module.n_shared for name, module in model.named_modules() if isinstance(module, MoE)}
    out: dict[str, Tensor] = {}
    for name, tensor in model.state_dict(keep_vars=False).items():
        name = name.replace(f"context.field_embed.{FIELD}", "context.field_embed.", 1)
        match = re.fullmatch(r"(.*)\.experts\.(\w+_proj)(.*)", name)
        if not match:
            out.update(_parts(name, tensor))
            continue
        ffn, proj, suffix = match.groups()
        routed = len(tensor) - shared[ffn]
        for expert, matrix in enumerate(tensor):
            where = f"experts.{expert}" if expert < routed else f"shared_experts.{expert - routed}"
            out.update(_parts(f"{ffn}.{where}.{proj}.weight{suffix}", matrix))
    return out


def _parts(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Split a fused projection's rows under the names of its parts."""
    for fused, parts in PARTS.items():
        if f".{fused}." in name:
            rows = len(tensor) // len(parts)
            for index, part in enumerate(parts):
                yield name.replace(f".{fused}.", f".{part}."), tensor[index * rows : (index + 1) * rows]
            return
    yield name, tensor


def save(model: OneRecV2, folder: Path, dtype: torch.dtype) -> int:
    """Write a 16-bit (or float32) OneRecV2 into `folder`; the router's bias stays float32. Returns its bytes."""
    write_config(folder, {**model.config.to_dict(), "torch_dtype": str(dtype).removeprefix("torch.")})
    tensors = disk_tensors(model).items()
    return write_tensors(folder, ((name, stored(name, tensor, dtype)) for name, tensor in tensors))


def stored(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """`tensor` in the type it is kept in: the router's bias and the scales in float32, the rest in `dtype`."""
    return tensor if name.endswith(("router.bias", "_scale")) else tensor.to(dtype)


def load_into(model: OneRecV2, checkpoint: Checkpoint) -> None:
    """Copy every tensor of `checkpoint` into `model`, after `check_fits`."""
    check_fits(model, checkpoint)
    for name, tensor in disk_tensors(model).items():
        values = checkpoint.load(name)
        tensor.copy_(values.view(-1, 1) if _serves_channels(name, tuple(values.shape), tensor) else values)


def check_fits(model: OneRecV2, checkpoint: Checkpoint) -> None:
    """Raise MismatchError unless the tensors of `checkpoint` have the names, shapes and types that `model` is made of.

    Reads headers alone; the model may be on the meta device.
    """
    wanted, where = disk_tensors(model), f"checkpoint {checkpoint.folder}"
    present = set(checkpoint.names())
    for name in (name for name in wanted if name in present):
        fp8 = wanted[name].dtype == E4M3
        types = ("F8_E4M3",) if fp8 else (SCALE_TYPES if name.endswith("_scale") else PLAIN)
        if checkpoint.dtype(name) not in types:
            allowed = f"its config.json says {'FP8' if fp8 else '16 bit'}: {', '.join(types)}"
            raise MismatchError(f"{where}: {name}", checkpoint.dtype(name), allowed)
    missing, foreign = sorted(set(wanted) - present), sorted(present - set(wanted))
    if missing or foreign:
        found = f"missing {_some(missing)}; unexpected {_some(foreign)}"
        raise MismatchError(where, found, "its tensors must be those its config.json says")
    for name, tensor in wanted.items():
        shape = checkpoint.shape(name)
        if shape != tuple(tensor.shape) and not _serves_channels(name, shape, tensor):
            raise MismatchError(f"{where}: {name}", shape, f"its config.json says {tuple(tensor.shape)}")


def _serves_channels(name: str, shape: tuple[int, ...], tensor: Tensor) -> bool:
    """Whether a scale of this shape on disk gives each row of the scales `tensor` [N, 1] its own: one of all, or N."""
    channels = name.endswith("_scale") and tensor.dim() == 2 and tensor.shape[1] == 1
    return channels and shape in ((), (1,), (1, 1), (len(tensor),))


def read_config(checkpoint: Checkpoint) -> OneRecConfig:
    """The model's configuration; an InputError when the folder holds another model's or other shapes than it says."""
    shapes = {name: checkpoint.shape(name) for name in checkpoint.weights()}
    return checked_config(checkpoint.config, shapes, f"checkpoint {checkpoint.folder}")


def _some(names: list[str]) -> str:
    return "nothing" if not names else ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
