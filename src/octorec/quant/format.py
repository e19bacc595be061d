"""Recipes are written in the form of compressed-tensors: `quantization_config` of a checkpoint's `config.json`.

There a target is a name, or `re:` and an expression that must match from a name's beginning, or a class of modules.
Groups have no order, so a later group's target excludes what an earlier group took. `quant.fp8_format` is another form
that is read.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from octorec.errors import InputError
from octorec.kernels.fp8 import GROUP
from octorec.quant import fp8_format
from octorec.quant.fp8_format import PRODUCTS, WHERE
from octorec.quant.patterns import from_beginning, matching, named, parts, plain_name
from octorec.quant.recipe import Group, Recipe

METHOD, FORMAT = "compressed-tensors", "float-quantized"
FORMATS = (FORMAT, "naive-quantized")  # names of one way to store FP8
MIXED = "mixed-precision"  # each group says its own
CLASSES = {"Linear": PRODUCTS}  # torch class -> pattern of its modules


def to_quantization_config(recipe: Recipe, matrices: list[str]) -> dict[str, Any]:
    """Return what `config.json` says after `recipe` was applied to `matrices`; every matrix left alone
    is under `ignore`.
    """
    assigned = recipe.assign(matrices)
    groups: dict[str, Any] = {}
    for index, group in enumerate(recipe.groups):
        if group not in assigned.values():
            continue
        groups[f"group_{len(groups)}"] = {
            "targets": _targets(group, recipe.groups[:index], assigned),
            "weights": _weights(group),
            "input_activations": _activations(group),
            "output_activations": None,
            "format": FORMAT,
        }
    ignored = matching(recipe.ignore, matrices)
    left = [module for module in matrices if module not in assigned and module not in ignored]
    return {
        "quant_method": METHOD,
        "format": FORMAT,
        "quantization_status": "compressed",
        "recipe": recipe.name,
        "config_groups": groups,
        "ignore": [_whole(pattern) for pattern in recipe.ignore] + left,
    }


def from_quantization_config(raw: Any, modules: Iterable[str] = ()) -> Recipe:
    """Read it back, or that of another writer; an InputError for what OctoRec's FP8 modules cannot do.

    modules: names of the checkpoint's, so that parts of names under `ignore` are understood.
    """
    methods = f"{METHOD} or {fp8_format.METHOD}"
    if not isinstance(raw, dict):
        raise InputError(WHERE, raw, f"must be an object with quant_method {methods}")
    method = raw.get("quant_method")
    _require(method in (METHOD, fp8_format.METHOD), "quant_method", method, methods)
    _require(not raw.get("kv_cache_scheme"), "kv_cache_scheme", raw.get("kv_cache_scheme"), "null: keys stay in 16 bit")
    if method == fp8_format.METHOD:
        weights, activations, names = fp8_format.read(raw)
        groups: tuple[Group, ...] = (Group((PRODUCTS,), weights, activations),)
        left = _patterns("modules_to_not_convert", names)
    else:
        groups, names = _read_groups(raw), raw.get("ignore") or []
        left = _patterns("ignore", raw.get("ignore"))
    name = raw.get("recipe")
    name = name if isinstance(name, str) and name else "of the checkpoint"
    left += tuple(map(re.escape, named((each for each in names if not each.startswith("re:")), modules)))
    return Recipe(name, groups, left)


def _read_groups(raw: dict[str, Any]) -> tuple[Group, ...]:
    """Return the groups of compressed-tensors' object. Each may say its format, for all that do not."""
    kind = raw.get("format")
    _require(kind in (None, MIXED, *FORMATS), "format", kind, f"{', '.join(FORMATS)}, {MIXED} or null")
    groups = raw.get("config_groups")
    _require(isinstance(groups, dict) and bool(groups), "config_groups", groups, "at least one group")
    assert isinstance(groups, dict)
    parsed = tuple(_read_group(f"config_groups.{name}", group) for name, group in groups.items())
    for key in ("sparsity_config", "transform_config"):
        _require(not raw.get(key), key, raw.get(key), "null: weights are read as they lie there")
    return parsed


def _weights(group: Group) -> dict[str, Any]:
    args = {"num_bits": 8, "type": "float", "strategy": group.weights, "symmetric": True, "dynamic": False}
    return {**args, "block_structure": [GROUP, GROUP]} if group.weights == "block" else args


def _activations(group: Group) -> dict[str, Any]:
    args = {"num_bits": 8, "type": "float", "strategy": group.activations, "symmetric": True, "dynamic": True}
    return {**args, "group_size": GROUP} if group.activations == "group" else args


def _targets(group: Group, earlier: tuple[Group, ...], assigned: dict[str, Group]) -> list[str]:
    """Return the group's targets for a reader without precedence."""
    theirs = [module for module, its in assigned.items() if its in earlier]
    contested = bool(matching(group.targets, theirs))
    if not contested:
        return [_whole(target) for target in group.targets]
    before = [target for other in earlier for target in other.targets]
    looking = [target for target in before if parts(target)[0]]
    if looking:
        allowed = "must not begin with (?!...), for a later group has names of it: put what it leaves out into a group"
        raise InputError("recipe: targets", looking[0], allowed)
    return [_whole(target, before) for target in group.targets]


def _whole(pattern: str, before: Sequence[str] = ()) -> str:
    """Return a target for a whole name that `pattern` matches and none of `before` does."""
    name = plain_name(pattern)
    if name is not None and not before and name not in CLASSES and not name.startswith("re:"):
        return name
    refused, body = parts(pattern)
    leading = [f"(?:{other})$" for other in before] + refused
    whole = f"{''.join(f'(?!{each})' for each in leading)}(?:{body})$"
    try:
        re.compile(whole)
    except re.error as error:
        allowed = f"must be an expression of Python too, whose programs read config.json ({error})"
        raise InputError("recipe: pattern", pattern, allowed) from None
    return f"re:{whole}"


def _read_group(where: str, raw: Any) -> Group:
    _require(isinstance(raw, dict), where, raw, "an object with targets, weights and input_activations")
    weights = _checked(f"{where}.weights", raw.get("weights"), dynamic=False)
    activations = _checked(f"{where}.input_activations", raw.get("input_activations"), dynamic=True)
    kind, output = raw.get("format"), raw.get("output_activations")
    _require(kind in (None, *FORMATS), f"{where}.format", kind, f"{', '.join(FORMATS)} or null")
    _require(output is None, f"{where}.output_activations", output, "null: results of products stay in 16 bit")
    if weights["strategy"] == "block":
        structure = weights.get("block_structure")
        _require(structure == [GROUP, GROUP], f"{where}.weights.block_structure", structure, str([GROUP, GROUP]))
    if activations["strategy"] == "group":
        size = activations.get("group_size")
        _require(size == GROUP, f"{where}.input_activations.group_size", size, str(GROUP))
    return Group(_patterns(f"{where}.targets", raw.get("targets")), weights["strategy"], activations["strategy"])


def _patterns(where: str, targets: Any) -> tuple[str, ...]:
    """Return patterns for whole names, from compressed-tensors' list: expressions for a name's
    beginning, names, classes.
    """
    targets = [] if targets is None else targets
    fits = isinstance(targets, list) and all(isinstance(target, str) for target in targets)
    _require(fits, where, targets, "a list of names, of expressions that begin with re:, or of Linear")
    return tuple(_pattern(target) for target in targets)


def _pattern(target: str) -> str:
    if target.startswith("re:"):
        return from_beginning(target.removeprefix("re:"))
    return CLASSES.get(target) or re.escape(target)


def _checked(where: str, args: Any, dynamic: bool) -> dict[str, Any]:
    """Return `args`, which must be symmetric E4M3 with scales stored (weights) or made at run time (activations)."""
    _require(isinstance(args, dict), where, args, "FP8 weights with FP8 activations")
    # defaults of compressed-tensors
    defaults = {"num_bits": 8, "type": "int", "strategy": "tensor", "symmetric": True, "dynamic": False}
    # null is as good as absent
    found = {**defaults, **{key: value for key, value in args.items() if value is not None or key not in defaults}}
    why = "; one scale for all rows, stored beforehand, is not computed" if dynamic else ""
    for key, value in {"num_bits": 8, "type": "float", "symmetric": True, "dynamic": dynamic}.items():
        _require(found[key] == value, f"{where}.{key}", found[key], f"{value}{why if key == 'dynamic' else ''}")
    return found


def _require(condition: bool, field: str, value: Any, allowed: str) -> None:
    if not condition:
        raise InputError(f"{WHERE}.{field}", value, f"allowed: {allowed}")
