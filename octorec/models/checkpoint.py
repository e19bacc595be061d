"""Checkpoints as Hugging Face folders: `config.json`, `model-0000i-of-0000n.safetensors` and their index.

On disk every matrix is 2-D and goes by its own name; in memory q, k, v and gate, up lie together, and so do the experts
of a block. `disk_tensors` is the one place that knows both: it gives views of a model's memory under the disk's names.
`docs/checkpoint.md` lists every tensor.
"""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from octorec.errors import InputError, MismatchError
from octorec.models.config import OneRecConfig
from octorec.models.layers import MoE
from octorec.models.onerec import OneRecV2

SHARD_BYTES = 10**9
INDEX = "model.safetensors.index.json"
PARTS = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}


def disk_tensors(model: OneRecV2) -> dict[str, Tensor]:
    """Every tensor of a OneRecV2, 16 bit or FP8, under its name on disk: views, so that copying into one loads it."""
    shared = {name: module.n_shared for name, module in model.named_modules() if isinstance(module, MoE)}
    out: dict[str, Tensor] = {}
    for name, tensor in model.state_dict(keep_vars=False).items():
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


def write_tensors(folder: Path, tensors: Iterable[tuple[str, Tensor]], shard_bytes: int = SHARD_BYTES) -> int:
    """Write `tensors` into shards of at most `shard_bytes` (a larger tensor gets one alone), and their index.

    Holds one shard in memory. The folder should be one that `files.new_folder` gave. Returns the bytes of the tensors.
    """
    shards: list[list[str]] = []
    pending: dict[str, Tensor] = {}
    total = 0

    def flush() -> None:
        shards.append(list(pending))
        path = folder / _shard_name(len(shards), 0)
        save_file(pending, path, metadata={"format": "pt"})
        path.chmod(0o644)  # safetensors writes files that only their owner reads
        pending.clear()

    for name, tensor in tensors:
        size = tensor.nbytes
        if pending and sum(t.nbytes for t in pending.values()) + size > shard_bytes:
            flush()
        pending[name] = tensor.detach().cpu().contiguous().clone() if tensor._is_view() else tensor.detach().cpu()
        total += size
    flush()
    weight_map = {}
    for number, names in enumerate(shards, 1):
        final = _shard_name(number, len(shards))
        (folder / _shard_name(number, 0)).rename(folder / final)
        weight_map.update(dict.fromkeys(names, final))
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index, indent=1))
    return total


def write_config(folder: Path, config: dict[str, Any]) -> None:
    (folder / "config.json").write_text(json.dumps(config, indent=1))


def save(model: OneRecV2, folder: Path, dtype: torch.dtype) -> int:
    """Write a 16-bit (or float32) OneRecV2 into `folder`; the router's bias stays float32. Returns its bytes."""
    write_config(folder, {**model.config.to_dict(), "torch_dtype": str(dtype).removeprefix("torch.")})
    tensors = disk_tensors(model).items()
    return write_tensors(folder, ((name, stored(name, tensor, dtype)) for name, tensor in tensors))


def stored(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """`tensor` in the type it is kept in: the router's bias and the scales in float32, the rest in `dtype`."""
    return tensor if name.endswith(("router.bias", "_scale")) else tensor.to(dtype)


class Checkpoint:
    """A checkpoint folder opened for reading: names, shapes, and tensors one at a time from memory-mapped shards."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise InputError("checkpoint", str(folder), "must be a folder with config.json and safetensors shards")
        self.config = read_json(self.folder / "config.json")
        self._files = self._open()

    @property
    def quantization(self) -> dict[str, Any] | None:
        """`quantization_config` of config.json, or None for 16 bit."""
        return self.config.get("quantization_config")

    def names(self) -> list[str]:
        return list(self._files)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._files[name].get_slice(name).get_shape())

    def load(self, name: str) -> Tensor:
        return self._files[name].get_tensor(name)

    def items(self) -> Iterator[tuple[str, Tensor]]:
        for name in self._files:
            yield name, self.load(name)

    def _open(self) -> dict[str, Any]:
        index = self.folder / INDEX
        if index.exists():
            shards = sorted(set(read_json(index)["weight_map"].values()))
        else:
            shards = sorted(path.name for path in self.folder.glob("*.safetensors"))
        if not shards:
            raise InputError("checkpoint", str(self.folder), "holds no .safetensors file (pickled files are not read)")
        files: dict[str, Any] = {}
        for shard in shards:
            handle = open_shard(self.folder / shard)
            files.update(dict.fromkeys(handle.keys(), handle))
        return files


def load_into(model: OneRecV2, checkpoint: Checkpoint) -> None:
    """Copy every tensor of `checkpoint` into `model`, whose names and shapes must be exactly the checkpoint's."""
    wanted = disk_tensors(model)
    present = set(checkpoint.names())
    missing, foreign = sorted(set(wanted) - present), sorted(present - set(wanted))
    if missing or foreign:
        found = f"missing {_some(missing)}; unexpected {_some(foreign)}"
        raise MismatchError(f"checkpoint {checkpoint.folder}", found, "its tensors must be those its config.json says")
    for name, tensor in wanted.items():
        shape = checkpoint.shape(name)
        one_for_all = shape == (1,) and name.endswith("_scale")  # a tensor's one scale serves all its channels
        if shape != tuple(tensor.shape) and not one_for_all:
            allowed = f"its config.json says {tuple(tensor.shape)}"
            raise MismatchError(f"checkpoint {checkpoint.folder}: {name}", shape, allowed)
        tensor.copy_(checkpoint.load(name))


def read_config(checkpoint: Checkpoint) -> OneRecConfig:
    """The model's configuration; an InputError when the folder holds another model's."""
    return OneRecConfig.from_dict(checkpoint.config)


def _some(names: list[str]) -> str:
    return "nothing" if not names else ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _shard_name(number: int, total: int) -> str:
    return f"model-{number:05d}-of-{total:05d}.safetensors"


def open_shard(path: Path) -> Any:
    """The tensors of one safetensors file, memory-mapped; an InputError where it is missing or truncated."""
    if not path.exists():
        raise InputError("checkpoint", str(path), f"is named by {INDEX} but missing: copy the folder again")
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise InputError("checkpoint", str(path), f"is truncated or no safetensors file ({error})") from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; an InputError where it is missing or holds none."""
    if not path.exists():
        raise InputError("checkpoint", str(path), "is missing")
    try:
        found = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError("checkpoint", str(path), f"is no JSON ({error})") from error
    if not isinstance(found, dict):
        raise InputError("checkpoint", str(path), "must hold an object")
    return found
