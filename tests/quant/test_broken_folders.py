"""A checkpoint folder from a stranger, each key of its config.json in turn something else: it is read or refused in one
line, and no claim of sizes takes time or memory."""

import copy
import json
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from octorec.errors import InputError
from octorec.models.checkpoint_folder import INDEX
from octorec.models.onerec import OneRecV2, initialize
from octorec.models.presets import preset
from octorec.models.user import UserField
from octorec.models.weights import save
from octorec.output.write import new_folder
from octorec.quant.convert import quantize_checkpoint
from octorec.quant.load import load_dequantized, load_model
from octorec.report.analysis import analyze

SECONDS, BYTES = 60, 10**9  # that reading one folder may take, also on a busy machine
ABSENT = object()
VALUES = (
    ABSENT,
    None,
    "4",
    "",
    [3],
    ["a"],
    {"a": 1},
    -4,
    0,
    1,
    2.5,
    True,
    10**6,
    10**9,
    10**30,
    "a" * 10**6,
    [[]] * 10**5,
)
FIELDS = (UserField("age", "number"), UserField("plan", "category", ("a", "b")))
FAST, SLOW = 90, 3  # the fast tests take one of 90 variants, the slow ones one of 3


def paths(tree: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value of a config."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, part in pairs:
        yield (*above, key)
        yield from paths(part, (*above, key))


def changed(config: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    out = copy.deepcopy(config)
    at: Any = out
    for key in path[:-1]:
        at = at[key]
    if value is ABSENT:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return out


def variants(config: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    every = [
        (f"{'.'.join(map(str, path))}={str(value)[:20]}", changed(config, path, value))
        for path in paths(config)
        for value in VALUES
    ]
    hostile = [
        "re:(([a-z._0-9])+)+$!",
        "re:(?:\\w+)+!",
        "re:(",
        "re:(?=a)",
        "re:" + ".*a" * 500,
        "re:(a{999}){999}",
        "re:",
    ]
    if "quantization_config" in config:
        every += [(f"ignore {h[:20]}", changed(config, ("quantization_config", "ignore"), [h])) for h in hostile]
    more = {
        "quantization_config": "fp8",
        "dtype": "bfloat16",
        "n_experts": 4,
        "n_layers": 3,
        "architectures": [],
        "extra": {"deep": [1]},
        "": 0,
    }
    return every + [(f"more {key}", {**config, key: value}) for key, value in more.items()]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A 16-bit folder and its FP8 form."""
    root = tmp_path_factory.mktemp("broken")
    model = OneRecV2(preset("tiny", d_expert=32, user_fields=FIELDS, s_kv=2))
    initialize(model, seed=0)
    with new_folder(root / "bf16") as scratch:
        save(model, scratch, torch.bfloat16)
    quantize_checkpoint(root / "bf16", root / "fp8", "fp8-channel")
    return root / "bf16", root / "fp8"


def read(folder: Path, out: Path) -> set[str]:
    """What each reader of a folder did: `read` or `refused`; anything else is a failure."""
    ends = set()
    readers: list[Callable[[], Any]] = [
        lambda: load_model(folder),
        lambda: load_dequantized(folder),
        lambda: quantize_checkpoint(folder, out / "fp8", "fp8-channel", force=True),
    ]
    for reader in readers:
        start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            reader()
            ends.add("read")
        except InputError:
            ends.add("refused")
        assert time.process_time() - start < SECONDS
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < BYTES
    return ends


def read_each(folder: Path, every: list[tuple[str, dict[str, Any]]], out: Path) -> dict[str, set[str]]:
    broken = out / "folder"
    shutil.copytree(folder, broken)
    ends = {}
    for name, config in every:
        (broken / "config.json").write_text(json.dumps(config))
        print(name)  # the last one printed is the one that failed
        ends[name] = read(broken, out)
    return ends


def configs(folders: tuple[Path, Path]) -> list[tuple[Path, list[tuple[str, dict[str, Any]]]]]:
    plain, fp8 = (json.loads((folder / "config.json").read_text()) for folder in folders)
    return [(folders[0], variants(plain)), (folders[1], variants(fp8))]


def test_a_sample_of_broken_folders_is_read_or_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    for number, (folder, every) in enumerate(configs(folders)):
        out = tmp_path / str(number)
        out.mkdir()
        ends = read_each(folder, every[::FAST], out)
        assert any("refused" in end for end in ends.values())


@pytest.mark.slow
def test_every_broken_folder_is_read_or_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    for number, (folder, every) in enumerate(configs(folders)):
        assert len(every) > 100 * SLOW
        out = tmp_path / str(number)
        out.mkdir()
        read_each(folder, every[::SLOW], out)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("n_expert", 10**9), ("n_layer", 10**9), ("d_model", 10**9), ("codebook_sizes", [10**9, 5, 6])),
        *(("n_expert", 60_000), ("n_layer", 1000), ("d_ff", 2**20), ("n_shared", 60_000), ("l_kv", 3), ("g_kv", 1)),
        *(("embed_dim", 9), ("recency_buckets", 9), ("s_kv", 1), ("user_fields", []), ("n_dense", 3)),
    ],
)
def test_a_claim_that_the_tensors_do_not_keep(folders: tuple[Path, Path], tmp_path: Path, key: str, value: Any) -> None:
    folder = shutil.copytree(folders[0], tmp_path / "folder")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, key: value}))
    assert read(folder, tmp_path) == {"refused"}
    with pytest.raises(InputError):
        analyze(folder, tmp_path / "numbers")


@pytest.mark.parametrize(
    "value", [None, [], 3, {}, {"weight_map": None}, {"weight_map": 3}, {"weight_map": {"bos": 3}}]
)
def test_a_broken_index(folders: tuple[Path, Path], tmp_path: Path, value: Any) -> None:
    folder = shutil.copytree(folders[1], tmp_path / "folder")
    (folder / INDEX).write_text(json.dumps(value))
    assert read(folder, tmp_path) == {"refused"}
