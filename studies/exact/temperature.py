"""The temperature that makes a model's probabilities those of what people did, and a checkpoint that has it built in.

Guo et al., "On Calibration of Modern Neural Networks" (arXiv 1706.04599): logits are divided by one number, chosen for
the least NLL of validation targets. It stands inside the softmax, so that an item's score is still the log-probability
of the model that is served, and certificates hold.

Letters: n targets, L levels, V codes of a level.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from octorec.engine.batch import model_inputs
from octorec.engine.engine import Engine
from octorec.models.hf_folder import Checkpoint, write_config, write_tensors
from octorec.output.write import new_folder
from studies.exact.asked import Asked, Deadline

BOUNDS = (0.25, 4.0)
HEAD = re.compile(r"head\.\d+\.weight")
BATCH = 128
CHUNK = 2048  # targets whose logits are kept at a time


@torch.inference_mode()
def forced_logits(engine: Engine, asked: Asked, deadline: Deadline) -> tuple[list[Tensor], Tensor]:
    """Return logits [n, V] float32 of every level, each given the target's codes before it, and the codes [n, L].

    Both stay on the engine's device.
    """
    model = engine.model
    codes = torch.from_numpy(asked.catalog.codes[asked.targets].astype(np.int64)).to(engine.device)
    levels: list[list[Tensor]] = [[] for _ in model.steps]
    for start in range(0, len(asked), BATCH):
        deadline.check()
        chunk = asked.parsed[start : start + BATCH]
        true = torch.zeros((BATCH, len(levels)), dtype=torch.int64, device=engine.device)
        true[: len(chunk)] = codes[start : start + BATCH]
        state = model.prefill(model_inputs(model, chunk, BATCH, engine.max_history, engine.device))
        parents = torch.zeros_like(true[:, :1])
        for level, found in enumerate(levels):
            before = None if level == 0 else true[:, level - 1 : level]
            logits = model.decode(level, before, None if level == 0 else parents, state)
            found.append(logits.values[: len(chunk), 0].clone())
    return [torch.cat(parts) for parts in levels], codes


def log_probabilities(logits: Sequence[Tensor], codes: Tensor, temperature: float = 1.0) -> Tensor:
    """Return log-probabilities [n, L] of the codes [n, L] at a temperature."""
    each = [(of_level / temperature).log_softmax(-1).gather(1, codes[:, level : level + 1])
            for level, of_level in enumerate(logits)]  # fmt: skip
    return torch.cat(each, 1)


def target_log_probs(engine: Engine, asked: Asked, deadline: Deadline) -> np.ndarray:
    """Return the log-probabilities [n, L] float32 that the engine's model gives the codes of the targets."""
    found = [np.zeros((0, len(engine.model.codebook_sizes)), np.float32)]
    for start in range(0, len(asked), CHUNK):
        logits, codes = forced_logits(engine, asked.part(slice(start, start + CHUNK)), deadline)
        found.append(log_probabilities(logits, codes).cpu().numpy())
    return np.concatenate(found)


def nll(logits: Sequence[Tensor], codes: Tensor, temperature: float = 1.0) -> float:
    """Return the mean over targets of -log p(item), in nats: the sum over its levels."""
    return -float(log_probabilities(logits, codes, temperature).double().sum(1).mean())


def calibrated(logits: Sequence[Tensor], codes: Tensor) -> float:
    """Return the temperature from 0.25 to 4 with the least NLL, to a thousandth."""
    found = minimize_scalar(
        lambda temperature: nll(logits, codes, temperature), bounds=BOUNDS, method="bounded", options={"xatol": 5e-4}
    )
    return round(float(found.x), 3)


def tempered(checkpoint: Path, out: Path, temperature: float) -> Path:
    """Write a copy of a OneRec-V2 checkpoint whose head weights are divided by `temperature`, without its catalog.

    They are rounded to the type that they had. Everything else is the same, FP8 values and scales too.
    """
    source = Checkpoint(checkpoint)
    assert any(HEAD.fullmatch(name) for name in source.names()), "no head to divide"

    def scaled(name: str, tensor: Tensor) -> Tensor:
        return (tensor.float() / temperature).to(tensor.dtype) if HEAD.fullmatch(name) else tensor

    with new_folder(out, force=True) as scratch:
        write_config(scratch, source.config)
        write_tensors(scratch, ((name, scaled(name, tensor)) for name, tensor in source.items()))
    return out
