"""Compare a model's activations with those that another program saved of the same inputs, and tell from where on they
differ.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from octorec.errors import InputError, MismatchError
from octorec.models.hf_folder import open_shard
from octorec.models.model import Model
from octorec.models.scales import PLAIN
from octorec.numerics.fidelity import sqnr
from octorec.numerics.parity_limit import LEAST_DB
from octorec.reading import listed

INPUTS, CODES, ACTIVATIONS, LOGITS = "inputs.", "codes", "activations.", "logits."


@dataclass(frozen=True)
class ComparedTensor:
    """A ComparedTensor is one saved tensor beside ours.

    sqnr_db: inf where they are equal, -inf where one is not finite.
    largest: of all differences, in the unit of the tensor.
    """

    name: str
    sqnr_db: float
    largest: float


@dataclass(frozen=True)
class Parity:
    """A Parity is all that was compared, in the order in which the model computes it. least_db: what each must have."""

    compared: tuple[ComparedTensor, ...]
    least_db: float

    @property
    def first(self) -> ComparedTensor | None:
        """Return the first that is below the limit: where the difference begins."""
        return next((each for each in self.compared if not each.sqnr_db >= self.least_db), None)

    @property
    def exit_code(self) -> int:
        """Return 0, or 3 where something is below the limit."""
        return 0 if self.first is None else 3

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON, in which what is infinite becomes null."""
        rows = [{"name": each.name, "sqnr_db": each.sqnr_db, "largest": each.largest} for each in self.compared]
        return {"least_db": self.least_db, "first_below": self.first and self.first.name, "compared": rows}


class SavedActivations:
    """SavedActivations are read by name from one safetensors file, and checked against a model as far as can be told
    without running it.

    Raises InputError for a name that is of none of the four kinds or of no module, a type that is not read, and a file
    without inputs, codes or anything to compare; MismatchError for a shape.
    """

    def __init__(self, path: Path, model: Model):
        assert isinstance(model, nn.Module)
        self.path = path
        try:
            self._file, self._headers = open_shard(path)
        except InputError as error:
            raise InputError("parity", str(path), error.allowed) from error
        names = list(self._headers)
        modules = {f"{ACTIVATIONS}{name}" for name, _ in model.named_modules() if name}
        scores = {f"{LOGITS}{step}" for step in range(len(model.steps))}
        known = {*(f"{INPUTS}{name}" for name in model.inputs(1)), CODES, *modules, *scores}
        for name in names:
            if name not in known:
                kind = next((kind for kind in (ACTIVATIONS, INPUTS, LOGITS) if name.startswith(kind)), "")
                some = listed(sorted(each for each in known if each.startswith(kind)))
                raise InputError(f"{path}", name, f"is no name of this model's; known: {some}")
        self.expected = [name for name in names if name in modules or name in scores]
        if not self.expected:
            raise InputError(f"{path}", names, f"holds nothing to compare: no {ACTIVATIONS}* and no {LOGITS}*")
        for name in self.expected:
            if self._headers[name].dtype not in PLAIN:
                raise InputError(f"{path}: {name}", self._headers[name].dtype, f"must be of type {', '.join(PLAIN)}")
        self.codes = self._codes(model)
        self.inputs = self._inputs(model)

    def load(self, name: str) -> Tensor:
        """Read one tensor."""
        tensor: Tensor = self._file.get_tensor(name)
        return tensor

    def _codes(self, model: Model) -> Tensor:
        codes = self._tensor(CODES, torch.int64)  # [B, L]
        sizes = torch.tensor(model.codebook_sizes)
        if codes.dim() != 2 or codes.shape[1] != len(sizes) or not len(codes):
            raise MismatchError(f"{self.path}: {CODES}", tuple(codes.shape), f"must be [B, {len(sizes)}], B 1 or more")
        if (codes < 0).any() or (codes >= sizes).any():
            allowed = f"must be from 0 to below {model.codebook_sizes}"
            raise InputError(f"{self.path}: {CODES}", codes.flatten().tolist(), allowed)
        return codes

    def _inputs(self, model: Model) -> dict[str, Tensor]:
        found = {name: self._tensor(f"{INPUTS}{name}", spec.dtype) for name, spec in model.inputs(1).items()}
        longest = _longest(found, model)
        for name, spec in model.inputs(longest).items():
            wanted = (len(self.codes), *spec.shape)
            if tuple(found[name].shape) != wanted:
                allowed = f"must be {wanted}, as `codes` has {len(self.codes)} rows and histories {longest} items"
                raise MismatchError(f"{self.path}: {INPUTS}{name}", tuple(found[name].shape), allowed)
        return found

    def _tensor(self, name: str, dtype: torch.dtype) -> Tensor:
        if name not in self._headers:
            raise InputError(f"{self.path}: {name}", None, f"is required, of type {_said(dtype)}")
        tensor = self.load(name)
        if tensor.dtype != dtype:
            raise InputError(f"{self.path}: {name}", _said(tensor.dtype), f"must be of type {_said(dtype)}")
        return tensor


@torch.inference_mode()
def parity_of(model: Model, saved: SavedActivations, least_db: float = LEAST_DB) -> Parity:
    """Run `model` on the saved inputs, given the saved codes, and compare what it computes.

    model: in float32 on the CPU. Raises InputError for a module that the run does not call, MismatchError for a shape.
    """
    found = _run(model, saved)
    for name in saved.expected:
        if name not in found:
            called = listed([each for each in found if each.startswith(ACTIVATIONS)])
            allowed = f"this module is not called on its own, or gives no tensor; those that are: {called}"
            raise InputError(f"{saved.path}", name, allowed)
    wanted = set(saved.expected)
    return Parity(tuple(_compare(saved, name, values) for name, values in found.items() if name in wanted), least_db)


def _run(model: Model, saved: SavedActivations) -> dict[str, Tensor]:
    """Return the outputs of all modules that a run calls, in the order in which they end, then the logits of each step.

    The outputs of one that is called several times are concatenated along their first dimension.
    """
    assert isinstance(model, nn.Module)
    outputs: dict[str, list[Tensor]] = defaultdict(list)

    def keep(name: str) -> Callable[..., None]:
        wanted = name in saved.expected

        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                outputs[name].append(output.clone() if wanted else output.new_empty(0))

        return hook

    hooks = [each.register_forward_hook(keep(f"{ACTIVATIONS}{name}")) for name, each in model.named_modules() if name]
    try:
        logits = model.forced(saved.inputs, saved.codes)
    except (IndexError, RuntimeError) as error:
        raise InputError(f"{saved.path}: inputs", str(error), "the model cannot read these inputs") from error
    finally:
        for hook in hooks:
            hook.remove()
    found = {name: torch.cat(parts) for name, parts in outputs.items()}
    return {**found, **{f"{LOGITS}{step}": each.values for step, each in enumerate(logits)}}


def _compare(saved: SavedActivations, name: str, ours: Tensor) -> ComparedTensor:
    """Compare a saved tensor, which may divide the dimensions before the last in another way, as [B, L,
    C] does [B*L, C].
    """
    exact = saved.load(name)
    if exact.numel() != ours.numel() or exact.shape[-1:] != ours.shape[-1:]:
        allowed = f"must be {tuple(ours.shape)}, or the same with its first dimensions divided otherwise"
        raise MismatchError(f"{saved.path}: {name}", tuple(exact.shape), allowed)
    exact, ours = exact.double().reshape(-1), ours.double().reshape(-1)
    largest = float((ours - exact).abs().max()) if len(ours) else 0.0
    return ComparedTensor(name, sqnr(exact, ours), largest if math.isfinite(largest) else math.inf)


def _longest(inputs: Mapping[str, Tensor], model: Model) -> int:
    """Return the length of histories, from the first input whose shape depends on it."""
    one, two = model.inputs(1), model.inputs(2)
    for name, tensor in inputs.items():
        for place, (short, long) in enumerate(zip(one[name].shape, two[name].shape, strict=True), 1):
            if short != long and tensor.dim() > place:
                return max(1, min(tensor.shape[place], model.max_history))
    return 1


def _said(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
