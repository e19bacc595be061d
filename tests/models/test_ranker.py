"""The ranker against its papers' equations written as loops, its folded twin, and its folder."""

import json
import math
from pathlib import Path

import pytest
import torch

from octorec.errors import InputError, MismatchError
from studies.families.ranker import (
    TABLES,
    Ranker,
    RankerBatch,
    RankerConfig,
    folded,
    initialize,
    load_ranker,
    save_ranker,
)

ROWS = {"user": 7, "item": 9, "gender": 3, "occupation": 4, "genre": 5}
CONFIG = RankerConfig(ROWS, ("age", "timestamp"), embed_dim=4, history=3, attention_width=6, bottom_width=5,
                      n_cross=2, top_widths=(8, 6))  # fmt: skip


def model(standardised: bool = True) -> Ranker:
    config = RankerConfig(**{**vars(CONFIG), "standardised": standardised})
    made = Ranker(config)
    initialize(made, 0)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in made.named_parameters():
        if "bias" in name or "embed" in name:
            torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    if standardised:
        made.mean.copy_(torch.tensor([30.0, 8.8e8]))
        made.std.copy_(torch.tensor([10.0, 4e6]))
    return made.eval()


def batch(size: int = 6) -> RankerBatch:
    generator = torch.Generator().manual_seed(2)
    ids = torch.stack([torch.randint(ROWS[name], (size,), generator=generator) for name in TABLES], 1)
    genres = (torch.rand(size, ROWS["genre"], generator=generator) < 0.4).float()
    history = torch.randint(1, ROWS["item"], (size, 3), generator=generator)
    history[0] = 0
    history[1, 1:] = 0
    numbers = torch.stack(
        [torch.rand(size, generator=generator) * 50, 8.7e8 + 2e7 * torch.rand(size, generator=generator)], 1
    )
    return RankerBatch(ids, genres, history, numbers)


def dense(state: dict[str, torch.Tensor], name: str, x: list[float]) -> list[float]:
    weight, bias = state[f"{name}.proj.weight"], state[f"{name}.bias"]
    return [float(bias[n]) + sum(float(weight[n, k]) * x[k] for k in range(len(x))) for n in range(len(bias))]


def by_hand(state: dict[str, torch.Tensor], one: RankerBatch) -> float:
    """One request, value by value."""
    relu = lambda xs: [max(x, 0.0) for x in xs]  # noqa: E731
    rows = {name: state[f"embed.{name}.weight"][one.ids[0, i]].tolist() for i, name in enumerate(TABLES)}
    item = rows["item"]
    genre = [sum(float(one.genres[0, g] * state["embed.genre.weight"][g, e]) for g in range(5)) for e in range(4)]
    attended = [0.0] * 4
    for row in one.history[0].tolist():
        if row:
            click = state["embed.item.weight"][row].tolist()
            pair = [*click, *item, *(c - i for c, i in zip(click, item)), *(c * i for c, i in zip(click, item))]  # noqa: B905
            (weight,) = dense(state, "attention.mlp.2", relu(dense(state, "attention.mlp.0", pair)))
            attended = [a + weight * c for a, c in zip(attended, click, strict=True)]
    numbers = [(float(one.numbers[0, f]) - float(state["mean"][f])) / float(state["std"][f]) for f in range(2)]
    bottom = dense(state, "bottom_mlp.2", relu(dense(state, "bottom_mlp.0", numbers)))
    x0 = [v for name in TABLES for v in rows[name]] + genre + attended + bottom
    x = x0
    for layer in range(2):
        x = [a * b + c for a, b, c in zip(x0, dense(state, f"cross.{layer}", x), x, strict=True)]
    for layer in (0, 2):
        x = relu(dense(state, f"top_mlp.{layer}", x))
    return dense(state, "top_mlp.4", x)[0]


@torch.no_grad()
def test_it_is_the_papers_equations() -> None:
    made, requests = model(), batch()
    state = {name: tensor.double() for name, tensor in made.state_dict().items()}
    found = made(requests)
    for row in range(len(requests)):
        assert float(found[row]) == pytest.approx(by_hand(state, requests[slice(row, row + 1)]), rel=1e-4, abs=1e-4)


@torch.no_grad()
def test_folding_the_standardisation_changes_the_weights_and_not_the_answers() -> None:
    made, requests = model(), batch()
    raw = folded(made)
    assert not raw.config.standardised
    assert "mean" not in raw.state_dict()
    assert (raw(requests) - made(requests)).abs().max() < 1e-3  # float32 holds 8.8e8 in steps of 64
    before, after = (float(m.state_dict()["bottom_mlp.0.bias"].abs().max()) for m in (made, raw))
    assert after > 10 * before


@torch.no_grad()
def test_a_folder_gives_it_back(tmp_path: Path) -> None:
    made = folded(model())
    save_ranker(made, tmp_path / "ranker", {"auc": 0.7})
    again = load_ranker(tmp_path / "ranker")
    assert again.config == made.config
    assert torch.equal(again(batch()), made(batch()))
    assert json.loads((tmp_path / "ranker" / "training.json").read_text()) == {"auc": 0.7}


def test_another_models_folder_is_refused(tmp_path: Path) -> None:
    save_ranker(model(), tmp_path / "ranker", {})
    config = json.loads((tmp_path / "ranker" / "config.json").read_text())
    for changes, error, words in (
        ({"n_cross": 3}, MismatchError, "cross.2"),
        ({"model_type": "onerec_v2"}, InputError, "'ranker'"),
        ({"depth": 3}, InputError, "n_cross"),
        ({"numbers": []}, InputError, "numbers"),
        ({"rows": {"user": 7}}, InputError, "rows.item"),
    ):
        (tmp_path / "ranker" / "config.json").write_text(json.dumps({**config, **changes}))
        with pytest.raises(error, match=words):
            load_ranker(tmp_path / "ranker")


def test_initial_weights_are_in_their_bounds() -> None:
    made = Ranker(CONFIG)
    initialize(made, 0)
    weight = made.state_dict()["cross.0.proj.weight"]
    assert 0.9 / math.sqrt(28) < float(weight.abs().max()) <= 1 / math.sqrt(28)
    assert 0.005 < float(made.state_dict()["embed.user.weight"].std()) < 0.02
