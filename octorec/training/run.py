"""From interactions to a checkpoint folder that an engine can open."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from octorec.catalog.catalog import Catalog
from octorec.data.interactions import Interactions
from octorec.files import new_folder, refuse_existing
from octorec.models import checkpoint
from octorec.models.config import OneRecConfig
from octorec.models.onerec import OneRecV2, initialize
from octorec.training.config import TrainConfig
from octorec.training.examples import training_set
from octorec.training.trainer import Progress, Trainer


def train(
    interactions: Interactions,
    catalog: Catalog,
    model_config: OneRecConfig,
    config: TrainConfig,
    out: str | Path,
    users: dict[str, dict[str, Any]] | None = None,
    device: str = "cpu",
    force: bool = False,
    resume: bool = False,
    validate: Callable[[OneRecV2], dict[str, float]] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train a model and write its BF16 checkpoint, with the catalog inside, as the folder `out`.

    Until it is done the state lies in `OUT.training/`, from which `resume` goes on with the same bits; it is removed at
    the end. Returns what `training.json` in `out` holds: configuration, records, bytes.
    """
    out = Path(out)
    refuse_existing(out, force)
    state = out.with_name(f"{out.name}.training")
    model = OneRecV2(model_config)
    initialize(model, config.seed)
    data = training_set(interactions, catalog, model_config.user_fields, users)
    trainer = Trainer(model.to(device), data.to(device), config)
    if resume:
        trainer.restore(state)
    else:
        refuse_existing(state, force)
    records = trainer.run(state, validate, progress)
    with new_folder(out, force) as scratch:
        size = checkpoint.save(model, scratch, torch.bfloat16)
        catalog.save(scratch / "catalog")
        about = {"train_config": asdict(config), "examples": len(data), "bytes": size, "records": records}
        (scratch / "training.json").write_text(json.dumps(about, indent=1))
    shutil.rmtree(state, ignore_errors=True)
    return about
