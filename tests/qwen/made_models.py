"""Small Qwen models that transformers makes and a plain loop trains on prompts of made-up interactions.

Interactions are like MovieLens': people watch films of a few genres, in an order that a model can learn. So that small
models are sharp: a film has two that follow it often.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from octorec.catalog.build import build_catalog
from octorec.catalog.catalog import Catalog
from octorec.data.interactions import Interactions
from tests.qwen.made_tokenizers import Layout, minionerec, onereason, openonerec

SIZES = (32, 32, 32)
HOLD_OUT = 1
ODD_ROWS = 33  # rows of the vocabulary without a token
SHAPE = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
SHAPE |= {"num_key_value_heads": 2, "max_position_embeddings": 512}
LEAKS = {  # of a folder's generation_config.json: what a beam search must not be reached by
    "do_sample": True, "temperature": 0.6, "top_k": 5, "top_p": 0.5, "repetition_penalty": 1.8,
}  # fmt: skip


@dataclass(frozen=True)
class Training:
    """A Training says how long a model learns. longest: items of a history."""

    steps: int = 120
    batch: int = 32
    longest: int = 6
    learning_rate: float = 6e-3
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Made:
    """A Made is a trained folder with what it was made of."""

    folder: Path
    layout: Layout
    catalog: Catalog
    interactions: Interactions

    def histories(self, users: int, longest: int = 6) -> list[np.ndarray]:
        """Return the codes [n, L] of the newest items of some users, but the held-out one."""
        found = list(self.interactions.histories().values())[:users]
        return [self.codes(items[:-HOLD_OUT][-longest:]) for items in found]

    def targets(self, users: int) -> np.ndarray:
        """Return the codes [users, L] of the held-out items of the same users."""
        return self.codes([items[-1] for items in list(self.interactions.histories().values())[:users]])

    def codes(self, items: list[str]) -> np.ndarray:
        return self.catalog.codes[[self.catalog.index[item] for item in items]].astype(np.int64)


def made_interactions(genres: int = 20, each: int = 10, users: int = 300, seed: int = 0) -> Interactions:
    """Return interactions of `users` with films: mostly of one genre, of which one film follows another more often."""
    random = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        genre, film = int(random.integers(genres)), int(random.integers(each))
        for time in range(int(random.integers(6, 20))):
            rows.append((f"u{user}", f"m{genre * each + film}", time))
            film = (film + 1 if random.random() < 0.6 else int(random.integers(each))) % each
            genre = genre if random.random() < 0.9 else int(random.integers(genres))
    every = [(f"all{film}", f"m{film}", 0) for film in range(genres * each)]  # so that each film is met
    names = ("user_id", "item_id", "timestamp")
    return Interactions.from_table(pa.table(dict(zip(names, map(list, zip(*rows, *every, strict=True)), strict=True))))


def make_layout(name: str, catalog: Catalog) -> Layout:
    """Return a layout by name, for a catalog's codes."""
    sizes = catalog.codebook_sizes
    if name == "minionerec":
        return minionerec(catalog.codes, sizes)
    return {"openonerec": openonerec, "onereason": onereason}[name](sizes)


def make_folder(folder: Path, name: str, interactions: Interactions, training: Training, **shape: Any) -> Made:
    """Train a model of layout `name` and save it as a folder of transformers' with tokenizer and catalog.

    OpenOneRec is a Qwen3 with tied embeddings, OneReason one without, MiniOneRec a Qwen2 with tied embeddings.
    """
    catalog = build_catalog(interactions, None, SIZES, hold_out=HOLD_OUT)
    layout = make_layout(name, catalog)
    model = new_model(name, layout, SHAPE | shape)
    learn(model, layout, catalog, interactions, training)
    likely_rows_without_a_token(model, layout)
    model.save_pretrained(folder)
    layout.save(folder)
    catalog.save(folder / "catalog")
    (folder / "generation_config.json").write_text(json.dumps(LEAKS | {"eos_token_id": layout.ids("<|im_end|>")}))
    return Made(folder, layout, catalog, interactions)


def untrained_folder(folder: Path, name: str, **shape: Any) -> Made:
    """Save a model of layout `name` that has learned nothing, with tokenizer and catalog."""
    interactions = made_interactions(users=20)
    catalog = build_catalog(interactions, None, SIZES, hold_out=HOLD_OUT)
    layout = make_layout(name, catalog)
    new_model(name, layout, SHAPE | shape).save_pretrained(folder)
    layout.save(folder)
    catalog.save(folder / "catalog")
    return Made(folder, layout, catalog, interactions)


def new_model(name: str, layout: Layout, shape: dict[str, Any], seed: int = 0) -> Any:
    """Return an untrained model of transformers' for a layout, on the CPU in float32."""
    from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    rope = {"rope_type": "default", "rope_theta": 10_000.0 if name == "minionerec" else 1_000_000.0}
    common = {"vocab_size": layout.vocabulary + ODD_ROWS, "rope_parameters": rope, "initializer_range": 0.1, **shape}
    if name == "minionerec":
        return Qwen2ForCausalLM(Qwen2Config(**common, tie_word_embeddings=True))
    heads = {"head_dim": 16, **common}
    return Qwen3ForCausalLM(Qwen3Config(**heads, tie_word_embeddings=name == "openonerec"))


@torch.enable_grad()
def learn(model: Any, layout: Layout, catalog: Catalog, interactions: Interactions, training: Training) -> None:
    """Train on windows of histories: the prompt's items and the answer with what ends it are to be predicted."""
    torch.manual_seed(training.seed)
    optimizer = torch.optim.AdamW(model.parameters(), training.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, training.learning_rate, training.steps)
    model.train()
    for tokens, counted in batches(layout, catalog, interactions, training):
        hidden = model.model(tokens).last_hidden_state[:, :-1][:, counted[1:]]
        logits = model.lm_head(hidden).flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits, tokens[:, 1:][:, counted[1:]].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()


def batches(
    layout: Layout, catalog: Catalog, interactions: Interactions, training: Training
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield the tokens [B, T] of prompts with answers, of histories of one length, and which positions [T] count."""
    random = np.random.default_rng(training.seed)
    domains = list(layout.sids.begin) or [""]
    codes_of = [
        catalog.codes[[catalog.index[item] for item in items[:-HOLD_OUT]]]
        for items in interactions.histories().values()
        if len(items) > HOLD_OUT + 1
    ]
    end = [token.id for token in layout.sids.end]
    for _ in range(training.steps):
        length = int(random.integers(1, training.longest + 1))
        able = [codes for codes in codes_of if len(codes) > length]
        domain, rows = domains[random.integers(len(domains))], []
        for _ in range(training.batch):
            codes = able[random.integers(len(able))]
            first = int(random.integers(len(codes) - length))
            answer = [int(ids[code]) for ids, code in zip(layout.sids.levels, codes[first + length], strict=True)]
            rows.append([*layout.prompt(codes[first : first + length], domain), *answer, *end])
        tokens = torch.tensor(np.array(rows))
        before = sum(len(layout.ids(text)) for text in layout.before)
        counted = torch.zeros(tokens.shape[1], dtype=torch.bool)
        counted[before : tokens.shape[1]] = True
        counted[tokens.shape[1] - len(end) - len(SIZES) - len(layout.ids(layout.after)) : -len(end) - len(SIZES)] = (
            False
        )
        yield tokens, counted


@torch.no_grad()
def likely_rows_without_a_token(model: Any, layout: Layout) -> None:
    """Make the rows of the vocabulary without a token as likely as some codes: a search must pass them over."""
    head = model.get_output_embeddings().weight
    codes = layout.sids.levels[0][layout.sids.levels[0] >= 0]
    head[layout.vocabulary :] = head[np.resize(codes, ODD_ROWS)] * 1.05
