"""Statistics of a checkpoint's weights, one tensor at a time.

Works on 16-bit and FP8 checkpoints alike, the latter through their scales; any folder of safetensors will do.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from torch import Tensor

from octorec.numerics.distribution import Distribution, distribution
from octorec.quant.convert import Progress
from octorec.quant.load import DequantizedCheckpoint
from octorec.quant.recipe import WeightGranularity
from octorec.quant.rounding import one_thread, round_weight

ROLES = {  # the first pattern found in a tensor's or module's name says what it is for
    "norm": r"norm",
    "router": r"\.router",
    "expert": r"experts",
    "attention": r"attn",
    "ffn": r"\.(ffn|mlp)\.",
    "head": r"^(lm_)?head",
    "context": r"^context\.proj",
    "embedding": r"embed|^bos$|^position$",
}


@dataclass(frozen=True)
class TensorStats:
    """One tensor. distribution is None for integers and empty tensors.

    sqnr: dB by weight granularity, of a matrix whose values are floating-point; infinite where nothing is lost.
    """

    name: str
    role: str
    shape: tuple[int, ...]
    dtype: str
    distribution: Distribution | None
    sqnr: dict[str, float]

    def row(self) -> dict[str, Any]:
        """Flat, for a table or JSON: an infinite SQNR is None."""
        row: dict[str, Any] = {"name": self.name, "role": self.role, "shape": list(self.shape), "dtype": self.dtype}
        row.update(flat(self.distribution))
        return {**row, **{f"sqnr_{name}": finite(self.sqnr.get(name)) for name in get_args(WeightGranularity)}}


def weight_stats(folder: str | Path, progress: Progress | None = None) -> list[TensorStats]:
    """Of every tensor of a checkpoint folder. `progress` is called after each."""
    checkpoint = DequantizedCheckpoint(folder)
    sizes = {name: checkpoint.stored(name).nbytes for name in checkpoint.names()}
    out, done = [], 0
    with one_thread():
        for name, size in sizes.items():
            out.append(_stats(name, checkpoint.load(name), str(checkpoint.stored(name).dtype)))
            done += size
            if progress is not None:
                progress(done, sum(sizes.values()))
    return out


def role(name: str) -> str:
    """attention, ffn, expert, ...; `other` where no pattern says more."""
    return next((role for role, pattern in ROLES.items() if re.search(pattern, name)), "other")


def flat(found: Distribution | None) -> dict[str, Any]:
    """A distribution's fields, all None where there is none."""
    fields = Distribution.__dataclass_fields__
    return {name: None if found is None else getattr(found, name) for name in fields}


def finite(x: float | None) -> float | None:
    return x if x is not None and math.isfinite(x) else None


def _stats(name: str, tensor: Tensor, dtype: str) -> TensorStats:
    found, sqnr = None, {}
    if tensor.is_floating_point() and tensor.numel():
        found = distribution(tensor)
        if tensor.dim() == 2:
            clean = tensor if found.nan + found.inf == 0 else tensor.nan_to_num(0, 0, 0)
            sqnr = {kind: round_weight(clean, kind).sqnr_db for kind in get_args(WeightGranularity)}
    return TensorStats(name, role(name), tuple(tensor.shape), dtype.removeprefix("torch."), found, sqnr)
