"""Folders broken at random: the reader gives an InputError or a checkpoint, never a traceback nor a hang."""

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from octorec.errors import InputError
from octorec.models.checkpoint_folder import INDEX
from octorec.models.hf_folder import Checkpoint, write_config, write_tensors
from octorec.numerics.checkpoint_files import CheckpointFiles
from octorec.quant.load import DequantizedCheckpoint

VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    2**63,
    10**30,
    1.5,
    "",
    "x",
    "..",
    "/etc/passwd",
    "\x1b[31m",
    [],
    [[]],
    {},
    ["F32"],
]
FP8 = torch.ones(130, 140).to(torch.float8_e4m3fn)


def folder_of(path: Path) -> Path:
    path.mkdir()
    tensors = {f"{i}.weight": torch.ones(3, 4) for i in range(4)} | {
        "q.weight": FP8,
        "q.weight_scale": torch.ones(2, 2),
    }
    write_tensors(path, tensors.items(), 100)
    write_config(path, {"model_type": "x", "quantization_config": {"weight_block_size": [128, 128]}})
    return path


def changed(value: Any, chance: random.Random) -> Any:
    """A JSON value in which one place holds something else."""
    if not isinstance(value, dict | list) or not value or chance.random() < 0.2:
        return chance.choice(VALUES)
    keys = list(value) if isinstance(value, dict) else range(len(value))
    key = chance.choice(list(keys))
    if isinstance(value, dict) and chance.random() < 0.3:
        rest = {name: item for name, item in value.items() if name != key}
        return (
            rest if chance.random() < 0.5 else {**rest, f"{key}{chance.choice(['_scale', '_packed', 'x'])}": value[key]}
        )
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    copy[key] = changed(value[key], chance)
    return copy


def break_something(folder: Path, chance: random.Random) -> None:
    path = chance.choice(sorted(folder.iterdir()))
    raw = bytearray(path.read_bytes())
    kind = chance.random()
    if kind < 0.3:
        for _ in range(chance.randrange(1, 4)):
            raw[chance.randrange(len(raw))] = chance.randrange(256)
        path.write_bytes(raw)
    elif kind < 0.4:
        path.write_bytes(raw[: chance.randrange(len(raw))])
    elif path.suffix == ".json":
        path.write_text(json.dumps(changed(json.loads(raw), chance)))
    else:
        size = int.from_bytes(raw[:8], "little")
        header = json.dumps(changed(json.loads(raw[8 : 8 + size]), chance)).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header + raw[8 + size :])


def read(folder: Path) -> None:
    """Open the folder as each reader does, and read every tensor of it."""
    for reader in (Checkpoint, DequantizedCheckpoint):
        for _ in reader(folder).items():
            pass
    files = CheckpointFiles(folder)
    for name in files.names():
        files.tensor(name)


def fuzz(path: Path, seeds: range) -> int:
    """Break a folder once for each seed; return how often it was refused."""
    refused = length = 0
    for seed in seeds:
        folder = folder_of(path / str(seed))
        break_something(folder, random.Random(seed))
        start = time.process_time()
        try:
            read(folder)
        except InputError as error:
            refused += 1
            length = max(length, len(str(error)))
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
        assert time.process_time() - start < 20, seed
    assert length < 1500
    return refused


def test_a_whole_folder_is_read(tmp_path: Path) -> None:
    read(folder_of(tmp_path / "whole"))


def test_broken_folders(tmp_path: Path) -> None:
    assert 100 < fuzz(tmp_path, range(250)) < 250


@pytest.mark.slow
def test_many_broken_folders(tmp_path: Path) -> None:
    fuzz(tmp_path, range(1000, 2500))


def test_an_index_of_many_tensors_opens_in_seconds(tmp_path: Path) -> None:
    names = [f"model.layers.{i // 300}.mlp.experts.{i % 300}.up_proj.weight" for i in range(5_000)]
    save_file({name: torch.zeros(1, 1) for name in names}, tmp_path / "a.safetensors")
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(names, "a.safetensors")}))
    start = time.process_time()
    assert len(CheckpointFiles(tmp_path).names()) == 5_000
    assert time.process_time() - start < 20
