"""Let a trained checkpoint read a feature of your own: python own_features.py runs/demo/bf16

The new part begins at zero, so that answers do not change until it is trained. As a file, a context module is given to
every verb: octorec serve FOLDER --context-module own_features.py:WithHour
"""

import sys
from typing import ClassVar

import torch
from torch import nn

import octorec
from octorec import Feature
from octorec.engine.engine import Engine
from octorec.models.onerec_context import ContextProcessor


class WithHour(nn.Module):
    """A context as without it, to whose items the hour of the request is added."""

    features: ClassVar = {"hour": Feature((), "int64", categories=24)}

    def __init__(self, config, ops):
        super().__init__()
        self.items = ContextProcessor(config, ops)
        self.hour = nn.Embedding(24, config.d_context)

    def forward(self, batch):
        return self.items(batch) + self.hour(batch.features["hour"])[:, None]


def with_hour(checkpoint: str, seed: int | None = None) -> Engine:
    """Return an engine of a checkpoint with the module. seed: of the hours' vectors; None for zeros."""
    engine = octorec.load(checkpoint)
    model, trained = engine.model, engine.model.context
    model.context = WithHour(model.config, engine.ops)
    model.context.items = trained
    vectors = model.context.hour.weight.data.zero_()
    if seed is not None:
        vectors.normal_(0, 0.5, generator=torch.Generator().manual_seed(seed))
    return Engine(model, engine.catalog, engine.config)


if __name__ == "__main__":
    plain = octorec.Request(["50", "181", "172"], k=5)
    morning = octorec.Request(["50", "181", "172"], k=5, features={"hour": 8})
    evening = octorec.Request(["50", "181", "172"], k=5, features={"hour": 20})
    print("without:", octorec.load(sys.argv[1]).recommend([plain])[0].titles)
    print("zeros:  ", with_hour(sys.argv[1]).recommend([morning])[0].titles)
    for name, request in (("8:00:   ", morning), ("20:00:  ", evening)):
        print(name, with_hour(sys.argv[1], seed=1).recommend([request])[0].titles)
