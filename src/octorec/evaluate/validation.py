"""Measure recall while a model trains: a quick look at a sample of held-out examples, not a verdict."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from octorec.catalog.catalog import Catalog
from octorec.data.splits import Example
from octorec.engine.engine import Engine
from octorec.engine.load import engine_config
from octorec.evaluate.cutoffs import K
from octorec.evaluate.predictions import predict

SAMPLE = 500  # examples, spread evenly over all
BEAM_WIDTH = 32


def recall_on(
    examples: Sequence[Example], catalog: Catalog, users: Mapping[str, Mapping[str, Any]], device: str
) -> Callable[[Any], dict[str, float]]:
    """Return a function that measures a model's recall@10 on a sample of `examples`, their histories excluded."""
    sample = examples[:: max(1, len(examples) // SAMPLE)][:SAMPLE]

    def measure(model: Any) -> dict[str, float]:
        limits = {"batch_sizes": (64,), "beam_widths": (BEAM_WIDTH,), "default_beam_width": BEAM_WIDTH}
        engine = Engine(model, catalog, engine_config(limits), device)
        predictions = predict(engine, sample, k=K, users=users, exclude_seen=True)
        return {f"recall@{K}": float(predictions.values()[f"recall@{K}"].mean())}

    return measure
