"""Models with random weights, OneRec-V2 above all, and a random catalog, made where they are used: for time alone."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import TypeVar

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from octorec.catalog.catalog import Catalog
from octorec.engine.request import Request
from octorec.kernels import fused
from octorec.kernels.ops import Ops
from octorec.models.onerec import OneRecV2
from octorec.models.onerec_config import OneRecConfig
from octorec.models.weights import disk_tensors
from octorec.quant.format import to_quantization_config
from octorec.quant.load import empty_model
from octorec.quant.recipe import Recipe, load_recipe, matrices

M = TypeVar("M", bound=nn.Module)
HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16}


def random_model(
    config: OneRecConfig, precision: str, seed: int = 0, ops: Ops = fused, device: str = "cuda"
) -> OneRecV2:
    """A model with random weights on a device. precision: `fp16`, `bf16` or a recipe's name."""
    recipe = None if precision in HALVES else load_recipe(precision)
    return filled(partial(OneRecV2, config, ops), recipe, HALVES.get(precision, torch.bfloat16), device, seed)


def filled(make: Callable[[], M], recipe: Recipe | None, dtype: torch.dtype, device: str, seed: int) -> M:
    """A model of random weights, some of which are in FP8 as a recipe says; the others are of `dtype`."""
    quantization = None
    if recipe is not None:
        with torch.device("meta"):
            shapes = {name: tuple(t.shape) for name, t in disk_tensors(make()).items()}
        quantization = to_quantization_config(recipe, matrices(shapes))
    model = empty_model(make, quantization, dtype).to_empty(device=device).eval()
    generator = torch.Generator(device).manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if "norm" in name:
            tensor.fill_(1)
        elif name.endswith("router.bias"):
            tensor.zero_()
        elif name.endswith("_scale"):
            tensor.fill_(0.02 / 100)
        elif tensor.dtype == torch.float8_e4m3fn:
            for part in tensor.flatten(0, -2).split(2**16):  # E4M3 of deviation 100, a stripe at a time
                part.copy_((torch.randn(part.shape, device=device, generator=generator) * 100).clamp(-448, 448))
        else:
            tensor.normal_(std=0.02, generator=generator)
    return model


@lru_cache(maxsize=1)
def random_catalog(config: OneRecConfig, n: int, seed: int = 0) -> Catalog:
    """`n` items on random code tuples."""
    return random_items(config.codebook_sizes, n, seed)


def random_items(codebook_sizes: tuple[int, ...], n: int, seed: int = 0) -> Catalog:
    """A catalog of `n` items on random code tuples."""
    generator = np.random.default_rng(seed)
    codes = np.stack([generator.integers(0, size, n, dtype=np.int32) for size in codebook_sizes], 1)
    flat = pa.array(codes.ravel(), pa.int32())
    offsets = pa.array(np.arange(0, codes.size + 1, codes.shape[1], dtype=np.int32))
    columns = {"item_id": pa.array(np.arange(n)).cast(pa.string()), "codes": pa.ListArray.from_arrays(offsets, flat)}
    return Catalog.of_items(pa.table(columns), codebook_sizes)


def random_requests(n: int, n_items: int, context: int, width: int, seed: int = 0) -> list[Request]:
    """`n` requests of `context` items each that want as many items as beams."""
    ids = np.random.default_rng(seed).integers(0, n_items, (n, context)).astype(str).tolist()
    return [Request(history, k=width, beam_width=width) for history in ids]
