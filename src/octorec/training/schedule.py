"""Rates change from step to step; the step alone decides them, so that a resumed training has the same ones."""

import math

from octorec.training.config import TrainConfig


def learning_rate(step: int, config: TrainConfig) -> float:
    """Return the rate of a linear warm-up, then of a cosine down to a tenth."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.learning_rate * _cosine(done)


def bias_rate(step: int, config: TrainConfig) -> float:
    """Return how far a step moves the routers' biases: a cosine from the start down to a tenth.

    Routers are uneven when they begin and change fast while the learning rate is high; later small moves hold them.
    """
    return config.bias_rate * _cosine(step / config.steps)


def _cosine(done: float) -> float:
    return 0.1 + 0.45 * (1 + math.cos(math.pi * done))
