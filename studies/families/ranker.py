"""A traditional ranker: the probability that a user clicks one item, computed for each candidate item.

The industry's usual parts: embeddings of ids (Deep & Cross Network v2, arXiv 2008.13535, with DLRM's bottom MLP over
numbers, arXiv 1906.00091) and DIN's attention unit over the newest clicked items (arXiv 1706.06978).

    numbers ─► bottom MLP ─┐
    ids ─► embeddings ─────┼─► x0 ─► cross layers x_(l+1) = x0 * (W x_l + b) + x_l ─► top MLP ─► logit
    clicks ─► attention ───┘

Letters: B requests, H clicked items of a history, E width of an embedding, F numbers, D = 7 E width of x0.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from octorec.errors import InputError, MismatchError, check_keys
from octorec.files import json_text
from octorec.kernels import reference
from octorec.kernels.ops import Ops
from octorec.models.hf_folder import Checkpoint, write_config, write_tensors
from octorec.models.layers import Linear
from octorec.output.write import new_folder

MODEL_TYPE = "ranker"
TABLES = ("user", "item", "gender", "occupation")  # one id each; genres are several


@dataclass(frozen=True)
class RankerConfig:
    """rows: of each table of TABLES and of `genre`, row 0 of each standing for nothing known.

    numbers: what the bottom MLP reads, by name. standardised: whether the model brings each number to mean 0 and
    deviation 1 first; off, the numbers enter the first product as they come. The widths are numbers of values.
    """

    rows: dict[str, int]
    numbers: tuple[str, ...]
    standardised: bool = True
    embed_dim: int = 32
    history: int = 20
    attention_width: int = 64
    bottom_width: int = 64
    n_cross: int = 3
    top_widths: tuple[int, ...] = (256, 128)

    def __post_init__(self) -> None:
        for name in (*TABLES, "genre"):
            if self.rows.get(name, 0) < 1:
                raise InputError(f"rows.{name}", self.rows.get(name), "must be above 0")
        if not self.numbers:
            raise InputError("numbers", self.numbers, "needs at least one")

    @property
    def width(self) -> int:
        """D: the embeddings, genres, attended history and the bottom MLP's result side by side."""
        return (len(TABLES) + 3) * self.embed_dim

    def to_dict(self) -> dict[str, Any]:
        """What `config.json` holds."""
        return {"model_type": MODEL_TYPE, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> "RankerConfig":
        """Read `config.json`'s dictionary; an unknown key is an InputError that names the known ones."""
        raw = dict(raw)
        model_type = raw.pop("model_type", None)
        if model_type != MODEL_TYPE:
            raise InputError("config.json: model_type", model_type, f"allowed: {MODEL_TYPE!r}")
        check_keys("config.json", raw, cls, required=("rows", "numbers"))
        for name in ("numbers", "top_widths"):
            if name in raw:
                raw[name] = tuple(raw[name])
        return cls(**raw)


@dataclass(frozen=True)
class RankerBatch:
    """B requests. ids [B, len(TABLES)] int64. genres [B, genre rows] float32: 1 for each genre of the item.

    history [B, H] int64: rows of the item table, oldest first, 0 where there is none. numbers [B, F] float32.
    """

    ids: Tensor
    genres: Tensor
    history: Tensor
    numbers: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: Tensor | slice) -> "RankerBatch":
        return RankerBatch(self.ids[rows], self.genres[rows], self.history[rows], self.numbers[rows])


class Dense(nn.Module):
    """y = x W^T + b: x [T, K] -> [T, N]."""

    def __init__(self, n_in: int, n_out: int, ops: Ops):
        super().__init__()
        self.proj = Linear(n_in, n_out, ops)
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x) + self.bias


class MLP(nn.Sequential):
    """Dense layers of `widths`, ReLU between them."""

    def __init__(self, n_in: int, widths: tuple[int, ...], ops: Ops):
        layers: list[nn.Module] = []
        for width in widths:
            layers += [Dense(n_in, width, ops), nn.ReLU()]
            n_in = width
        super().__init__(*layers[:-1])


class AttentionUnit(nn.Module):
    """DIN's: an MLP weighs each clicked item against the candidate; their weighted sum, not normalised."""

    def __init__(self, config: RankerConfig, ops: Ops):
        super().__init__()
        self.mlp = MLP(4 * config.embed_dim, (config.attention_width, 1), ops)

    def forward(self, item: Tensor, clicks: Tensor, present: Tensor) -> Tensor:
        """item [B, E], clicks [B, H, E], present [B, H] bool -> [B, E]."""
        wide = item[:, None].expand_as(clicks)
        pairs = torch.cat([clicks, wide, clicks - wide, clicks * wide], -1)
        weights = self.mlp(pairs.flatten(0, 1)).view(present.shape) * present  # [B, H]
        return (weights[..., None] * clicks).sum(1)


class Ranker(nn.Module):
    """The whole model; `ops` as in `models.onerec`."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: RankerConfig, ops: Ops = reference):
        super().__init__()
        width = config.embed_dim
        self.config, self.ops = config, ops
        self.embed = nn.ModuleDict({name: nn.Embedding(config.rows[name], width) for name in (*TABLES, "genre")})
        self.attention = AttentionUnit(config, ops)
        self.bottom_mlp = MLP(len(config.numbers), (config.bottom_width, width), ops)
        self.cross = nn.ModuleList([Dense(config.width, config.width, ops) for _ in range(config.n_cross)])
        self.top_mlp = MLP(config.width, (*config.top_widths, 1), ops)
        if config.standardised:
            self.register_buffer("mean", torch.zeros(len(config.numbers)))
            self.register_buffer("std", torch.ones(len(config.numbers)))

    def forward(self, batch: RankerBatch) -> Tensor:
        """Logits [B] of a click."""
        x0 = self.features(batch)
        x = x0
        for layer in self.cross:
            x = x0 * layer(x) + x
        return self.top_mlp(x)[:, 0]

    def features(self, batch: RankerBatch) -> Tensor:
        """x0 [B, D]."""
        parts = {name: self.embed[name](batch.ids[:, column]) for column, name in enumerate(TABLES)}
        item = self.embed["item"]
        clicks = self.attention(parts["item"], item(batch.history), batch.history > 0)
        genre = self.embed["genre"].weight
        assert isinstance(genre, Tensor)
        numbers = (batch.numbers - self.mean) / self.std if self.config.standardised else batch.numbers
        genres = self.ops.linear(batch.genres.to(genre.dtype), genre.T)
        return torch.cat([*parts.values(), genres, clicks, self.bottom_mlp(numbers)], -1)


def initialize(model: Ranker, seed: int) -> None:
    """Embeddings of deviation 0.01; matrices uniform within 1/sqrt(K), biases 0."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if name.startswith("embed"):
            nn.init.normal_(parameter, std=0.01, generator=generator)
        elif parameter.dim() == 2:
            bound = parameter.shape[1] ** -0.5
            nn.init.uniform_(parameter, -bound, bound, generator=generator)


def folded(model: Ranker) -> Ranker:
    """The same function of raw numbers: (x - mean) / std put into the bottom MLP's first product, in float64.

    W' = W / std, b' = b - W (mean / std): what a serving graph does with a constant affine step before a product.
    """
    assert model.config.standardised
    out = Ranker(dataclasses.replace(model.config, standardised=False))
    state = {name: tensor.clone() for name, tensor in model.state_dict().items() if name not in ("mean", "std")}
    weight, bias = (state[f"bottom_mlp.0.{name}"].double() for name in ("proj.weight", "bias"))
    weight = weight / model.std.double()
    state["bottom_mlp.0.proj.weight"] = weight.float()
    state["bottom_mlp.0.bias"] = (bias - weight @ model.mean.double()).float()
    out.load_state_dict(state)
    return out.eval()


def save_ranker(model: Ranker, folder: str | Path, about: dict[str, Any], force: bool = False) -> None:
    """Write float32 safetensors with config.json, and `about` as training.json."""
    with new_folder(folder, force) as scratch:
        write_tensors(scratch, ((name, tensor.contiguous()) for name, tensor in model.state_dict().items()))
        write_config(scratch, model.config.to_dict())
        (scratch / "training.json").write_text(json_text(about, indent=1))


def load_ranker(folder: str | Path) -> Ranker:
    """Read what `save_ranker` wrote; an InputError for another model, MismatchError where config and tensors differ."""
    checkpoint = Checkpoint(folder)
    model = Ranker(RankerConfig.from_dict(checkpoint.config))
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: checkpoint.shape(name) for name in checkpoint.names()}
    if wanted != found:
        differing = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        raise MismatchError(f"checkpoint {folder}", differing, "names and shapes must be those config.json says")
    model.load_state_dict(dict(checkpoint.items()))
    return model.eval()
