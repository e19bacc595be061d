"""Train one model of the proof, with recall of validation targets on the way."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from octorec.catalog.catalog import Catalog
from octorec.data.interactions import Interactions
from octorec.data.splits import Example
from octorec.engine.engine import Engine
from octorec.engine.load import engine_config
from octorec.evaluate.metrics import ndcg_at, recall_at
from octorec.kernels.device import ops_for
from octorec.kernels.ops import Ops
from octorec.models.onerec import OneRecV2
from octorec.models.onerec_config import OneRecConfig
from octorec.training.config import TrainConfig
from octorec.training.examples import training_set
from octorec.training.run import new_trainer
from studies.quality.answers import answers_of, ask_for

WIDTH = 32  # beams of the validation on the way


def limits(batch: int, width: int) -> dict[str, Any]:
    """Engine options: one bucket."""
    return {"batch_sizes": (batch,), "beam_widths": (width,), "default_beam_width": width}


def search_ops(device: str) -> Ops:
    return ops_for(torch.device(device))


def trained(
    train: Interactions,
    catalog: Catalog,
    model: OneRecConfig,
    config: TrainConfig,
    validation: Sequence[Example],
    device: str,
    say: Callable[[str], None] = print,
) -> tuple[OneRecV2, list[dict[str, Any]]]:
    """The trained model in float32, and the trainer's records."""
    fitting = dataclasses.replace(
        model, codebook_sizes=catalog.codebook_sizes, codebook_fingerprint=catalog.fingerprint
    )
    trainer = new_trainer(fitting, training_set(train, catalog), config, catalog, device)
    subject = trainer.model
    start = time.perf_counter()

    def progress(record: dict[str, Any]) -> None:
        if "expert_load" in record:
            measured = " ".join(f"{k} {v:.4f}" for k, v in record.items() if k not in ("step", "expert_load"))
            say(f"  step {record['step']} {measured} ({time.perf_counter() - start:.1f} s)")

    validate = recall_of(catalog, fitting, subject, validation, device)
    records = trainer.run(validate=validate, on_step=progress)
    return subject.eval(), records


def recall_of(
    catalog: Catalog, config: OneRecConfig, model: OneRecV2, examples: Sequence[Example], device: str
) -> Callable[[OneRecV2], dict[str, float]]:
    """A function that measures `model` as it stands on `examples`; the graph is captured once."""
    options = engine_config(limits(256, WIDTH))
    engine = Engine(model, catalog, options, device, search_ops(device))
    asked = ask_for(engine, examples, k=10)

    def measure(_: OneRecV2) -> dict[str, float]:
        beams = answers_of(engine, asked, scores=False).beams
        hits = beams == asked.targets[:, None]
        ranks = np.where(hits.any(1), hits.argmax(1), -1)
        return {"recall@10": float(recall_at(ranks, 10).mean()), "ndcg@10": float(ndcg_at(ranks, 10).mean())}

    return measure
