"""Every way in which a folder can disagree with itself or lead out of itself, for every verb that reads it."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from octorec.errors import InputError
from octorec.models.checkpoint_folder import INDEX
from octorec.models.hf_folder import Checkpoint, write_config, write_tensors
from octorec.numerics.checkpoint_files import CheckpointFiles
from octorec.quant.convert import quantize_checkpoint
from octorec.quant.load import DequantizedCheckpoint, load_dequantized, load_model
from octorec.report.analysis import analyze

NAMES = ("a.weight", "b.weight", "c.weight")
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
READERS: dict[str, Callable[[Path, Path], object]] = {
    "load": lambda folder, out: load_model(folder),
    "dequantize": lambda folder, out: load_dequantized(folder),
    "quantize": lambda folder, out: quantize_checkpoint(folder, out, "fp8-channel"),
    "analyze": analyze,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two shards and their index: a and b in the first, c in the second."""
    folder = tmp_path / "in"
    folder.mkdir()
    write_tensors(folder, ((name, torch.full((4, 4), float(i))) for i, name in enumerate(NAMES)), 150)
    write_config(folder, {"model_type": "onerec_v2", "d_model": 8, "n_layer": 1, "n_head": 1, "embed_dim": 8})
    return folder


def index_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / INDEX).read_text())["weight_map"]


def set_index(folder: Path, weight_map: object) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


def test_names_shapes_and_types_come_from_the_headers(folder: Path) -> None:
    found = Checkpoint(folder)
    assert found.names() == found.weights() == list(NAMES)
    assert [(found.shape(name), found.dtype(name)) for name in NAMES] == [((4, 4), "F32")] * 3
    assert sum(header.nbytes for header in found.headers.values()) == 3 * 64
    assert torch.equal(found.load("c.weight"), torch.full((4, 4), 2.0))
    assert found.quantized is None


def stale_copy(folder: Path) -> None:
    save_file({"c.weight": torch.ones(4, 4), "a.weight": torch.ones(4, 4)}, folder / SECOND)


def unnamed_tensor(folder: Path) -> None:
    save_file({"c.weight": torch.ones(4, 4), "d.weight": torch.ones(4, 4)}, folder / SECOND)


def promise_not_kept(folder: Path) -> None:
    set_index(folder, {**index_of(folder), "d.weight": FIRST})


def promise_of_a_missing_file(folder: Path) -> None:
    set_index(folder, {**index_of(folder), "d.weight": "model-00003-of-00003.safetensors"})


def stray_shard(folder: Path) -> None:
    save_file({"d.weight": torch.ones(4, 4)}, folder / "stray.safetensors")


def no_map(folder: Path) -> None:
    (folder / INDEX).write_text('{"metadata": {}}')


def two_files_without_an_index(folder: Path) -> None:
    (folder / INDEX).unlink()
    stale_copy(folder)


def directory(folder: Path) -> None:
    (folder / SECOND).unlink()
    (folder / SECOND).mkdir()


def pipe(folder: Path) -> None:
    (folder / SECOND).unlink()
    os.mkfifo(folder / SECOND)


def pipe_as_index(folder: Path) -> None:
    (folder / INDEX).unlink()
    os.mkfifo(folder / INDEX)


def pipe_as_config(folder: Path) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")


def link_out(folder: Path) -> None:
    (folder / SECOND).rename(folder.parent / "elsewhere.safetensors")
    (folder / SECOND).symlink_to(folder.parent / "elsewhere.safetensors")


def config_link_out(folder: Path) -> None:
    (folder / "config.json").rename(folder.parent / "secret.json")
    (folder / "config.json").symlink_to(folder.parent / "secret.json")


def circle(folder: Path) -> None:
    (folder / SECOND).unlink()
    (folder / SECOND).symlink_to(SECOND)


def truncated(folder: Path) -> None:
    (folder / SECOND).write_bytes((folder / SECOND).read_bytes()[:-1])


def bytes_behind_the_end(folder: Path) -> None:
    (folder / SECOND).write_bytes((folder / SECOND).read_bytes() + b"x")


def empty(folder: Path) -> None:
    (folder / SECOND).write_bytes(b"")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (stale_copy, "a.weight"),
        (unnamed_tensor, "d.weight"),
        (promise_not_kept, "d.weight"),
        (promise_of_a_missing_file, "model-00003-of-00003"),
        (stray_shard, "stray.safetensors"),
        (no_map, "weight_map"),
        (two_files_without_an_index, "a.weight"),
        (directory, SECOND),
        (pipe, SECOND),
        (pipe_as_index, INDEX),
        (pipe_as_config, "config.json"),
        (link_out, SECOND),
        (config_link_out, "config.json"),
        (circle, SECOND),
        (truncated, SECOND),
        (bytes_behind_the_end, SECOND),
        (empty, SECOND),
    ],
)
def test_every_reader_refuses_by_name_and_writes_nothing(
    folder: Path, tmp_path: Path, reader: str, harm: Callable[[Path], None], named: str
) -> None:
    harm(folder)
    beside = sorted(tmp_path.iterdir())
    with pytest.raises(InputError) as error:
        READERS[reader](folder, tmp_path / "out")
    assert named in str(error.value)
    assert len(str(error.value)) < 500
    assert sorted(tmp_path.iterdir()) == beside


@pytest.mark.parametrize(
    "shard",
    ["../elsewhere.safetensors", "/tmp/x.safetensors", "sub/x.safetensors", "..", "", "x", None, 3, ["x"], {"a": 1}],
)
def test_a_shard_is_a_plain_file_name(folder: Path, shard: object) -> None:
    save_file({"c.weight": torch.ones(4, 4)}, folder.parent / "elsewhere.safetensors")
    set_index(folder, {**index_of(folder), "c.weight": shard})
    with pytest.raises(InputError, match=r"weight_map: got .*c\.weight must be in a \.safetensors file of the same"):
        Checkpoint(folder)


@pytest.mark.parametrize("weight_map", [[], None, "x", {}])
def test_a_map_that_is_none(folder: Path, weight_map: object) -> None:
    set_index(folder, weight_map)
    with pytest.raises(InputError, match="has no weight_map"):
        Checkpoint(folder)


def test_links_inside_the_folder_and_into_the_hugging_face_cache_are_read(folder: Path) -> None:
    (folder / SECOND).rename(folder / "data")
    (folder / SECOND).symlink_to("data")
    assert Checkpoint(folder).names() == list(NAMES)
    cache = folder.parent / "models--x--y"
    snapshot = cache / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (cache / "blobs").mkdir()
    for path in sorted(folder.iterdir()):
        blob = cache / "blobs" / f"hash-of-{path.name}"
        blob.write_bytes(path.read_bytes())
        if path.name != "data":
            (snapshot / path.name).symlink_to(f"../../blobs/{blob.name}")
    assert Checkpoint(snapshot).names() == list(NAMES)
    (cache / "blobs").rename(cache / "others")
    (cache / "blobs").symlink_to("others")
    with pytest.raises(InputError, match="must be a regular file of its folder"):
        Checkpoint(snapshot)


def header(entries: str, data: int = 16) -> bytes:
    raw = entries.encode()
    return struct.pack("<Q", len(raw)) + raw + bytes(data)


@pytest.mark.parametrize(
    "content",
    [
        header('{"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 32]}}'),
        header('{"a": {"dtype": "F32", "shape": [8], "data_offsets": [0, 16]}}'),
        header('{"a": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}}'),
        header('{"a": {"dtype": "F32", "shape": [4611686018427387904, 4], "data_offsets": [0, 16]}}'),
        header('{"a": {"dtype": "F7", "shape": [4], "data_offsets": [0, 16]}}'),
        header('{"a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}}'),
        header(
            '{"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}, '
            '"b": {"dtype": "F32", "shape": [4], "data_offsets": [8, 24]}}',
            24,
        ),
        header(
            '{"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}, '
            '"a": {"dtype": "I32", "shape": [4], "data_offsets": [0, 16]}}'
        ),
        header('{"a": 3}'),
        header('{"a": {"dtype": "F32"}}'),
        header("[1]"),
        header("{" + '"a": {' * 100_000),
        header('{"a": "\\ud800"}'),
        struct.pack("<Q", 2**63) + bytes(16),
        struct.pack("<Q", 10**12) + bytes(16),
        b"PK\x03\x04" + bytes(100),
    ],
)
def test_a_false_header_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.safetensors") as error:
        CheckpointFiles(tmp_path)
    assert len(str(error.value)) < 800


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"\xef\xbb\xbf{}", "BOM"),
        ("{}".encode("utf-16"), "utf-8"),
        (b'{"a": "\xe9"}', "utf-8"),
        (b'{"a": 1, "b": 2, "a": 3}', "'a' stands twice"),
        (b'{"b": {"a": 1, "a": 1}}', "'a' stands twice"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": ' + b"9" * 5000 + b"}", "digits"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"[]", "must hold an object"),
        (b"null", "must hold an object"),
        (b"", "is no JSON"),
        (b" " * (2**25 + 1), "at most"),
        (b'{"a": [' + b"[]," * 1_500_000 + b"[]]}", "objects, lists and keys"),
    ],
)
@pytest.mark.parametrize("name", ["config.json", INDEX])
def test_json_that_is_none(folder: Path, name: str, text: bytes, why: str) -> None:
    (folder / name).write_bytes(text)
    for reader in (Checkpoint, CheckpointFiles):
        with pytest.raises(InputError, match=why) as error:
            reader(folder)
        assert str(folder / name) in str(error.value)
        assert len(str(error.value)) < 600


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_only_config_json_may_hold_what_python_writes_for_no_number(folder: Path, number: str) -> None:
    (folder / "config.json").write_text(f'{{"time_step_limit": {number}}}')
    assert repr(Checkpoint(folder).config["time_step_limit"]) == repr(float(number))
    (folder / INDEX).write_text(f'{{"metadata": {number}, "weight_map": {{}}}}')
    with pytest.raises(InputError, match="is no number of JSON"):
        Checkpoint(folder)


@pytest.mark.parametrize("name", ["a\x1b[2J.weight", "a\n.weight", "a" * 501, "\x85"])
def test_names_that_would_spoil_an_error_or_a_report_are_refused(tmp_path: Path, name: str) -> None:
    save_file({name: torch.ones(2, 2)}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="names are printable and have at most 500 characters") as error:
        CheckpointFiles(tmp_path)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 500
    save_file({"a": torch.ones(2, 2)}, tmp_path / "model.safetensors")
    set_index(tmp_path, {"a": "model.safetensors", name: "model.safetensors"})
    with pytest.raises(InputError, match="names are printable"):
        CheckpointFiles(tmp_path)


def test_a_type_with_control_characters_is_shown_and_not_sent(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(
        header('{"a": {"dtype": "\\u001b[2J", "shape": [4], "data_offsets": [0, 16]}}')
    )
    with pytest.raises(InputError, match="is truncated or no safetensors file") as error:
        CheckpointFiles(tmp_path)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("found", ["fp8", 3, True, []])
def test_a_quantization_config_is_an_object_or_null(folder: Path, found: object) -> None:
    write_config(folder, {"quantization_config": found})
    for reader in (Checkpoint, CheckpointFiles):
        with pytest.raises(InputError, match=r"config\.json: quantization_config: got .*; must be an object or null"):
            reader(folder)


def test_a_file_without_tensors_is_no_checkpoint(tmp_path: Path) -> None:
    save_file({}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="holds no tensor"):
        CheckpointFiles(tmp_path)


@pytest.mark.parametrize("path", ["x" * 5000, "a\0b", "", "nowhere", "/dev/null/x"])
def test_a_path_that_is_none(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for reader in (Checkpoint, DequantizedCheckpoint, CheckpointFiles):
        with pytest.raises(InputError, match=r"^checkpoint: got"):
            reader(path)


def test_null_is_as_absent(folder: Path, tmp_path: Path) -> None:
    for key in ("quantization_config", "compression_config"):
        write_config(folder, {key: None})
        assert CheckpointFiles(folder).quantized is None
        write_config(folder, {key: {"quant_method": "awq"}})
        assert CheckpointFiles(folder).quantized == f"{key} in config.json"


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    tensors = {f"t{i}": torch.randn(3, i + 1) for i in range(5)} | {"empty": torch.zeros(0, 4), "one": torch.ones(())}
    write_config(tmp_path, {})
    write_tensors(tmp_path, tensors.items(), 40)
    found = Checkpoint(tmp_path)
    assert {name: found.shape(name) for name in found.names()} == {n: tuple(t.shape) for n, t in tensors.items()}
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in found.items())
    assert load_file(tmp_path / index_of(tmp_path)["one"])["one"] == 1
