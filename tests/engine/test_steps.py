"""Steps that choose and steps that force, and scores over a vocabulary that is larger than a level's codes."""

import math

import numpy as np
import pytest
import torch
from made_up import MadeUpModel, State, random_catalog
from torch import Tensor

from octorec.engine.engine import Engine, EngineConfig
from octorec.engine.request import Request
from octorec.engine.search import forced
from octorec.errors import NonFiniteError
from octorec.kernels.ops import Beams
from octorec.models.model import Choose, Force, Logits

SIZES = (6, 5, 4)


class Tokens(MadeUpModel):
    """A level's codes are some of more tokens; a separator is forced behind the first level, an end behind the last."""

    def __init__(self, outside: float = 0.7, end: tuple[float, float] = (1.0, 2.0), scored: bool = True):
        super().__init__(SIZES)
        self.outside, self.end = outside, end
        self.steps = (Choose(0), Force(0, scored=False), Choose(1), Choose(2), Force(1, scored=scored))

    def decode(self, step: int, codes: Tensor | None, parents: Tensor | None, state: State) -> Logits:
        forced = isinstance(self.steps[step], Force)
        before = step and not isinstance(self.steps[step - 1], Force)
        if step and not before and codes is not None and parents is not None:  # the separator is no code of an item
            rows = torch.arange(len(codes))[:, None]
            state.paths = state.paths[rows, parents]
            codes = None
        if forced:
            rows = torch.arange(len(state.paths))[:, None]
            assert codes is not None
            state.paths = torch.cat([state.paths[rows, parents], codes[..., None]], -1)
            shape = (*state.paths.shape[:2], 2)
            depth = state.paths[..., :1].float()  # so that the end's score depends on the beam
            return Logits(torch.tensor(self.end).expand(shape) * torch.cat([torch.ones_like(depth), depth], -1))
        level = self.steps[step]
        assert isinstance(level, Choose)
        values = super().decode(level.level, codes, parents, state).values
        return Logits(values, values.logsumexp(-1) + self.outside)


def by_hand(model: Tokens, catalog: object, newest: np.ndarray, codes: np.ndarray) -> float:
    seed = int(newest.astype(int) @ np.array([1, 31, 977]))
    total = 0.0
    for level, code in enumerate(codes.tolist()):
        logits = model.logits(seed, tuple(codes[:level].tolist()), level)
        total += logits[code] - np.logaddexp.reduce(logits) - model.outside
    first, second = model.end[0], model.end[1] * codes[0]
    return total + (second - math.log(math.exp(first) + math.exp(second))) * model.steps[-1].scored


def engine(model: MadeUpModel) -> Engine:
    config = EngineConfig(8, batch_sizes=(2,), beam_widths=(128,), default_beam_width=128)
    return Engine(model, random_catalog(60, SIZES), config)


@pytest.mark.parametrize("scored", [True, False])
def test_scores_are_over_the_vocabulary_and_with_what_is_forced(scored: bool) -> None:
    subject = engine(Tokens(scored=scored))
    catalog = subject.catalog
    answer = subject.recommend([Request(["i3"], k=40), Request(["i9"], k=40)])[0]
    newest = catalog.codes[catalog.index["i3"]]
    wanted = {
        item: by_hand(subject.model, catalog, newest, catalog.codes[catalog.index[item]]) for item in catalog.item_ids
    }
    assert answer.scores == pytest.approx([wanted[item] for item in answer.items], abs=1e-4)
    assert answer.scores == pytest.approx(sorted(wanted.values(), reverse=True)[:40], abs=1e-4)
    forced = subject.score([Request(["i3"], k=1)] * 3, ["i1", "i2", "i4"])
    assert forced.shape == (3, 4 if scored else 3)
    assert forced.sum(1) == pytest.approx([wanted[item] for item in ("i1", "i2", "i4")], abs=1e-4)


def test_nan_in_what_is_forced_is_told() -> None:
    with pytest.raises(NonFiniteError):
        engine(Tokens(end=(math.nan, 1.0))).recommend([Request(["i3"], k=5)])


def test_nan_in_the_vocabularys_norm_is_told() -> None:
    with pytest.raises(NonFiniteError):
        engine(Tokens(outside=math.nan)).recommend([Request(["i3"], k=5)])


def test_a_norm_below_the_levels_own_counts_as_it() -> None:
    below, own = (engine(Tokens(outside=outside)).recommend([Request(["i3"], k=5)])[0] for outside in (-1e-3, 0.0))
    assert below.scores == own.scores


@pytest.mark.parametrize("ranked", [False, True])
def test_beams_that_a_step_forces_lie_as_kernels_read_them(ranked: bool) -> None:
    nodes = torch.arange(6).view(2, 3)
    given = Beams(torch.rand(2, 3), nodes, nodes, nodes, torch.zeros(2))
    found = forced(given, Logits(torch.rand(2, 3, 1)), Force(0, scored=True), ranked)
    assert all(each.is_contiguous() for each in found)
