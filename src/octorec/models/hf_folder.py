"""Checkpoint folders are read and written in Hugging Face's form: `config.json`, safetensors shards and their index.

This is the only reader and writer of such folders. The index is the truth: a tensor comes from the file that the index
names, and a folder that disagrees with its index is refused. Names, shapes and types come from the headers, so that
nothing is read before it is known to be there; contents are memory-mapped. Nothing is unpickled.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from octorec.errors import InputError, shown
from octorec.files import is_own_file, parse_json, read_json
from octorec.kernels.fp8 import Granularity
from octorec.models.checkpoint_folder import CONFIG, INDEX, SUFFIX, require_checkpoint, write_version
from octorec.models.scales import Header, check_block_sizes, checked_scale, forms, granularity

SHARD_BYTES = 10**9
INDEX_BYTES = 2**25  # the largest index and header that are read: those of 200,000 tensors have half of that
NAME_LENGTH = 500  # of a tensor or a file
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"  # of language models


class Checkpoint:
    """A Checkpoint is open for reading: it knows names, shapes and types at once, and reads tensors one at a time.

    path: a folder with config.json; with `bare` also one without, or a single safetensors file.
    config: the object in config.json, empty where there is none. headers: each tensor's type and shape by its name.
    scales: the scale's name by the name of the 8-bit weight that it multiplies (`models.scales` has the rules).
    activation_scales: names of static scales of activations, which change no weight.
    Raises InputError: nothing there, pickled or broken files, an index that the files beside it do not keep, a form of
    quantization that is not read; MismatchError for a scale whose shape does not fit its weight.
    """

    def __init__(self, path: str | Path, bare: bool = False):
        require_checkpoint(path, bare=bare)
        self.path = Path(path)
        is_folder = self.path.is_dir()
        self.folder = self.path if is_folder else self.path.parent
        config = self.folder / CONFIG
        there = not bare or os.path.lexists(config)
        self.config = read_json(config, "checkpoint", infinite=True) if there else {}
        if not isinstance(self.quantization, dict | None):
            raise InputError(f"{config}: quantization_config", self.quantization, "must be an object or null")
        self.headers: dict[str, Header] = {}
        self._files: dict[str, Any] = {}
        if is_folder and os.path.lexists(self.folder / INDEX):
            self._open_indexed(read_json(self.folder / INDEX, "checkpoint", INDEX_BYTES))
        else:
            for shard in _files_without_index(self.path):
                self._open(shard)
        if not self.headers:
            raise InputError("checkpoint", str(path), "holds no tensor")
        self._take_head_as_embedding()
        found = forms(f"checkpoint {self.path}", self.headers)
        self.scales, self.activation_scales = found.scales, found.activation_scales
        self._weights = {scale: weight for weight, scale in self.scales.items()}
        if self.scales:
            check_block_sizes(self.config)

    @property
    def tokenizer_folder(self) -> Path:
        """Return the folder whose tokenizer belongs to the weights."""
        return self.folder

    @property
    def quantization(self) -> dict[str, Any] | None:
        """Return `quantization_config` of config.json; None where it is null or absent, as in a 16-bit checkpoint."""
        return self.config.get("quantization_config")

    @property
    def quantized(self) -> str | None:
        """Say what shows that the checkpoint is quantized already; None for a 16-bit checkpoint."""
        for key in ("quantization_config", "compression_config"):
            if self.config.get(key) is not None:
                return f"{key} in config.json"
        for name, scale in self.scales.items():
            return f"{name} in {self.headers[name].dtype} with {scale}"
        return next((f"the scale {name}" for name in sorted(self.activation_scales)), None)

    def names(self) -> list[str]:
        """Return the names of all tensors on disk, scales among them."""
        return list(self.headers)

    def weights(self) -> list[str]:
        """Return the names of all tensors but the scales of 8-bit weights."""
        return [name for name in self.headers if name not in self._weights]

    def shape(self, name: str) -> tuple[int, ...]:
        return self.headers[name].shape

    def dtype(self, name: str) -> str:
        """Return the type of what `load` gives, in the words of safetensors (`BF16`, `F8_E4M3`)."""
        return self.headers[name].dtype

    def load(self, name: str) -> Tensor:
        """Read a tensor as it lies on disk; a scale is checked (`models.scales.checked_scale`)."""
        try:
            tensor = self._files[name].get_tensor(HEAD if name == EMBEDDING and self._head_alone else name)
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"checkpoint {self.path}: {name}", self.headers[name].dtype, f"is not read ({error})"
            ) from error
        if name in self._weights:
            checked_scale(f"checkpoint {self.path}: {name}", tensor, self.headers[self._weights[name]])
        return tensor

    def as_stored(self, name: str, tensor: Tensor) -> Tensor:
        """Return what `load` gave of a tensor, in the type that a copy of the checkpoint keeps it in."""
        return tensor

    def load_scale(self, weight: str) -> tuple[Tensor, Granularity]:
        """Read the scale of an 8-bit weight [N, K] as a float32 matrix, and say which values share one of its numbers.

        The matrix is [1, 1] (tensor), [N, 1] (channel), [ceil(N/128), ceil(K/128)] (block) or [N, ceil(K/128)] (group).
        """
        name = self.scales[weight]
        scale, kind = self.load(name).float(), granularity(name, self.shape(name), self.shape(weight))
        return scale.reshape(-1, 1) if kind in ("tensor", "channel") else scale, kind

    def scale_names(self) -> dict[str, str]:
        """Return the names of the scales of 8-bit weights on disk, by the weight's name and `_scale`."""
        return {f"{weight}_scale": scale for weight, scale in self.scales.items()}

    def items(self) -> Iterator[tuple[str, Tensor]]:
        for name in self.names():
            yield name, self.load(name)

    def _take_head_as_embedding(self) -> None:
        """Name a head the embeddings where a tied model stores it alone: transformers reads it as both."""
        tied = self.config.get("tie_word_embeddings") is True
        self._head_alone = tied and HEAD in self.headers and EMBEDDING not in self.headers
        if self._head_alone:
            for tensors in (self.headers, self._files):
                tensors[EMBEDDING] = tensors.pop(HEAD)

    def _open_indexed(self, index: dict[str, Any]) -> None:
        """Open the files that the index names: they must hold exactly what it says, and no other lies there."""
        path = self.folder / INDEX
        weight_map = index.get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise InputError("checkpoint", str(path), "has no weight_map")
        for name, shard in weight_map.items():
            _check_name(path, name)
            if not _is_file_name(shard):
                allowed = f"{name} must be in a {SUFFIX} file of the same folder, by its plain name"
                raise InputError(f"checkpoint {path}: weight_map", shard, allowed)
        shards = set(weight_map.values())
        for found in sorted(self.folder.glob(f"*{SUFFIX}")):
            if found.name not in shards:
                raise InputError("checkpoint", str(found), f"is not named by {INDEX}: move it out of the folder")
        for shard in sorted(shards):
            self._open(self.folder / shard, weight_map)
        for name, shard in weight_map.items():
            if name not in self.headers:
                allowed = f"{INDEX} says it holds {name}, and it does not: copy the folder again"
                raise InputError("checkpoint", str(self.folder / shard), allowed)

    def _open(self, path: Path, weight_map: dict[str, str] | None = None) -> None:
        """Add the tensors of one file, of which the index, if there is one, must assign every one to this file."""
        handle, headers = open_shard(path)
        for name, header in headers.items():
            _check_name(path, name)
            if weight_map is not None and weight_map.get(name) != path.name:
                there = f"says it is in {weight_map[name]}" if name in weight_map else "does not name it"
                raise InputError("checkpoint", str(path), f"holds {name}, and {INDEX} {there}: copy the folder again")
            if name in self.headers:
                raise InputError("checkpoint", str(path), f"holds {name}, and so does another file beside it")
            self.headers[name], self._files[name] = header, handle


def open_shard(path: Path) -> tuple[Any, dict[str, Header]]:
    """Map one safetensors file into memory and read its header, in the order in which its tensors lie.

    Raises InputError where the file is missing, no regular file of its folder, truncated, or has a false header.
    """
    if not os.path.lexists(path):
        raise InputError("checkpoint", str(path), f"is named by {INDEX} but missing: copy the folder again")
    if not is_own_file(path):
        raise InputError("checkpoint", str(path), "must be a regular file of its folder; no link out of it is followed")
    try:
        handle = safe_open(path, framework="pt")  # checks sizes, types and offsets against the file
        raw = _read_header(path)
    except (SafetensorError, OSError) as error:
        raise InputError("checkpoint", str(path), f"is truncated or no safetensors file ({error})") from error
    raw.pop("__metadata__", None)
    headers = {}
    for name, entry in sorted(raw.items(), key=lambda item: item[1]["data_offsets"]):
        start, end = entry["data_offsets"]
        headers[name] = Header(entry["dtype"], tuple(entry["shape"]), end - start)
    return handle, headers


def _read_header(path: Path) -> dict[str, Any]:
    """Read the header as JSON, for the library takes the last of two entries with one name."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > min(INDEX_BYTES, path.stat().st_size - 8):
            raise OSError(f"its header would have {size:,} bytes")
        return parse_json(file.read(size), "checkpoint", f"{path}: header")


def _check_name(path: Path, name: str) -> None:
    """Refuse a name that is too long or would do something to a terminal: names stand in errors, tables and reports."""
    if len(name) > NAME_LENGTH or not name.isprintable():
        allowed = f"names a tensor {shown(name)}; names are printable and have at most {NAME_LENGTH} characters"
        raise InputError("checkpoint", str(path), allowed)


def _is_file_name(shard: Any) -> bool:
    if not isinstance(shard, str) or not shard.endswith(SUFFIX) or len(shard) > NAME_LENGTH:
        return False
    return not any(character in "/\\" or not character.isprintable() for character in shard)


def _files_without_index(path: Path) -> list[Path]:
    """Return the safetensors files of a folder that has no index, or the one file that `path` is."""
    return sorted(path.glob(f"*{SUFFIX}")) if os.path.isdir(path) else [path.resolve()]


def write_tensors(folder: Path, tensors: Iterable[tuple[str, Tensor]], shard_bytes: int = SHARD_BYTES) -> int:
    """Write `tensors` into shards of at most `shard_bytes` (a larger tensor gets one alone), and their index.

    Holds one shard in memory. The folder should be one that `output.write.new_folder` gave. Returns the tensors' bytes.
    """
    shards: list[list[str]] = []
    pending: dict[str, Tensor] = {}
    total = 0

    def flush() -> None:
        shards.append(list(pending))
        path = folder / _shard_name(len(shards), 0)
        save_file(pending, path, metadata={"format": "pt"})
        path.chmod(0o644)  # safetensors writes files that only their owner reads
        pending.clear()

    for name, tensor in tensors:
        size = tensor.nbytes
        if pending and sum(t.nbytes for t in pending.values()) + size > shard_bytes:
            flush()
        pending[name] = tensor.detach().cpu().contiguous().clone() if tensor._is_view() else tensor.detach().cpu()
        total += size
    flush()
    weight_map = {}
    for number, names in enumerate(shards, 1):
        final = _shard_name(number, len(shards))
        (folder / _shard_name(number, 0)).rename(folder / final)
        weight_map.update(dict.fromkeys(names, final))
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index, indent=1))
    return total


def write_config(folder: Path, config: dict[str, Any], kept: Mapping[str, Any] | None = None) -> None:
    """Write config.json; NaN and Infinity of another program stay what they are (see `files.read_json`).

    The format's version goes into a file beside it, octorec.json, with the other keys that are `kept` there.
    """
    write_version(folder, kept)
    (folder / CONFIG).write_text(json.dumps(config, indent=1))


def _shard_name(number: int, total: int) -> str:
    return f"model-{number:05d}-of-{total:05d}{SUFFIX}"
