"""Another program's checkpoint becomes one of ours: every tensor is planned from the headers, then read one at a time.

`models.name_map` holds the rules. Nothing is read before each tensor of ours is given exactly once, in its shape, and
each foreign tensor is used or dropped.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from octorec.errors import InputError, MismatchError
from octorec.kernels import reference
from octorec.models.families import ContextModule, family_class, maker_of
from octorec.models.hf_folder import Checkpoint
from octorec.models.name_map import NameMap, Rule
from octorec.models.names import disk_tensors
from octorec.models.scales import PLAIN
from octorec.progress import Progress, silent
from octorec.reading import listed

Shape = tuple[int, ...]


class Piece(NamedTuple):
    """A Piece is a part of a foreign tensor: it has a place in the stacked dimensions, and is divided into the tensors
    `names`.
    """

    place: tuple[int, ...]
    names: tuple[str, ...]


class Use(NamedTuple):
    """A Use is what one rule makes of one foreign tensor."""

    foreign: str
    rule: Rule
    pieces: tuple[Piece, ...]


class Plan(NamedTuple):
    """A Plan says what becomes of a foreign checkpoint. shapes: of all tensors of ours, by their names on disk."""

    uses: tuple[Use, ...]
    dropped: tuple[str, ...]
    shapes: Mapping[str, Shape]


def empty(config: Mapping[str, Any], context_module: ContextModule = None) -> nn.Module:
    """Make the model of a config.json's object on the meta device. Raises InputError for a family that is none of ours,
    and for FP8: weights are imported in 16 or 32 bit."""
    family = family_class(config)
    if config.get("quantization_config") is not None:
        allowed = "must be absent: import 16 bit, then `octorec quantize`"
        raise InputError("config.json: quantization_config", config["quantization_config"], allowed)
    with torch.device("meta"):
        return maker_of(config, family.parse(dict(config)), reference, context_module)()


def plan(model: nn.Module, checkpoint: Checkpoint, names: NameMap) -> Plan:
    """Say which tensor of `checkpoint` becomes which of `model`, from headers alone.

    Raises InputError for a checkpoint that is quantized, a rule or pattern that matches nothing, a name that the model
    has not, and MismatchError for a shape that does not fit, a tensor of the model that is given twice or not at all,
    and a foreign one that is left over.
    """
    if checkpoint.quantized is not None:
        allowed = "is quantized: give its 16-bit parent"
        raise InputError(f"checkpoint {checkpoint.path}", checkpoint.quantized, allowed)
    shapes = {name: tuple(tensor.shape) for name, tensor in disk_tensors(model).items()}
    uses = [use for name in checkpoint.names() for use in _uses(name, checkpoint, names.rules, shapes)]
    used = {use.foreign for use in uses}
    dropped = _dropped(checkpoint.names(), used, names)
    known = used.union(dropped)
    _check_rules(checkpoint, uses, names.rules)
    givers = _givers(uses)
    missing = [name for name in shapes if name not in givers]
    left = [name for name in checkpoint.names() if name not in known]
    if missing or left:
        found = f"{len(left)} tensors left over, {len(missing)} of the model not given"
        said = [f"{what}: {listed(some)}" for what, some in (("left over", left), ("not given", missing)) if some]
        rule = "every one must be used or stand under `drop`, and every one of the model be given"
        raise MismatchError(f"{names.path}: {checkpoint.path}", found, "; ".join([*said, rule]))
    return Plan(tuple(uses), dropped, shapes)


def tensors(plan: Plan, checkpoint: Checkpoint, progress: Progress = silent) -> Iterator[tuple[str, Tensor]]:
    """Read the tensors of ours with their names, one foreign tensor at a time. Raises InputError for NaN and Inf."""
    total = sum(checkpoint.headers[use.foreign].nbytes for use in plan.uses)
    read = 0
    for use in plan.uses:
        whole = checkpoint.load(use.foreign)
        narrow = whole.float() if whole.dtype == torch.float64 else whole  # beyond float32's range is Inf there
        if not narrow.isfinite().all():
            where = f"checkpoint {checkpoint.path}: {use.foreign}"
            raise InputError(where, "NaN or infinity", "every weight must be finite in float32")
        for piece in use.pieces:
            values = whole[piece.place].T if use.rule.transpose else whole[piece.place]
            rows = [plan.shapes[name][0] for name in piece.names] if len(piece.names) > 1 else []
            yield from zip(piece.names, values.split(rows) if rows else [values], strict=True)
        read += whole.nbytes
        progress(read, total)


def _uses(name: str, checkpoint: Checkpoint, rules: Iterable[Rule], shapes: Mapping[str, Shape]) -> Iterator[Use]:
    """Yield what each rule that matches a foreign name makes of it; a table may serve two rules, as
    tied embeddings do.
    """
    for rule in rules:
        values = rule.match(name)
        if values is None:
            continue
        if checkpoint.dtype(name) not in PLAIN:
            raise InputError(f"{rule.where}: {name}", checkpoint.dtype(name), f"must be of type {', '.join(PLAIN)}")
        shape, depth = checkpoint.shape(name), len(rule.stack)
        if len(shape) < depth + 2 * rule.transpose:
            needs = f"needs {depth} dimensions for `stack`{' and 2 for `transpose`' if rule.transpose else ''}"
            raise MismatchError(f"{rule.where}: {name}", shape, needs)
        pieces = []
        for index in itertools.product(*map(range, shape[:depth])):
            ours = rule.names({**values, **dict(zip(rule.stack, index, strict=True))})
            _check_shape(rule, name, shape, ours, shapes)
            pieces.append(Piece(index, ours))
        yield Use(name, rule, tuple(pieces))


def _check_shape(rule: Rule, name: str, shape: Shape, ours: tuple[str, ...], shapes: Mapping[str, Shape]) -> None:
    """Raise unless a piece of a foreign tensor of `shape` is, transposed or not, the tensors `ours` over each other."""
    for each in ours:
        if each not in shapes:
            allowed = f"is no tensor of the model, which has {listed(_nearest(each, shapes))}"
            raise InputError(f"{rule.where}: {name}", each, allowed)
    wanted, stacked = [shapes[each] for each in ours], shape[: len(rule.stack)]
    whole = wanted[0]
    if len(ours) > 1:
        if any(not each or each[1:] != whole[1:] for each in wanted):
            raise MismatchError(f"{rule.where}: to", ours, f"their shapes are {wanted}: all but the rows must be equal")
        whole = (sum(each[0] for each in wanted), *whole[1:])
    needed = (*stacked, *(whole[::-1] if rule.transpose else whole))
    if shape != needed:
        raise MismatchError(f"{rule.where}: {name}", shape, f"must be {needed} to become {listed(list(ours))}")


def _nearest(name: str, shapes: Mapping[str, Shape]) -> list[str]:
    """Return names of the model that begin as `name` does, as far as any of them does."""
    while name and not any(each.startswith(name) for each in shapes):
        name = name[:-1]
    return [each for each in shapes if each.startswith(name)]


def _dropped(names: list[str], used: set[str], rules: NameMap) -> tuple[str, ...]:
    """Return the foreign tensors that are left out.

    Raises InputError for a pattern that has none, or one that is used.
    """
    dropped: dict[str, None] = {}
    for pattern in rules.drop:
        found = [name for name in names if fnmatchcase(name, pattern)]
        if not found:
            raise InputError(f"{rules.path}: drop", pattern, "matches no tensor of the checkpoint")
        for name in found:
            if name in used:
                raise InputError(f"{rules.path}: drop", pattern, f"leaves out {name}, which a rule uses")
        dropped.update(dict.fromkeys(found))
    return tuple(dropped)


def _check_rules(checkpoint: Checkpoint, uses: Iterable[Use], rules: Iterable[Rule]) -> None:
    """Refuse a rule that matches nothing: it is a slip of the pen, or of a map for another checkpoint."""
    needed = {use.rule.where for use in uses}
    for rule in rules:
        if rule.where not in needed:
            some = listed(checkpoint.names(), 3)
            raise InputError(f"{rule.where}: from", rule.source, f"matches no tensor of a checkpoint with {some}")


def _givers(uses: Iterable[Use]) -> dict[str, Use]:
    """Return the use that gives each tensor of ours. Raises MismatchError where there are two."""
    givers: dict[str, Use] = {}
    for use in uses:
        for name in itertools.chain.from_iterable(piece.names for piece in use.pieces):
            if name in givers:
                before = f"{givers[name].foreign} ({givers[name].rule.where}) becomes it too"
                raise MismatchError(f"{use.rule.where}: {use.foreign}", name, before)
            givers[name] = use
    return givers
