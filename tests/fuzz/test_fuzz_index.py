"""model.safetensors.index.json of checkpoints of two files."""

import json
import random
from pathlib import Path

import pytest
from checkpoints import read_checkpoint, rewritten_json, small_checkpoint
from harness import fuzz
from safetensors.torch import load_file, save_file

INDEX = "model.safetensors.index.json"


def make(folder: Path) -> None:
    """A checkpoint whose tensors lie in two files, and a third file that no index names."""
    small_checkpoint(folder / "input", fp8=False)
    whole = next((folder / "input").glob("*.safetensors"))
    tensors = load_file(whole)
    names = sorted(tensors)
    parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, folder / "input" / file)
    whole.unlink()
    save_file(tensors, folder / "elsewhere.safetensors")
    index = {"metadata": {"total_size": 1}, "weight_map": {name: file for file in parts for name in parts[file]}}
    (folder / "input" / INDEX).write_text(json.dumps(index))


def broken(folder: Path, rng: random.Random) -> str:
    path = folder / "input" / INDEX
    if rng.random() < 0.3:  # a name that leads elsewhere
        index = json.loads(path.read_text())
        to = (
            "../elsewhere.safetensors",
            str(folder / "elsewhere.safetensors"),
            "model-1.safetensors",
            "config.json",
            ".",
            "x",
        )
        index["weight_map"][rng.choice(list(index["weight_map"]))] = rng.choice(to)
        path.write_text(json.dumps(index))
        return repr(path.read_text())
    return rewritten_json(path, rng)


def read(folder: Path) -> object:
    return read_checkpoint(folder / "input")


@pytest.mark.slow
def test_a_broken_index_is_refused_in_one_line() -> None:
    fuzz("test_fuzz_index")
