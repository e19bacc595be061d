"""A made-up model of known probabilities, and small random catalogs, for tests of the engine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from octorec.catalog.catalog import Catalog
from octorec.models.model import Choose, Inputs, InputSpec, Logits, Reading
from octorec.models.user import UserField


@dataclass
class State:
    """What is kept of a batch: each request's seed, and the code path of each present beam [B, W, levels so far]."""

    seeds: Tensor
    paths: Tensor


class MadeUpModel:
    """Logits drawn from a hash of (the request's newest item, the path so far): every path has its own distribution."""

    codebook_fingerprint = None
    max_history = 8

    def __init__(
        self,
        codebook_sizes: tuple[int, ...],
        levels_of_score: int | None = None,
        user_fields: tuple[UserField, ...] = (),
    ):
        self.codebook_sizes, self.user_fields = codebook_sizes, user_fields
        self.levels_of_score = levels_of_score  # so few distinct logits that ties abound
        self.steps = tuple(Choose(level) for level in range(len(codebook_sizes)))

    def inputs(self, longest: int) -> dict[str, InputSpec]:
        return {
            "lengths": InputSpec((), torch.int64, 1),
            "codes": InputSpec((longest, len(self.codebook_sizes)), torch.int64),
            "user": InputSpec((len(self.user_fields),), torch.float32),
        }

    def write(self, reading: Reading, put: Callable[[str, np.ndarray], None]) -> None:
        put("lengths", np.array(len(reading.codes), np.int64))
        put("codes", reading.codes)
        put("user", np.array(reading.user, np.float32))

    def prefill(self, inputs: Inputs) -> State:
        newest = inputs["codes"][torch.arange(len(inputs["lengths"])), inputs["lengths"] - 1]  # [B, levels]
        return State(
            newest @ torch.tensor([1, 31, 977, 7919][: newest.shape[1]]), torch.zeros(len(newest), 1, 0).long()
        )

    def decode(self, step: int, codes: Tensor | None, parents: Tensor | None, state: State) -> Logits:
        if codes is not None:
            rows = torch.arange(len(codes))[:, None]
            state.paths = torch.cat([state.paths[rows, parents], codes[..., None]], -1)
        seeds, paths = state.seeds.tolist(), state.paths.tolist()
        rows = [
            [self.logits(seed, tuple(path), step) for path in beams] for seed, beams in zip(seeds, paths, strict=True)
        ]
        return Logits(torch.tensor(np.array(rows), dtype=torch.float32))

    def forced(self, inputs: Inputs, codes: Tensor) -> list[Logits]:
        state, parents, before, out = self.prefill(inputs), torch.zeros_like(codes[:, :1]), None, []
        for step in range(codes.shape[1]):
            out.append(self.decode(step, before, None if before is None else parents, state))
            before = codes[:, step : step + 1]
        return out

    def data_rows(self, inputs: Inputs) -> Mapping[str, Tensor]:
        return {}

    def logits(self, seed: int, path: tuple[int, ...], level: int) -> np.ndarray:
        return draw(seed, path, self.codebook_sizes[level], self.levels_of_score)


@lru_cache(maxsize=100_000)
def draw(seed: int, path: tuple[int, ...], size: int, levels_of_score: int | None) -> np.ndarray:
    generator = np.random.default_rng([abs(seed), *path])
    if levels_of_score:
        return generator.integers(0, levels_of_score, size).astype(np.float64)
    return generator.normal(size=size) * 2


def random_catalog(
    n: int,
    sizes: tuple[int, ...],
    seed: int = 0,
    withdrawn: float = 0.0,
    sets: tuple[str, ...] = ("red", "blue"),
    counted: bool = False,
) -> Catalog:
    """`n` items with random codes (so that tuples are shared), random sets, a share of them withdrawn.

    counted: with random numbers of interactions, many of them equal.
    """
    generator = np.random.default_rng(seed)
    codes = np.stack([generator.integers(0, size, n) for size in sizes], 1)
    columns = {
        "item_id": [f"i{number}" for number in range(n)],
        "title": [f"Item {number}" for number in range(n)],
        "codes": pa.array(codes.tolist(), pa.list_(pa.int32())),
        "live": generator.random(n) >= withdrawn,
    }
    if sets:
        chosen = [[name for name in sets if generator.random() < 0.3] for _ in range(n)]
        columns["sets"] = pa.array(chosen, pa.list_(pa.string()))
    if counted:
        columns["interactions"] = pa.array(generator.integers(0, 20, n), pa.int64())
    return Catalog.of_items(pa.table(columns), sizes)


class BrokenModel(MadeUpModel):
    """A made-up model that gives `value` as one logit of every request whose newest item has the seed `seed`.

    level: the level at which it does; path: of which beam, None for every one.
    """

    def __init__(
        self, codebook_sizes: tuple[int, ...], seed: int, level: int, value: float, path: tuple[int, ...] | None = None
    ):
        super().__init__(codebook_sizes)
        self.seed, self.level, self.value, self.path = seed, level, value, path

    def logits(self, seed: int, path: tuple[int, ...], level: int) -> np.ndarray:
        logits = super().logits(seed, path, level)
        if (seed, level) == (self.seed, self.level) and self.path in (None, path):
            logits = logits.copy()
            logits[-1] = self.value
        return logits


def seed_of(catalog: Catalog, item_id: str) -> int:
    """How `MadeUpModel` tells a request whose newest item this is."""
    codes = catalog.codes[catalog.index[item_id]].astype(int)
    return int(codes @ np.array([1, 31, 977, 7919][: len(codes)]))
