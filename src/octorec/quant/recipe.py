"""A recipe says as data which matrices of a checkpoint become FP8, and with which scales.

A recipe is a YAML file:

    name: mine
    groups:
      - targets: ['blocks\\.\\d+\\.ffn\\.down_proj']   # regular expressions (RE2) on a module's whole name on disk
        weights: channel                             # channel | block | tensor
        activations: token                           # token | group | tensor (not of OneRec-V2: a scale a batch)
        optional: false                              # true: a checkpoint without such matrices is fine
    ignore: ['blocks\\.0\\..*']                        # stays as it is, whatever the targets say

Of several groups that match a module the first has it. What no group matches stays as it is. A pattern that matches
nothing is an error: it is a slip of the pen, or a recipe for another model.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from octorec.errors import InputError, check_keys
from octorec.quant.patterns import check_patterns, matching
from octorec.quant.shipped import require_recipe
from octorec.reading import read_yaml

WeightGranularity = Literal["channel", "block", "tensor"]
ActivationGranularity = Literal["token", "group", "tensor"]
MOST_GROUPS = 16
SHIPPED_FOR = (
    "recipes that come with OctoRec are for OneRec-V2, Qwen3 and Qwen2; `octorec analyze` proposes one for others"
)


@dataclass(frozen=True)
class Group:
    """A Group holds the patterns of its modules, `targets`, and the granularity of their scales
    (`kernels.fp8` has the table).
    """

    targets: tuple[str, ...]
    weights: WeightGranularity
    activations: ActivationGranularity
    optional: bool = False  # whether a checkpoint without such modules is fine

    def __post_init__(self) -> None:
        check_patterns("recipe: targets", self.targets)
        if not self.targets:
            raise InputError("targets", self.targets, "a group needs at least one regular expression")
        for name, kinds in (("weights", WeightGranularity), ("activations", ActivationGranularity)):
            if getattr(self, name) not in get_args(kinds):
                raise InputError(name, getattr(self, name), f"allowed: {', '.join(get_args(kinds))}")
        if not isinstance(self.optional, bool):
            raise InputError("optional", self.optional, "allowed: true, false")


@dataclass(frozen=True)
class Recipe:
    """A Recipe holds groups in order of precedence, and what they must leave alone."""

    name: str
    groups: tuple[Group, ...]
    ignore: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise InputError("recipe: name", self.name, "must be a text")
        if not self.groups:
            raise InputError("recipe: groups", self.groups, "needs at least one group")
        if len(self.groups) > MOST_GROUPS:
            raise InputError("recipe: groups", len(self.groups), f"at most {MOST_GROUPS}")
        check_patterns("recipe: ignore", self.ignore)

    def assign(self, modules: Iterable[str]) -> dict[str, Group]:
        """Return the group of each of `modules` that has one; the others stay as they are.

        Raises InputError for patterns that take too long on these names.
        """
        names, started = list(modules), time.thread_time()
        of: dict[str, Group] = {}
        for group in reversed(self.groups):
            of.update(dict.fromkeys(matching(group.targets, names, started), group))
        ignored = matching(self.ignore, names, started)
        return {name: of[name] for name in names if name in of and name not in ignored}

    def check_matches(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Raise an InputError for a pattern that matches nothing of a checkpoint whose tensors have these `shapes`."""
        names, started = matrices(shapes), time.thread_time()
        for group in self.groups:
            for target in () if group.optional else group.targets:
                self._check_match("targets", target, names, started)
        everything = sorted({name.rpartition(".")[0] or name for name in shapes})
        for pattern in self.ignore:
            self._check_match("ignore", pattern, everything, started)
        if not self.assign(names):
            allowed = f"quantizes nothing of a checkpoint with {_some(names)}: {SHIPPED_FOR}"
            raise InputError(f"recipe {self.name}", self.name, allowed)

    def _check_match(self, field: str, pattern: str, names: list[str], started: float) -> None:
        if not matching((pattern,), names, started):
            allowed = f"matches nothing of a checkpoint with {_some(names)}"
            raise InputError(f"recipe {self.name}: {field}", pattern, allowed)


def _some(names: list[str]) -> str:
    if not names:
        return "no matrix"
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def matrices(shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Return the modules with a 2-D `.weight` that is not empty: what a recipe chooses from."""
    chosen = [name for name, shape in shapes.items() if name.endswith(".weight") and len(shape) == 2 and all(shape)]
    return [name.removesuffix(".weight") for name in chosen]


def load_recipe(recipe: str | Path | Recipe) -> Recipe:
    """Load a recipe by the name of a shipped one or by the path of a YAML file; a Recipe is returned as it is."""
    if isinstance(recipe, Recipe):
        return recipe
    return _parse(read_yaml(require_recipe(recipe), "recipe"))


def _parse(raw: Any) -> Recipe:
    check_keys("recipe", raw, Recipe, required=("name", "groups"))
    groups = raw["groups"] if isinstance(raw["groups"], list) else []
    for group in groups:
        check_keys("recipe: group", group, Group, required=("targets", "weights", "activations"))
    parsed = [Group(**{**group, "targets": _texts("targets", group["targets"])}) for group in groups]
    return Recipe(raw["name"], tuple(parsed), _texts("ignore", raw.get("ignore") or []))


def _texts(field: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise InputError(f"recipe: {field}", value, "must be a list of regular expressions")
    return tuple(value)
