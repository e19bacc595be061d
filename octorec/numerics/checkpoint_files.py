"""Any safetensors checkpoint, opened for looking at: a single file, a sharded Hugging Face folder, ours, 16 bit or FP8.

Tensors lie in memory-mapped files and are read a stripe of rows at a time, FP8 values through their scales.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from octorec.errors import InputError, MismatchError
from octorec.kernels.quantized import E4M3, GROUP
from octorec.models.checkpoint import INDEX, open_shard, read_json

STRIPE = 2**18  # float32 values a stripe holds, about 1 MB: it stays in a core's cache
PICKLED = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
SINGLE = "model.safetensors"
FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2)
EIGHT_BIT = (torch.float8_e4m3fn, torch.float8_e5m2, torch.int8)
CONVERT = (
    "pickled files are not read, for unpickling runs the code inside: where you trust the file, "
    "`safetensors.torch.save_file(torch.load(PATH, weights_only=True), 'model.safetensors')` "
    "converts a dictionary of tensors"
)


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as it lies on disk, and the scale that its FP8 (or 8-bit integer) values are multiplied by.

    values: of any shape. scale: None, or float32 [1 or N or ceil(N/128), 1 or K or ceil(K/128)] for values [N, K].
    """

    name: str
    values: Tensor
    scale: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)

    @property
    def nbytes(self) -> int:
        return self.values.nbytes + (0 if self.scale is None else self.scale.nbytes)

    @property
    def is_number(self) -> bool:
        """Whether it holds values that can be measured: floating-point, or 8 bit with a scale."""
        return (self.values.dtype in FLOATS or self.scale is not None) and self.values.numel() > 0

    @property
    def sixteen_bit(self) -> bool:
        """Whether its values are among 65,536."""
        return self.scale is None and self.values.dtype in (torch.bfloat16, torch.float16)

    def chunks(self) -> Iterator[Tensor]:
        """All values in float32, some at a time, in one dimension."""
        if self.scale is None:
            yield from (chunk.float() for chunk in self.values.flatten().split(STRIPE))
        else:
            yield from (stripe.flatten() for stripe in self.stripes())

    def stripes(self) -> Iterator[Tensor]:
        """Of a matrix [N, K]: float32 [R, K], R a multiple of 128 in all but the last. A stripe is overwritten next."""
        n, k = self.shape
        height = min(n, max(GROUP, STRIPE // k // GROUP * GROUP))
        buffer = torch.empty(height, k)
        for start in range(0, n, height):
            stripe = buffer[: min(height, n - start)]
            stored = self.values[start : start + height]
            if stored.dtype in EIGHT_BIT:  # a look-up beats torch's cast from FP8
                patterns = stored.contiguous().view(torch.uint8).flatten().int()
                torch.index_select(_values(stored.dtype), 0, patterns, out=stripe.view(-1))
            else:
                stripe.copy_(stored)
            if self.scale is not None:
                self._multiply(stripe, start)
            yield stripe

    def _multiply(self, stripe: Tensor, start: int) -> None:
        """Apply the scales of the rows from `start` on to `stripe` [R, K] in place."""
        assert self.scale is not None
        n, k = self.shape
        rows = torch.arange(start, start + len(stripe)) // _step(n, self.scale.shape[0])
        scale, step = self.scale[rows], _step(k, self.scale.shape[1])  # [R, 1 or K or ceil(K/128)]
        if k % step == 0:
            stripe.unflatten(1, (-1, step)).mul_(scale[:, :, None])
        else:
            stripe.mul_(scale.repeat_interleave(step, 1)[:, :k])


class CheckpointFiles:
    """The tensors of a checkpoint by name; scales belong to their tensors and have no name of their own.

    path: a safetensors file, or a folder with an index, with model.safetensors, or with any safetensors files.
    config: its config.json, empty where there is none. unread: safetensors files beside those that were opened.
    Raises InputError: nothing there, pickled files, a shard missing or truncated, a tensor that its shard lacks.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        shards = _shards(self.path)
        folder = self.path if self.path.is_dir() else self.path.parent
        present = {found.name for found in folder.glob("*.safetensors")} if self.path.is_dir() else set()
        self.unread = tuple(sorted(present - {shard.name for shard in shards}))
        self.config = read_json(folder / "config.json") if (folder / "config.json").exists() else {}
        self._files: dict[str, Any] = {}
        for shard in shards:
            self._open(shard)
        self._check_index(folder)

    @property
    def quantized(self) -> bool:
        """Whether it is FP8 or of fewer bits already."""
        return "quantization_config" in self.config or any(name in self._files for name in self._scales())

    def names(self) -> list[str]:
        scales = set(self._scales())
        return [name for name in self._files if name not in scales]

    def nbytes(self) -> int:
        """Of all tensors, as they lie on disk."""
        return sum(self._files[name].get_tensor(name).nbytes for name in self._files)

    def tensor(self, name: str) -> StoredTensor:
        values = self._files[name].get_tensor(name)
        scales = [scale for scale in _scale_names(name) if scale in self._files]
        if scales and values.dtype in EIGHT_BIT:
            return StoredTensor(
                name, values, _as_matrix(scales[0], self._files[scales[0]].get_tensor(scales[0]), values)
            )
        if values.dtype == E4M3:
            raise InputError(f"checkpoint {self.path}: {name}", str(values.dtype), f"needs its {name}_scale beside it")
        return StoredTensor(name, values)

    def _scales(self) -> list[str]:
        return [scale for name in self._files for scale in _scale_names(name) if scale in self._files]

    def _open(self, shard: Path) -> None:
        handle = open_shard(shard)
        for name in handle.keys():  # noqa: SIM118, safe_open is no dictionary
            if name in self._files:
                raise InputError("checkpoint", str(shard), f"holds {name}, and so does another file beside it")
            self._files[name] = handle

    def _check_index(self, folder: Path) -> None:
        if self.path.is_dir() and (folder / INDEX).exists():
            for name, shard in read_json(folder / INDEX)["weight_map"].items():
                if name not in self._files:
                    allowed = f"{INDEX} says it holds {name}, and it does not: copy the folder again"
                    raise InputError("checkpoint", str(folder / shard), allowed)


def _shards(path: Path) -> list[Path]:
    if path.suffix in PICKLED and path.is_file():
        raise InputError("checkpoint", str(path), CONVERT)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError("checkpoint", str(path), "must be a safetensors file or a folder of them")
    if (path / INDEX).exists():
        weight_map = read_json(path / INDEX).get("weight_map")
        if not isinstance(weight_map, dict):
            raise InputError("checkpoint", str(path / INDEX), "has no weight_map")
        return [path / shard for shard in sorted(set(weight_map.values()))]
    if (path / SINGLE).exists():
        return [path / SINGLE]
    shards = sorted(path.glob("*.safetensors"))
    pickled = sorted(found.name for found in path.iterdir() if found.suffix in PICKLED)
    if not shards:
        allowed = CONVERT if pickled else "holds no .safetensors file"
        raise InputError("checkpoint", str(path / pickled[0]) if pickled else str(path), allowed)
    return shards


def _scale_names(name: str) -> tuple[str, str]:
    """Of compressed-tensors and of DeepSeek; both multiply."""
    return f"{name}_scale", f"{name}_scale_inv"


def _as_matrix(name: str, scale: Tensor, values: Tensor) -> Tensor:
    """`scale` as float32 [1 or N or ceil(N/128), 1 or K or ceil(K/128)]."""
    shape = (scale.numel(), 1) if scale.dim() < 2 else tuple(scale.shape)
    fits = values.dim() == 2 and len(shape) == 2
    if not fits or any(
        have not in (1, want, -(-want // GROUP)) for have, want in zip(shape, values.shape, strict=True)
    ):
        allowed = f"one a matrix, a row or a {GROUP} x {GROUP} block of values {tuple(values.shape)}"
        raise MismatchError(name, tuple(scale.shape), allowed)
    return scale.float().view(shape)


@functools.lru_cache
def _values(dtype: torch.dtype) -> Tensor:
    """The value of each bit pattern of an 8-bit type: [256] float32."""
    return torch.arange(256, dtype=torch.uint8).view(dtype).float()


def _step(size: int, scales: int) -> int:
    """How many neighbours share a scale."""
    return size if scales == 1 else (1 if scales == size else GROUP)
