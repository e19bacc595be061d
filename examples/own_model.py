"""Put a model of your own behind OctoRec's search: python own_model.py runs/demo/bf16/catalog

The class below is a whole `Model` (octorec.models.model): a GRU over the history that writes an item's codes level by
level. Beam search over the catalog, exclusions, sets, exact answers and the server's batches are OctoRec's. Its weights
here are random; train them as you like.
"""

import sys
from typing import Any

import torch
from torch import Tensor, nn

import octorec
from octorec.catalog.catalog import Catalog
from octorec.engine.config import EngineConfig
from octorec.engine.engine import Engine
from octorec.models.model import Choose, InputSpec, Logits, Reading

WIDTH = 64


class GRUModel(nn.Module):
    """A GRU reads the items of a history, the newest last; a head a level scores the codes of that level."""

    user_fields = ()
    codebook_fingerprint = None
    max_history = 50

    def __init__(self, codebook_sizes: tuple[int, ...]):
        super().__init__()
        self.codebook_sizes = codebook_sizes
        self.steps = tuple(Choose(level) for level in range(len(codebook_sizes)))
        self.embed = nn.ModuleList(nn.Embedding(size, WIDTH) for size in codebook_sizes)
        self.gru = nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.heads = nn.ModuleList(nn.Linear(WIDTH, size) for size in codebook_sizes)

    def inputs(self, longest: int) -> dict[str, InputSpec]:
        levels = len(self.codebook_sizes)
        return {"codes": InputSpec((longest, levels), torch.int64), "lengths": InputSpec((), torch.int64, 1)}

    def write(self, reading: Reading, put: Any) -> None:
        put("codes", reading.codes)
        put("lengths", torch.tensor([len(reading.codes)]).numpy())

    def prefill(self, inputs: Any) -> dict[str, Tensor]:
        items = sum(embed(inputs["codes"][..., level].clamp(min=0)) for level, embed in enumerate(self.embed))
        found, _ = self.gru(items)  # [B, S, WIDTH]
        last = (inputs["lengths"] - 1).view(-1, 1, 1).expand(-1, 1, WIDTH)
        return {"beams": found.gather(1, last)}  # [B, 1, WIDTH]

    def decode(self, step: int, codes: Tensor | None, parents: Tensor | None, state: dict[str, Tensor]) -> Logits:
        if codes is not None and parents is not None:
            before = state["beams"].gather(1, parents[..., None].expand(-1, -1, WIDTH))
            state["beams"] = torch.tanh(before + self.embed[step - 1](codes))
        return Logits(self.heads[step](state["beams"]))

    def forced(self, inputs: Any, codes: Tensor) -> list[Logits]:
        state, one = self.prefill(inputs), torch.zeros_like(codes[:, :1])
        given = [None, *(codes[:, level : level + 1] for level in range(len(self.steps) - 1))]
        return [self.decode(step, code, None if code is None else one, state) for step, code in enumerate(given)]

    def data_rows(self, inputs: Any) -> dict[str, Tensor]:
        return {}


def engine_of(catalog: Catalog) -> Engine:
    torch.manual_seed(0)
    config = EngineConfig(max_context=20, batch_sizes=(1, 8), beam_widths=(32,), default_beam_width=32)
    return Engine(GRUModel(catalog.codebook_sizes).eval(), catalog, config)


if __name__ == "__main__":
    engine = engine_of(Catalog.load(sys.argv[1]))
    drama = octorec.Request(["50", "181"], k=5, allow=["Drama"], exclude=["100"])
    for answer in engine.recommend([octorec.Request(["50", "181"], k=5), drama]):
        print(answer.titles, "exact" if answer.exact else "not certain")
    print("log-probabilities of item 172:", engine.score([octorec.Request(["50", "181"])], ["172"])[0])
