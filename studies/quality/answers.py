"""All requests of a set, parsed once and asked of many engines in large batches.

Letters: n requests, W beams, L levels. The catalogs here are unique, so that a leaf of the trie is an item.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from octorec.catalog.catalog import Catalog
from octorec.data.splits import Example
from octorec.engine.batch import ParsedRequest, model_inputs
from octorec.engine.engine import Engine
from octorec.engine.request import Request
from octorec.engine.search import score
from octorec.evaluate.predictions import Predictions, of_examples
from octorec.models.model import Inputs, Model

NO_ITEM = -1
CHUNK = 1024  # requests checked at a time


@dataclass(frozen=True)
class Asked:
    """Requests as every engine over `catalog` reads them. targets [n]: their true answers, as places in the catalog."""

    catalog: Catalog
    examples: Sequence[Example]
    parsed: list[ParsedRequest]
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.parsed)


@dataclass(frozen=True)
class Answers:
    """beams [n, W] int32: items, best first, NO_ITEM behind the last. log_probs [n, L] float32: of the targets' codes.

    invalid: answers that are no item of the catalog, or that the request excluded.
    """

    beams: np.ndarray
    log_probs: np.ndarray
    invalid: int


def ask_for(engine: Engine, examples: Sequence[Example], k: int) -> Asked:
    """Parse a request for each example, its history excluded."""
    catalog = engine.catalog
    assert catalog.n_sharing == 0, "a leaf has to be an item"
    requests = [Request(example.history, k=k, exclude_seen=True) for example in examples]
    targets = np.array([catalog.index[example.target] for example in examples])
    return Asked(catalog, examples, [engine.parse(request) for request in requests], targets)


def answers_of(engine: Engine, asked: Asked, order: np.ndarray | None = None, scores: bool = True) -> Answers:
    """What `engine` answers; order [n]: the order in which the requests are put into batches, None: as they are."""
    order = np.arange(len(asked)) if order is None else order
    beams = np.full((len(asked), engine.config.beam_widths[-1]), NO_ITEM, dtype=np.int32)
    log_probs = np.zeros((len(asked), asked.catalog.codes.shape[1]), dtype=np.float32)
    size = engine.config.batch_sizes[-1]
    for start in range(0, len(asked), size):
        rows = order[start : start + size]
        found = engine.search([asked.parsed[row] for row in rows])
        alive = np.isfinite(found.scores[: len(rows)])
        beams[rows] = np.where(alive, found.leaves[: len(rows)], NO_ITEM)
        if scores:
            log_probs[rows] = _scores(engine, asked, rows, size)
    return Answers(beams, log_probs, _invalid(asked, beams))


def predictions_of(asked: Asked, answers: Answers, k: int) -> Predictions:
    """The top k beside users and targets, for `evaluate.compare`."""
    ids = np.array([*asked.catalog.item_ids, ""], dtype=object)  # NO_ITEM picks the last
    known = np.ones(len(asked), dtype=bool)
    return of_examples(asked.examples, ids[answers.beams[:, :k]], known, answers.log_probs, exclude_seen=True)


def beam_overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Mean share of the items [n, W] of two beams that both hold."""
    both = np.sort(np.concatenate([first, second], 1), 1)  # what both hold stands twice in a row
    shared = ((both[:, 1:] == both[:, :-1]) & (both[:, 1:] != NO_ITEM)).sum(1)
    size = np.maximum((first != NO_ITEM).sum(1), (second != NO_ITEM).sum(1))
    return float((shared / np.maximum(size, 1)).mean())


def forced_batch(
    asked: Asked, rows: np.ndarray, size: int, model: Model, device: torch.device
) -> tuple[Inputs, torch.Tensor]:
    """What a model reads of the requests `rows`, filled up to `size`, and their targets' codes [size, L]."""
    inputs = model_inputs(model, [asked.parsed[row] for row in rows], size, model.max_history, device)
    codes = np.zeros((size, asked.catalog.codes.shape[1]), dtype=np.int64)
    codes[: len(rows)] = asked.catalog.codes[asked.targets[rows]]
    return inputs, torch.from_numpy(codes).to(device)


@torch.inference_mode()
def _scores(engine: Engine, asked: Asked, rows: np.ndarray, size: int) -> np.ndarray:
    inputs, codes = forced_batch(asked, rows, size, engine.model, engine.device)
    return score(engine.model, inputs, codes)[: len(rows)].cpu().numpy()


def _invalid(asked: Asked, beams: np.ndarray) -> int:
    """Items that do not exist, are withdrawn, or stand in the request's own history."""
    may = np.append(asked.catalog.live, True)  # NO_ITEM picks the last
    outside = (beams < NO_ITEM) | (beams >= len(may) - 1)
    wrong, beams = int(outside.sum()), np.where(outside, NO_ITEM, beams)
    for start in range(0, len(beams), CHUNK):
        rows = beams[start : start + CHUNK]
        table = np.tile(may, (len(rows), 1))
        for row, request in enumerate(asked.parsed[start : start + CHUNK]):
            table[row, request.filter.excluded] = False
        wrong += int((~np.take_along_axis(table, rows % len(may), 1)).sum())
    return wrong
