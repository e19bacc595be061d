"""Writes tests/formats/263567f with the code of commit 263567f; README.md beside this file says how it was run."""

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
from octorec.models.config import OneRecConfig, UserField

from octorec.catalog.build import build_catalog
from octorec.data.interactions import read_interactions
from octorec.data.items import check_items
from octorec.engine.load import load
from octorec.engine.request import Request
from octorec.quant.convert import quantize_checkpoint
from octorec.training.config import TrainConfig
from octorec.training.run import train

MODEL: dict[str, Any] = {"d_model": 16, "n_layer": 2, "n_head": 2, "embed_dim": 8, "d_ff": 32, "max_context": 8}
EXPERTS: dict[str, Any] = {"n_dense": 1, "n_expert": 2, "n_shared": 1, "top_k": 1, "d_expert": 16}
STEPS, SAVED = 120, 100
FIELDS = (UserField("plan", "category", ("free", "paid")), UserField("age", "number", mean=25.0, std=4.0))
USERS = {str(user): {"plan": ("free", "paid")[user % 2], "age": 20 + user} for user in range(12)}


class Stop(Exception):
    """Ends a training where a state was saved."""


def main(out: Path) -> None:
    """Write data, catalog, 16-bit and FP8 checkpoint, a training's state, and what the code of then says of them."""
    out.mkdir()
    write_data(out / "interactions.csv")
    interactions = read_interactions(out / "interactions.csv")
    names = [str(number) for number in range(40)]
    items = {"item_id": names, "title": [f"Title {name}" for name in names], "sets": [["even"], ["odd"]] * 20}
    catalog = build_catalog(interactions, check_items(pa.table(items)), (8, 20), unique=True)
    catalog.save(out / "catalog")
    sizes, fingerprint = catalog.codebook_sizes, catalog.fingerprint
    dimensions = {**MODEL, **EXPERTS, "user_fields": FIELDS, "recency_buckets": 4}
    model = OneRecConfig(**dimensions, codebook_sizes=sizes, codebook_fingerprint=fingerprint)
    config = TrainConfig(
        steps=STEPS, batch_size=16, learning_rate=0.01, warmup=5, validate_every=SAVED, save_every=SAVED
    )
    train(interactions, catalog, model, config, out / "bf16", USERS)
    with suppress(Stop):
        train(interactions, catalog, model, config, out / "state", USERS, progress=stop)
    quantize_checkpoint(out / "bf16", out / "fp8", "fp8-channel")
    asked: list[dict[str, Any]] = [
        {"history": ["1", "2", "3"], "k": 5, "user": {"plan": "paid", "age": 31}},
        {"history": ["39", "7"], "k": 5, "exclude": ["8"]},
        {"history": ["5"], "k": 5, "allow": ["odd"]},
    ]
    answers = {}
    for name in ("bf16", "fp8"):
        engine = load(out / name, batch_sizes=(4,), beam_widths=(16,), default_beam_width=16)
        found = engine.recommend([Request(**one) for one in asked])
        answers[name] = [{"items": answer.items, "scores": answer.scores} for answer in found]
    about = {"fingerprint": catalog.fingerprint, "version": catalog.version, "codes": catalog.codes.tolist()}
    said = {"catalog": about, "requests": asked, "users": USERS, "answers": answers}
    (out / "said.json").write_text(json.dumps(said, indent=1))


def stop(record: dict[str, Any]) -> None:
    """End a training just after its state was saved."""
    if record["step"] == SAVED:
        raise Stop


def write_data(path: Path) -> None:
    """Twelve users whose next item is mostly the one after the last."""
    rng = np.random.default_rng(0)
    rows: dict[str, list] = {"user_id": [], "item_id": [], "timestamp": []}
    for user in range(12):
        item = int(rng.integers(40))
        for time in range(10):
            rows["user_id"].append(user)
            rows["item_id"].append(item)
            rows["timestamp"].append(time)
            item = (item + 1) % 40 if rng.random() < 0.8 else int(rng.integers(40))
    pyarrow.csv.write_csv(pa.table(rows), path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
