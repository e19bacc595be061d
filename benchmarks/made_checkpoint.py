"""A checkpoint folder of random weights in FP8 with balanced routers and a catalog of a million items: for time."""

from pathlib import Path

import torch

from benchmarks.engine import eager
from benchmarks.random_model import random_items, random_model, random_requests
from benchmarks.skew import EXPONENTS, skew
from octorec.catalog.catalog import Catalog
from octorec.engine.engine import Engine, EngineConfig
from octorec.kernels.device import open_device, ops_for
from octorec.models.hf_folder import write_config, write_tensors
from octorec.models.names import disk_tensors
from octorec.models.onerec import OneRecV2
from octorec.models.presets import preset
from octorec.models.weights import stored
from octorec.quant.format import to_quantization_config
from octorec.quant.recipe import load_recipe, matrices

ROWS, WIDTH = 8, 64  # of the batches by which routers are balanced


def save_random(folder: Path, name: str, n_items: int, device: str) -> None:
    """Save a checkpoint of a preset's size, made on `device`."""
    catalog = random_items(preset(name).codebook_sizes, n_items)
    config = preset(name, codebook_fingerprint=catalog.fingerprint)
    ops = ops_for(open_device(device))
    model = random_model(config, "fp8", ops=ops, device=device)
    balance(model, catalog, device)
    tensors = disk_tensors(model)
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    quantized = to_quantization_config(load_recipe("fp8"), matrices(shapes))
    folder.mkdir(parents=True)
    write_config(folder, {**config.to_dict(), "torch_dtype": "bfloat16", "quantization_config": quantized})
    write_tensors(folder, ((key, _stored(key, tensor)) for key, tensor in tensors.items()))
    catalog.save(folder / "catalog")


@torch.inference_mode()
def balance(model: OneRecV2, catalog: Catalog, device: str) -> None:
    """Give every router of a model an even load."""
    width = min(WIDTH, *catalog.codebook_sizes)
    limits = EngineConfig(batch_sizes=(ROWS,), beam_widths=(width,), default_beam_width=width)
    engine = Engine(model, catalog, limits, device, ops_for(open_device(device)))
    requests = random_requests(ROWS, len(catalog.item_ids), engine.max_history, width)
    skew(model, eager(engine, requests), EXPONENTS["balanced"])


def _stored(name: str, tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.dtype == torch.float8_e4m3fn else stored(name, tensor, torch.bfloat16)
