"""A LoRA adapter (PEFT's folder) is merged into its base while that is read, in float32.

W' = W + alpha / r * B A (arXiv 2106.09685). An adapter that PEFT answers with in one way before merging, and in another
way after it, is refused.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from octorec.errors import InputError
from octorec.models.checkpoint_folder import ADAPTER, ADAPTER_CONFIG, CONFIG, is_adapter, require_checkpoint
from octorec.models.hf_folder import EMBEDDING, HEAD, Checkpoint, open_shard
from octorec.models.lora_config import LoraConfig, read_lora_config
from octorec.models.scales import Header

PREFIX = "base_model.model."
TABLES = (EMBEDDING, HEAD)
LOW = {  # how a tensor's name ends -> which matrix of its module it is
    ".lora_A.weight": "a",
    ".lora_B.weight": "b",
    ".lora_embedding_A": "a",
    ".lora_embedding_B": "b",
    ".token_adapter.trainable_tokens_delta": "rows",
    ".token_adapter.base_layer.weight": "whole",
    ".base_layer.weight": "whole",
}
TOKENIZER = "tokenizer.json"
TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
ORIGINAL, SAVED = ".original_module.weight", ".modules_to_save.weight"  # what PEFT writes too of a resized table


@dataclass
class Part:
    """A Part is what an adapter has for one weight: names of its tensors, and which rows `rows` are.

    whole replaces the base's; rows replace some of its rows; a [r, K] and b [N, r] are added as scale * b a, transposed
    for a table of embeddings.
    """

    whole: str | None = None
    rows: str | None = None
    a: str | None = None
    b: str | None = None
    indices: tuple[int, ...] = ()
    scale: float = 0.0


def open_checkpoint(path: str | Path, base: str | Path | None = None) -> Checkpoint:
    """Open a checkpoint's folder, or that of an adapter, which is merged into its base.

    base: the folder of an adapter's base; None for the one that the adapter names, where that is a folder here.
    Raises InputError as `Checkpoint` does, for a base that is not found, and for an adapter that does not fit it.
    """
    if is_adapter(path):
        return LoraCheckpoint(path, base)
    if base is not None:
        raise InputError("base", str(base), f"{path} is no adapter: it has no {ADAPTER_CONFIG}")
    return Checkpoint(path)


class LoraCheckpoint(Checkpoint):
    """A LoraCheckpoint is read as its base with the adapter merged: what was merged comes in float32.

    path: the adapter's folder; folder: the base's.
    """

    def __init__(self, path: str | Path, base: str | Path | None = None):
        require_checkpoint(path)
        adapter = Path(path)
        lora = read_lora_config(adapter)
        super().__init__(_base_folder(adapter, lora, base))
        if self.quantized is not None:
            raise InputError("base", str(self.folder), f"is quantized ({self.quantized}): merge into its 16-bit parent")
        self.path = adapter
        self._adapter, self._tensors = open_shard(adapter / ADAPTER)
        if EMBEDDING not in self.headers:
            raise InputError("base", str(self.folder), f"has no {EMBEDDING}: adapters of language models are merged")
        self._share_equal_head()
        self._leave_out_copies()
        self._parts = _Planner(adapter / ADAPTER, lora, self.headers, self._tied, self._tensors).parts()
        self._types = {name: header.dtype for name, header in self.headers.items()}
        self._take_shapes()

    @property
    def tokenizer_folder(self) -> Path:
        return self.path if os.path.lexists(self.path / TOKENIZER) else self.folder

    def load(self, name: str) -> Tensor:
        part = self._parts.get(name)
        if part is None:
            return super().load(name)
        stored = EMBEDDING if name == HEAD and HEAD not in self._files else name  # a tied head
        weight = (super().load(stored) if part.whole is None else self._tensor(part.whole)).float()
        if part.rows is not None:
            weight = weight.clone()
            weight[list(part.indices)] = self._tensor(part.rows).float()
        if part.a is not None and part.b is not None:
            product = self._tensor(part.b).float() @ self._tensor(part.a).float()
            weight = weight + part.scale * (product.T if ".lora_embedding_" in part.a else product)
        return weight

    def as_stored(self, name: str, tensor: Tensor) -> Tensor:
        """Return a tensor in the base's type: a merged one comes in float32."""
        kind = self._types.get(name, self._types[EMBEDDING])
        return tensor.to(TYPES[kind]) if name in self._parts and kind in TYPES else tensor

    @property
    def _tied(self) -> bool:
        return self.config.get("tie_word_embeddings") is True and HEAD not in self.headers

    def _share_equal_head(self) -> None:
        """Leave out a stored head that is the tied embedding: transformers ties these, and PEFT finds them tied."""
        both = self.config.get("tie_word_embeddings") is True and all(name in self.headers for name in TABLES)
        if both and torch.equal(super().load(HEAD), super().load(EMBEDDING)):
            del self.headers[HEAD], self._files[HEAD]

    def _leave_out_copies(self) -> None:
        """Leave out what PEFT writes beside a table that new tokens resized: as it was before training, and the same
        values under a second name, that of its wrapper or of a tied head.
        """
        for name in list(self._tensors):
            second = name.removesuffix(SAVED) + ".weight" if name.endswith(SAVED) else name
            if self._tied and name.startswith(f"{PREFIX}lm_head.token_adapter."):
                second = name.replace("lm_head", "model.embed_tokens", 1)
            copied = second != name and second in self._tensors
            if name.endswith(ORIGINAL) or (copied and torch.equal(self._tensor(name), self._tensor(second))):
                del self._tensors[name]

    def _take_shapes(self) -> None:
        """Give merged tensors their type and shape; a head of its own where the adapter unties it."""
        base = self.headers[EMBEDDING]
        own = self._parts.get(EMBEDDING, Part())
        if self._tied and own.whole is not None and own.rows is None:  # a head stays tied to trained rows
            self._parts.setdefault(HEAD, Part())
        for name, part in self._parts.items():
            shape = (self._tensors[part.whole] if part.whole else self.headers.get(name, base)).shape
            self.headers[name] = Header("F32", shape, 4 * math.prod(shape))
        self.config = {**self.config, "vocab_size": self.headers[EMBEDDING].shape[0]}
        if HEAD in self._parts:
            self.config["tie_word_embeddings"] = False

    def _tensor(self, name: str) -> Tensor:
        found: Tensor = self._adapter.get_tensor(name)
        return found


class _Planner:
    """A _Planner finds the weight that each tensor of an adapter belongs to, and refuses those that fit none."""

    def __init__(self, file: Path, lora: LoraConfig, base: dict[str, Header], tied: bool, tensors: dict[str, Header]):
        self.file, self.lora, self.base, self.tied, self.tensors = file, lora, base, tied, tensors

    def parts(self) -> dict[str, Part]:
        found: dict[str, Part] = {}
        for name in self.tensors:
            module, kind = self._place(name)
            part = found.setdefault(f"{module}.weight", Part())
            if getattr(part, kind) is not None:
                raise self._refused(name, getattr(part, kind), "two tensors of the adapter are for one matrix")
            setattr(part, kind, name)
        for weight, part in found.items():
            self._check(weight.removesuffix(".weight"), weight, part)
        for weight, header in self.base.items():
            module = weight.removesuffix(".weight")
            untouched = weight not in found or found[weight].a is None
            matrix = len(header.shape) == 2 and weight.endswith(".weight") and weight not in TABLES
            if untouched and matrix and self.lora.targets is not None and self.lora.is_target(module):
                raise self._refused(
                    f"{PREFIX}{module}.lora_A.weight", "no such tensor", "its config targets the module"
                )
        return found

    def _place(self, name: str) -> tuple[str, str]:
        """Return the module that a tensor is for, and its place in a Part."""
        own = name.removeprefix(PREFIX)
        ending = next((end for end in LOW if own.endswith(end)), ".weight")
        module = own.removesuffix(ending)
        known = f"{module}.weight" in self.base or (f"{module}.weight" == HEAD and self.tied)
        if not name.startswith(PREFIX) or not own.endswith(ending) or not known:
            allowed = (
                f"meets no weight of the base: names are {PREFIX} and a module of the base, then lora_A.weight, ..."
            )
            raise self._refused(name, list(self.tensors[name].shape), allowed)
        return module, LOW.get(ending, "whole")

    def _check(self, module: str, weight: str, part: Part) -> None:
        shape = self.base[EMBEDDING if weight not in self.base else weight].shape
        if part.whole is not None:
            shape = self._check_whole(module, weight, part.whole, shape)
        if part.rows is not None:
            part.indices = self._indices(module, part.rows, shape)
        if part.a is None and part.b is None:
            return
        if self.tied and weight in TABLES:
            allowed = "PEFT gives one answer before merging and another after it, as the base ties its head: train"
            raise self._refused(str(part.a), list(shape), f"{allowed} with modules_to_save or trainable_token_indices")
        if part.a is None or part.b is None:
            raise self._refused(str(part.a or part.b), "half of a product", "both matrices must be there, A and B")
        if not self.lora.is_target(module):
            raise self._refused(part.a, module, f"is no target: {self.lora.where} names target_modules and layers")
        rank, part.scale = self.lora.rank_of(module), self.lora.scale_of(module)
        rows, columns = shape[::-1] if ".lora_embedding_" in part.a else shape
        for name, fitting in ((part.a, (rank, columns)), (part.b, (rows, rank))):
            if self.tensors[name].shape != fitting:
                allowed = f"must have the shape {fitting}: rank {rank} of a weight {tuple(shape)}"
                raise self._refused(name, self.tensors[name].shape, allowed)

    def _check_whole(self, module: str, weight: str, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a weight that is stored whole. Tables may have other rows, as after new tokens."""
        own = self.tensors[name].shape
        if not self.lora.is_saved(module) and weight not in TABLES:
            raise self._refused(name, list(own), "is a whole weight of a module that is not in modules_to_save")
        if own[1:] != shape[1:] or (own[0] != shape[0] and weight not in TABLES):
            raise self._refused(name, own, f"must have the base's shape {tuple(shape)}")
        return own

    def _indices(self, module: str, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        indices = self.lora.tokens.get(module.rpartition(".")[2], self.lora.tokens.get(module, ()))
        if self.tensors[name].shape != (len(indices), *shape[1:]) or any(index >= shape[0] for index in indices):
            allowed = f"must be the rows of {len(indices)} trainable_token_indices, each below {shape[0]}"
            raise self._refused(name, self.tensors[name].shape, allowed)
        return indices

    def _refused(self, name: str, value: Any, allowed: str) -> InputError:
        return InputError(f"adapter {self.file}: {name}", value, allowed)


def _base_folder(adapter: Path, lora: LoraConfig, base: str | Path | None) -> Path:
    """Return the folder of the base: the one given, or the one that the adapter names."""
    if base is not None:
        require_checkpoint(base, "base")
        if is_adapter(base):
            raise InputError("base", str(base), "must be a whole checkpoint, and is an adapter itself")
        return Path(base)
    if lora.base is not None and os.path.isfile(Path(lora.base, CONFIG)):
        return _base_folder(adapter, lora, lora.base)
    allowed = "is no folder here: give the base's (in Python base=, on the command line --base)"
    raise InputError(f"{lora.where}: base_model_name_or_path", lora.base, allowed)
