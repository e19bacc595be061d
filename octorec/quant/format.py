"""Recipes in the form of compressed-tensors: `quantization_config` of a checkpoint's `config.json`.

There a target is `re:` and an expression that must match from a name's beginning, and groups have no order, so a later
group's target excludes what an earlier group took.
"""

import re
from typing import Any

from octorec.errors import InputError
from octorec.kernels.quantized import GROUP
from octorec.quant.recipe import Group, Recipe, matches

METHOD, FORMAT = "compressed-tensors", "float-quantized"
WHERE = "config.json: quantization_config"


def to_quantization_config(recipe: Recipe, matrices: list[str]) -> dict[str, Any]:
    """What `config.json` says after `recipe` was applied to `matrices`; every matrix left alone is under `ignore`."""
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
    left = [module for module in matrices if module not in assigned and not matches(recipe.ignore, module)]
    return {
        "quant_method": METHOD,
        "format": FORMAT,
        "quantization_status": "compressed",
        "recipe": recipe.name,
        "config_groups": groups,
        "ignore": [f"re:(?:{pattern})$" for pattern in recipe.ignore] + left,
    }


def from_quantization_config(raw: dict[str, Any]) -> Recipe:
    """Read it back; an InputError for what OctoRec's FP8 modules cannot do."""
    _require(raw.get("quant_method") == METHOD, "quant_method", raw.get("quant_method"), METHOD)
    _require(raw.get("format") == FORMAT, "format", raw.get("format"), FORMAT)
    groups = raw.get("config_groups")
    _require(isinstance(groups, dict) and bool(groups), "config_groups", groups, "at least one group")
    assert isinstance(groups, dict)
    parsed = tuple(_read_group(f"config_groups.{name}", group) for name, group in groups.items())
    ignore = tuple(_pattern(target) for target in raw.get("ignore") or ())
    return Recipe(raw.get("recipe", "of the checkpoint"), parsed, ignore)


def _weights(group: Group) -> dict[str, Any]:
    args = {"num_bits": 8, "type": "float", "strategy": group.weights, "symmetric": True, "dynamic": False}
    return {**args, "block_structure": [GROUP, GROUP]} if group.weights == "block" else args


def _activations(group: Group) -> dict[str, Any]:
    args = {"num_bits": 8, "type": "float", "strategy": group.activations, "symmetric": True, "dynamic": True}
    return {**args, "group_size": GROUP} if group.activations == "group" else args


def _targets(group: Group, earlier: tuple[Group, ...], assigned: dict[str, Group]) -> list[str]:
    """The group's targets for a reader without precedence."""
    contested = any(its in earlier and matches(group.targets, module) for module, its in assigned.items())
    not_theirs = "".join(f"(?!(?:{target})$)" for other in earlier for target in other.targets) if contested else ""
    return [f"re:{not_theirs}(?:{target})$" for target in group.targets]


def _pattern(target: str) -> str:
    """An expression for the whole name, from compressed-tensors' expression for its beginning, or its plain name."""
    return f"(?:{target.removeprefix('re:')}).*" if target.startswith("re:") else re.escape(target)


def _read_group(where: str, raw: dict[str, Any]) -> Group:
    weights = _checked(f"{where}.weights", raw.get("weights"), dynamic=False)
    activations = _checked(f"{where}.input_activations", raw.get("input_activations"), dynamic=True)
    if weights["strategy"] == "block":
        structure = weights.get("block_structure")
        _require(structure == [GROUP, GROUP], f"{where}.weights.block_structure", structure, str([GROUP, GROUP]))
    if activations["strategy"] == "group":
        size = activations.get("group_size")
        _require(size == GROUP, f"{where}.input_activations.group_size", size, str(GROUP))
    targets = tuple(_pattern(target) for target in raw.get("targets", ()))
    return Group(targets, weights["strategy"], activations["strategy"])


def _checked(where: str, args: Any, dynamic: bool) -> dict[str, Any]:
    """`args`, which must be symmetric E4M3 with scales stored (weights) or made at run time (activations)."""
    _require(isinstance(args, dict), where, args, "FP8 weights with FP8 activations")
    defaults = {"num_bits": 8, "type": "int", "strategy": "tensor", "symmetric": True, "dynamic": False}  # of theirs
    found = {**defaults, **args}
    for key, value in {"num_bits": 8, "type": "float", "symmetric": True, "dynamic": dynamic}.items():
        _require(found[key] == value, f"{where}.{key}", found[key], str(value))
    return found


def _require(condition: bool, field: str, value: Any, allowed: str) -> None:
    if not condition:
        raise InputError(f"{WHERE}.{field}", value, f"allowed: {allowed}")
