"""A second family: a recurrent decoder that reads a bag of the history, and ends each item with a token of its own."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from octorec.models.layers import Head, Linear, RMSNorm
from octorec.models.model import Choose, Force, Inputs, InputSpec, Logits, Reading
from octorec.models.work import Work


@dataclass(frozen=True)
class Config:
    codebook_sizes: tuple[int, ...]
    width: int = 32
    codebook_fingerprint: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {"model_type": "tiny_gru", **asdict(self)}


class TinyGRU(nn.Module):
    max_history, user_fields = 6, ()

    def __init__(self, config: Config, ops: Any):
        super().__init__()
        self.config, self.ops, sizes, width = config, ops, config.codebook_sizes, config.width
        self.codebook_sizes, self.codebook_fingerprint = sizes, config.codebook_fingerprint
        self.steps = (*(Choose(level) for level in range(len(sizes))), Force(code=1, scored=True))
        self.bag = nn.ModuleList([nn.Embedding(size, width) for size in sizes])
        self.code_embed = nn.ModuleList([nn.Embedding(size, width) for size in sizes])
        self.mix = Linear(2 * width, 2 * width, ops, (("gate_proj", width), ("new_proj", width)))
        self.norm = RMSNorm(width, 1e-6, ops)
        self.head = nn.ModuleList([Head(width, size, ops) for size in (*sizes, 2)])

    @staticmethod
    def parse(raw: dict[str, Any]) -> Config:
        return Config(tuple(raw["codebook_sizes"]), raw["width"], raw["codebook_fingerprint"])

    @classmethod
    def read_config(cls, raw: dict[str, Any], shapes: Any, where: str) -> Config:
        return cls.parse(raw)

    @staticmethod
    def work(config: Config, batch: int, beam: int, context: int) -> Work:
        return Work(lambda name: [batch] + [batch * beam] * len(config.codebook_sizes), ())

    def inputs(self, longest: int) -> dict[str, InputSpec]:
        return {"bag": InputSpec((longest, len(self.codebook_sizes)), torch.int32, -1)}

    def write(self, reading: Reading, put: Callable[[str, np.ndarray], None]) -> None:
        put("bag", reading.codes.astype(np.int32))

    def prefill(self, inputs: Inputs) -> dict[str, Tensor]:
        bag = inputs["bag"].long()  # [B, S, L]
        found = sum(table(bag[..., at].clamp(min=0)) for at, table in enumerate(self.bag)) * (bag[..., :1] >= 0)
        return {"hidden": found.sum(1, keepdim=True).tanh()}  # [B, 1, C]

    def decode(self, step: int, codes: Tensor | None, parents: Tensor | None, state: dict[str, Tensor]) -> Logits:
        if codes is not None and parents is not None:
            before = state["hidden"].gather(1, parents[..., None].expand(-1, -1, self.config.width))
            state["hidden"] = self._next(before, self.code_embed[step - 1](codes))
        values = self.ops.head(self.norm(state["hidden"].flatten(0, 1)), self.head[step].weight)
        return Logits(values.unflatten(0, state["hidden"].shape[:2]))

    def _next(self, hidden: Tensor, code: Tensor) -> Tensor:
        both = self.mix(torch.cat([hidden, code], -1).flatten(0, 1)).unflatten(0, hidden.shape[:2])
        return torch.lerp(hidden, both.chunk(2, -1)[1].tanh(), both.chunk(2, -1)[0].sigmoid())

    def forced(self, inputs: Inputs, codes: Tensor) -> list[Logits]:
        state, own = self.prefill(inputs), torch.zeros_like(codes[:, :1])
        first = self.decode(0, None, None, state)
        return [first, *(self.decode(step, code, own, state) for step, code in enumerate(codes.split(1, 1), 1))]

    def data_rows(self, inputs: Inputs) -> dict[str, Tensor]:
        return {}
