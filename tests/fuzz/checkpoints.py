"""Small checkpoints whose files are broken, and how OctoRec reads them: analyze, quantize, and an engine's request."""

import json
import math
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from mutate import broken_json

from octorec.catalog.catalog import Catalog
from octorec.data.items import check_items
from octorec.engine.load import load
from octorec.engine.request import Request
from octorec.errors import InputError
from octorec.models.onerec import OneRecV2, initialize
from octorec.models.presets import preset
from octorec.models.user import UserField
from octorec.models.weights import save
from octorec.numerics.stats import weight_stats
from octorec.quant.convert import quantize_checkpoint

FIELDS = (UserField("plan", "category", ("free", "paid")), UserField("age", "number", mean=30.0, std=9.0))
ENGINE: dict[str, Any] = {"batch_sizes": (1,), "beam_widths": (4,), "default_beam_width": 4}


def small_catalog(n_items: int = 40) -> Catalog:
    rng = np.random.default_rng(0)
    sizes = (7, 5, 6)
    items = {
        "item_id": [f"i{n}" for n in range(n_items)],
        "title": [f"Film {n}" for n in range(n_items)],
        "codes": [[int(rng.integers(size)) for size in sizes] for _ in range(n_items)],
        "sets": [["even"] if n % 2 == 0 else [] for n in range(n_items)],
    }
    return Catalog.of_items(check_items(pa.table(items)), sizes)


def make_both(folder: Path) -> None:
    """`input`, a checkpoint in 16 bit, and the same in FP8, for `choose`."""
    small_checkpoint(folder / "input", fp8=False)
    small_checkpoint(folder / "fp8", fp8=True)


def choose(folder: Path, rng: random.Random) -> Path:
    """`input`, which is one of the two now."""
    if rng.random() < 0.6:
        shutil.rmtree(folder / "input")
        (folder / "fp8").rename(folder / "input")
    return folder / "input"


def small_checkpoint(folder: Path, fp8: bool) -> Path:
    """A folder with config.json, one safetensors file and a catalog."""
    catalog = small_catalog()
    sizes = {"d_model": 128, "n_head": 4, "n_layer": 2, "d_ff": 128, "d_expert": 128}  # FP8 in blocks takes 128
    model = OneRecV2(preset("tiny", codebook_fingerprint=catalog.fingerprint, user_fields=FIELDS, **sizes))
    initialize(model, seed=0)
    whole = folder.with_name(folder.name + "-16-bit") if fp8 else folder
    whole.mkdir(exist_ok=True)
    save(model, whole, torch.bfloat16)
    catalog.save(whole / "catalog", force=True)
    if fp8:
        quantize_checkpoint(whole, folder, "fp8", force=True)
    return folder


def read_checkpoint(folder: Path) -> object:
    """What three readers find, each asked also where another refuses: analyze's, quantize's, and the engine's."""
    return asked_all(lambda: weight_stats(folder), lambda: quantized(folder), lambda: recommended(folder))


def quantized(folder: Path) -> object:
    out = folder.with_name("quantized")
    shutil.rmtree(out, ignore_errors=True)
    return quantize_checkpoint(folder, out, "fp8").to_dict()


def recommended(folder: Path) -> object:
    engine = load(folder, **ENGINE)
    answer = engine.recommend([Request(["i1", "i2"], k=3, user={"plan": "free", "age": 31})])[0]
    assert all(map(math.isfinite, answer.scores)), "a score that is not finite"
    return answer.items


def asked_all(*readers: Callable[[], object]) -> object:
    """Whether all of them find something. The first InputError is raised once all have been asked, and none of them
    found nothing."""
    refused, found = [], []
    for reader in readers:
        try:
            found.append(reader())
        except InputError as error:
            refused.append(error)
    if refused and all(found):
        raise refused[0]
    return all(found)


def rewritten_json(path: Path, rng: random.Random) -> str:
    """Break a JSON file where it lies; returns what it holds now."""
    content = broken_json(json.loads(path.read_text()), rng)
    path.write_bytes(content)
    return repr(content)
