"""Train the traditional ranker on clicks, and say how well it ranks beside two floors."""

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Interval
from sklearn.linear_model import LogisticRegression

from octorec.errors import InputError
from octorec.progress import Progress, silent
from octorec.settings import LARGE, SEED, AtLeastOne, Rate, Share, check_types
from studies.families.ranker import Ranker, RankerConfig, initialize
from studies.families.ranker_data import NUMBERS, RankerSet


@dataclass(frozen=True)
class RankerTraining:
    """One pass over the clicks in random order (a second one overfits, as rankers do), AdamW.

    embedding_rate: of the embeddings' learning rate to that of the rest. train_share: of all examples, the oldest.
    """

    epochs: AtLeastOne = 1
    batch_size: AtLeastOne = 512
    learning_rate: Rate = 5e-4
    embedding_rate: Rate = 0.2
    weight_decay: Rate = 1e-5
    train_share: Share = 0.8
    seed: Annotated[int, Interval(ge=0, le=LARGE)] = SEED

    def __post_init__(self) -> None:
        check_types(self)
        if not self.train_share > 0:
            raise InputError("train_share", self.train_share, "must be between 0 and 1")


def split(examples: RankerSet, config: RankerTraining) -> tuple[RankerSet, RankerSet]:
    """Split by time: the oldest `train_share` to learn from, the rest to judge by."""
    at = int(config.train_share * len(examples))
    return examples.part(slice(0, at)), examples.part(slice(at, len(examples)))


def train_ranker(
    learned: RankerSet, config: RankerConfig, training: RankerTraining, progress: Progress = silent
) -> Ranker:
    """A ranker of `config`, trained in float32 on the mean cross-entropy of the clicks. `progress` counts steps.

    A standardised one takes mean and deviation of each number from `learned`; a number that never varies keeps 1.
    """
    model = Ranker(config)
    initialize(model, training.seed)
    if config.standardised:
        numbers = learned.batch.numbers.double()
        model.mean.copy_(numbers.mean(0))
        std = numbers.std(0)
        model.std.copy_(torch.where(std > 0, std, 1.0))
    optimizer = _optimizer(model, training)
    generator = torch.Generator().manual_seed(training.seed)
    steps = -(-len(learned) // training.batch_size)
    for epoch in range(training.epochs):
        order = torch.randperm(len(learned), generator=generator)
        for step, rows in enumerate(order.split(training.batch_size), 1):
            loss = F.binary_cross_entropy_with_logits(model(learned.batch[rows]), learned.clicks[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            progress(epoch * steps + step, training.epochs * steps)
    return model.eval()


def _optimizer(model: Ranker, training: RankerTraining) -> torch.optim.Optimizer:
    tables = [parameter for name, parameter in model.named_parameters() if name.startswith("embed.")]
    rest = [parameter for name, parameter in model.named_parameters() if not name.startswith("embed.")]
    groups: list[dict[str, Any]] = [
        {"params": tables, "lr": training.learning_rate * training.embedding_rate},
        {"params": rest},
    ]
    return torch.optim.AdamW(groups, lr=training.learning_rate, weight_decay=training.weight_decay, fused=True)


@torch.no_grad()
def click_scores(model: Ranker, examples: RankerSet, batch_size: int = 4096) -> np.ndarray:
    """Logits [n] float32. `batch_size` rows go through at a time: with one scale a tensor it matters which."""
    rows = range(0, len(examples), batch_size)
    return torch.cat([model(examples.batch[start : start + batch_size]) for start in rows]).float().numpy()


def floor_scores(learned: RankerSet, judged: RankerSet) -> dict[str, np.ndarray]:
    """Two floors for `judged`: the item's click rate so far, and a logistic regression on the item's and the user's.

    Both rates are the counters' at that moment, as the ranker reads them.
    """
    assert NUMBERS[-2:] == ("user_rate", "item_rate")
    rates = [_log_odds(part.batch.numbers[:, -2:].double().numpy()) for part in (learned, judged)]
    regression = LogisticRegression().fit(rates[0], learned.clicks.numpy())
    return {"item rate": rates[1][:, 1], "logistic regression on two rates": regression.decision_function(rates[1])}


def _log_odds(rate: np.ndarray) -> np.ndarray:
    return np.log(rate / (1 - rate))
