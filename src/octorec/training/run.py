"""Train from interactions to a checkpoint folder that an engine can open."""

import contextlib
import dataclasses
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from octorec.catalog.catalog import Catalog
from octorec.catalog.counts import counted
from octorec.data.interactions import Interactions
from octorec.data.learned import learned_from
from octorec.data.splits import Example
from octorec.errors import InputError
from octorec.evaluate.validation import recall_on
from octorec.files import json_text, read_json
from octorec.kernels import reference
from octorec.kernels.device import open_device
from octorec.kernels.ops import Ops
from octorec.models import weights
from octorec.models.onerec import OneRecV2, initialize
from octorec.models.onerec_config import MODEL_TYPE, OneRecConfig
from octorec.models.onerec_shapes import parameters
from octorec.models.presets import preset
from octorec.output.claim import claimed_folder
from octorec.output.refuse import refuse_folder
from octorec.output.write import new_folder, remove_folder
from octorec.reading import require_file
from octorec.settings import DEVICE
from octorec.training import gpu_ops
from octorec.training.config import TrainConfig
from octorec.training.examples import TrainingSet, training_set
from octorec.training.trainer import OnStep, Trainer
from octorec.training.warm_start import start_from_codebook

SAVED = 2 * 12  # bytes on the disk of a parameter: the state (a weight, two moments), and the next one beside it
BYTES = (
    16  # bytes that training holds for a parameter: the weight, its gradient and AdamW's two moments, all in float32
)


def model_config(source: str | Path, catalog: Catalog) -> OneRecConfig:
    """Return the dimensions that a preset's name or a config.json (a Path, or a name that ends in .json) gives, with
    the catalog's codebook.
    """
    if isinstance(source, Path) or source.endswith(".json"):
        path = Path(source)
        require_file(path, "config")
        base = OneRecConfig.from_dict({"model_type": MODEL_TYPE, **read_json(path, "config")})
    else:
        base = preset(source)
    if base.context_module is not None:
        raise InputError("config.json: context_module", base.context_module, "is not trained by OctoRec: leave it out")
    sizes, fingerprint = catalog.codebook_sizes, catalog.fingerprint
    return dataclasses.replace(base, codebook_sizes=sizes, codebook_fingerprint=fingerprint)


def new_trainer(model: OneRecConfig, data: TrainingSet, config: TrainConfig, catalog: Catalog, device: str) -> Trainer:
    """Return a new model and the trainer that will train it, on `device`. data: examples of items of `catalog`."""
    check_memory(model, device)
    subject = new_model(model, config.seed, device)
    if config.codebook_start:
        if catalog.codebook is None:
            raise InputError("codebook_start", True, "the catalog has no codebook: its codes came from elsewhere")
        start_from_codebook(subject, catalog.codebook, config.seed)
    return Trainer(subject, data.to(device), config)


def check_memory(config: OneRecConfig, device: str) -> None:
    """Refuse a model that the whole memory of `device` could not train, before any of it is made."""
    if open_device(device).type == "cuda":
        there = torch.cuda.get_device_properties(device).total_memory
    else:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    needed = BYTES * parameters(config)
    if needed > there:
        allowed = f"the device has {there / 1e9:,.1f} GB: give the model fewer or smaller layers and experts"
        raise InputError("model", f"{needed / 1e9:,.1f} GB of weights and optimiser state", allowed)


def new_model(config: OneRecConfig, seed: int, device: str) -> OneRecV2:
    """Return a model to train, its weights decided by `seed`; on a GPU with the operations that let a
    step be one graph.
    """
    ops: Ops = gpu_ops if open_device(device).type == "cuda" else reference
    model = OneRecV2(config, ops)
    initialize(model, seed)
    return model.to(device)


def state_folder(out: Path) -> Path:
    """Return where the state of a training lies until `out` is written."""
    return out.with_name(f"{out.name}.training")


def train(
    interactions: Interactions,
    catalog: Catalog,
    model_config: OneRecConfig,
    config: TrainConfig,
    out: str | Path,
    users: dict[str, dict[str, Any]] | None = None,
    device: str = DEVICE,
    force: bool = False,
    resume: bool = False,
    validation: Sequence[Example] = (),
    on_step: OnStep | None = None,
) -> dict[str, Any]:
    """Train a model and write its BF16 checkpoint, with the catalog inside, as the folder `out`.

    users: values of the model's user fields by user id. validation: held-out examples for recall on the way.

    A catalog without counts gets those of `interactions`, so that requests without a history can be answered.
    Until it is done the state lies in `OUT.training/`, from which `resume` goes on with the same bits; it is removed at
    the end. Returns what `training.json` in `out` holds: configuration, records, bytes, and what was learned from.
    """
    open_device(device)  # refused before anything is read
    out = Path(out)
    state = state_folder(out)
    refuse_folder(out, force)
    refuse_folder(state, force or resume)
    needed = SAVED * parameters(model_config)
    with claimed_folder(out, force), claimed_folder(state, force=True, needed=needed):
        data = training_set(interactions, catalog, model_config.user_fields, users)
        trainer = new_trainer(model_config, data, config, catalog, device)
        model = trainer.model
        if resume:
            trainer.restore(state)
        validate = recall_on(validation, catalog, users or {}, device) if validation else None
        records = trainer.run(state, validate, on_step)
        with new_folder(out, force) as scratch:
            size = weights.save(model, scratch, torch.bfloat16)
            (counted(catalog, interactions) if catalog.interactions is None else catalog).save(scratch / "catalog")
            about = {"train_config": asdict(config), "examples": len(data), "bytes": size, "records": records}
            about["learned"] = learned_from(interactions).to_dict()
            (scratch / "training.json").write_text(json_text(about, indent=1))
        with contextlib.suppress(InputError):  # a folder into which somebody put something stays
            remove_folder(state)
    return about
