"""Train the Qwen3 of the study by a plain loop, in bfloat16 where the device is a GPU."""

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch

from octorec.catalog.catalog import Catalog
from octorec.data.interactions import Interactions
from octorec.models.sid_tokens import SidTokens
from studies.qwen import folder
from studies.qwen.batches import Batch, Histories, epoch, item_tokens
from studies.qwen.learning import add_dropout, groups, loss_of, rate, start_from_codebook, use_stock_norms
from studies.qwen.settings import Study, Training

SAID = 20  # times that a training says how it goes
TIMED, FIRST = 46, 6  # steps that are run to learn how long one takes, and those of them that are not timed


class Trained(NamedTuple):
    """A Trained is a model of transformers' with what was done to it.

    losses: the mean loss of a code in each part of the training. ms: of a step, at the mean. items: predicted in all.
    """

    model: Any
    training: Training
    losses: list[float]
    seconds: float
    ms: float
    items: int


class Learner:
    """A Learner takes steps. Its random numbers are decided by the training's seed alone."""

    def __init__(self, study: Study, catalog: Catalog, sids: SidTokens, train: Interactions, device: str):
        training = study.training
        self.study, self.training, self.device = study, training, torch.device(device)
        self.model = folder.new_model(folder.made_tokenizer(study.codebook_sizes), dict(study.shape), training.seed)
        assert catalog.codebook is not None, "the study builds its catalog"
        start_from_codebook(self.model, catalog.codebook, sids, training.embedding_std, training.seed)
        use_stock_norms(self.model)
        add_dropout(self.model, training.dropout)
        self.model.to(self.device).train()
        self.histories, self.tokens = Histories.of(train, catalog), item_tokens(catalog, sids)
        self.levels = [torch.from_numpy(ids).to(self.device) for ids in sids.levels]
        on_gpu = self.device.type == "cuda"
        self.optimizer = torch.optim.AdamW(
            groups(self.model, training.weight_decay), training.learning_rate, training.betas, fused=on_gpu
        )
        torch.manual_seed(training.seed)

    def batches(self) -> Iterator[Batch]:
        """Yield batches without end."""
        training, random = self.training, np.random.default_rng(self.training.seed)
        for _ in itertools.count():
            yield from epoch(
                self.histories, self.tokens, training.batch, self.study.longest, training.history_drop, random
            )

    def step(self, number: int, batch: Batch) -> torch.Tensor:
        """Take step `number`; returns its loss, on the device."""
        training = self.training
        for group in self.optimizer.param_groups:
            group["lr"] = rate(number, training.steps, training.warmup, training.learning_rate)
        tokens, items = (torch.from_numpy(array).to(self.device, non_blocking=True) for array in batch)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            loss = loss_of(self.model, tokens, items, self.levels, training.smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), training.clip)
        self.optimizer.step()
        return loss.detach()


def steps_within(
    study: Study, catalog: Catalog, sids: SidTokens, train: Interactions, device: str, seconds: float
) -> int:
    """Return how many steps, of those that the training wants, fit `seconds`: a model is tried and thrown away."""
    learner = Learner(study, catalog, sids, train, device)
    start = 0.0
    for number, batch in enumerate(itertools.islice(learner.batches(), TIMED)):
        if number == FIRST:
            synchronize(learner.device)
            start = time.perf_counter()
        learner.step(number, batch)
    synchronize(learner.device)
    a_step = (time.perf_counter() - start) / (TIMED - FIRST)
    return max(1, min(study.training.steps, int(seconds / a_step)))


def train(study: Study, catalog: Catalog, sids: SidTokens, interactions: Interactions, device: str) -> Trained:
    """Train a model on `interactions`, which have no held-out item. Raises RuntimeError where the loss is no number."""
    learner, training = Learner(study, catalog, sids, interactions, device), study.training
    losses, recent, items, every = [], [], 0, max(1, training.steps // SAID)
    start = time.perf_counter()
    for number, batch in enumerate(itertools.islice(learner.batches(), training.steps)):
        recent.append(learner.step(number, batch))
        items += len(batch.items)
        if len(recent) == every or number + 1 == training.steps:
            losses.append(float(torch.stack(recent).mean()))
            recent = []
            print(f"  step {number + 1} loss {losses[-1]:.4f} ({time.perf_counter() - start:.1f} s)", flush=True)
            if not np.isfinite(losses[-1]):
                raise RuntimeError(f"the loss is {losses[-1]} at step {number + 1}")
    synchronize(learner.device)
    seconds = time.perf_counter() - start
    return Trained(learner.model.eval(), training, losses, seconds, seconds / training.steps * 1000, items)


def planned(study: Study, steps: int) -> Study:
    """Return the study with so many steps."""
    return replace(study, training=replace(study.training, steps=steps))


@contextmanager
def deterministic() -> Iterator[None]:
    """Let the same steps on the same card give the same weights, as far as PyTorch can."""
    memory: Any = torch.utils.deterministic  # a module whose one setting mypy does not know
    before, filled = torch.are_deterministic_algorithms_enabled(), memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        memory.fill_uninitialized_memory = filled


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
