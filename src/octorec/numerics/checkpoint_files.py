"""Open any safetensors checkpoint for looking at: a single file, a sharded Hugging Face folder, ours, 16 bit or FP8.

Tensors lie in memory-mapped files and are read a stripe of rows at a time, FP8 values through their scales.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from octorec.kernels.fp8 import GROUP
from octorec.models.checkpoint_folder import is_adapter
from octorec.models.hf_folder import Checkpoint
from octorec.models.lora import LoraCheckpoint, open_checkpoint

STRIPE = 2**18  # float32 values a stripe holds, about 1 MB: it stays in a core's cache
FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2)
FNUZ = (torch.float8_e4m3fnuz, torch.float8_e5m2fnuz)
EIGHT_BIT = (torch.float8_e4m3fn, torch.float8_e5m2, *FNUZ, torch.int8)


@dataclass(frozen=True)
class StoredTensor:
    """A StoredTensor is a tensor as it lies on disk, and the scale that its FP8 (or 8-bit integer)
    values are multiplied by.

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
        """Tell whether the tensor holds values that can be measured: floating-point, or 8 bit with a scale."""
        return (self.values.dtype in FLOATS or self.scale is not None) and self.values.numel() > 0

    @property
    def sixteen_bit(self) -> bool:
        """Tell whether the tensor has a 16-bit type, and so at most 65,536 different values."""
        return self.scale is None and self.values.dtype in (torch.bfloat16, torch.float16)

    def chunks(self) -> Iterator[Tensor]:
        """Yield all values in float32, some at a time, in one dimension."""
        if self.scale is None:
            yield from (chunk.float() for chunk in self.values.flatten().split(STRIPE))
        else:
            yield from (stripe.flatten() for stripe in self.stripes())

    def stripes(self) -> Iterator[Tensor]:
        """Yield a matrix [N, K] as float32 [R, K], R a multiple of 128 in all but the last.

        The next stripe overwrites the one before.
        """
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


class WeightFiles(Checkpoint):
    """WeightFiles give weights by name, each with its scale."""

    def names(self) -> list[str]:
        """Return the names of the weights: no scale has a name of its own."""
        return [name for name in self.weights() if name not in self.activation_scales]

    def nbytes(self) -> int:
        """Return the bytes of all tensors on disk."""
        return sum(header.nbytes for header in self.headers.values())

    def tensor(self, name: str) -> StoredTensor:
        return StoredTensor(name, self.load(name), self.load_scale(name)[0] if name in self.scales else None)


class CheckpointFiles(WeightFiles):
    """CheckpointFiles give the weights of a checkpoint's folder. A single safetensors file will do too.

    Raises InputError, MismatchError as `Checkpoint` does.
    """

    def __init__(self, path: str | Path):
        super().__init__(path, bare=True)


class MergedFiles(WeightFiles, LoraCheckpoint):
    """MergedFiles give the weights of an adapter's base, the adapter merged into them; raises as `LoraCheckpoint`."""


def open_files(path: str | Path, base: str | Path | None = None) -> WeightFiles:
    """Open a checkpoint, or an adapter with its base, as `lora.open_checkpoint` does."""
    if is_adapter(path):
        return MergedFiles(path, base)
    if base is not None:
        open_checkpoint(path, base)  # refuses it
    return CheckpointFiles(path)


@functools.lru_cache
def _values(dtype: torch.dtype) -> Tensor:
    """Return the value of each bit pattern of an 8-bit type: [256] float32."""
    return torch.arange(256, dtype=torch.uint8).view(dtype).float()


def _step(size: int, scales: int) -> int:
    """Return how many neighbours share a scale."""
    return size if scales == 1 else (1 if scales == size else GROUP)
