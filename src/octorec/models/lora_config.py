"""The `adapter_config.json` of a LoRA adapter, as PEFT writes it (arXiv 2106.09685), is read by pick-list.

A key that would change what is merged is obeyed as PEFT does, or refused by its name.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octorec.errors import InputError
from octorec.files import read_json
from octorec.models.checkpoint_folder import ADAPTER_CONFIG

INIT = (True, False, None, "gaussian", "eva", "orthogonal")  # others change the base's weights before training
MOST_PATTERN, MOST_LOOPS = 200, 3  # of a pattern: characters, and quantifiers, for each multiplies the time of a search
MOST_NAMES = 1000
LAYER = re.compile(r".*?\.[^.]*\.(\d{1,9})\.")  # the first number between points


@dataclass(frozen=True)
class LoraConfig:
    """A LoraConfig says what an adapter adds to which modules.

    rank, alpha: of modules that no pattern names. ranks, alphas: by the pattern of a module's name. rooted: divide by
    the root of the rank. saved: ends of names of modules that are stored whole. tokens: by the last part of a
    table's name, the rows that are stored.
    """

    where: str
    base: str | None
    rank: int
    alpha: float
    rooted: bool
    ranks: tuple[tuple[re.Pattern[str], int], ...]
    alphas: tuple[tuple[re.Pattern[str], float], ...]
    targets: tuple[str, ...] | re.Pattern[str] | None
    excluded: tuple[str, ...] | re.Pattern[str] | None
    layers: tuple[int, ...] | None
    saved: tuple[str, ...]
    tokens: Mapping[str, tuple[int, ...]]

    def rank_of(self, module: str) -> int:
        return next((rank for pattern, rank in self.ranks if pattern.match(module)), self.rank)

    def scale_of(self, module: str) -> float:
        """Return what the product of a module's two matrices is multiplied by."""
        alpha = next((alpha for pattern, alpha in self.alphas if pattern.match(module)), self.alpha)
        rank = self.rank_of(module)
        return alpha / (math.sqrt(rank) if self.rooted else rank)

    def is_target(self, module: str) -> bool:
        """Tell whether the adapter has matrices for a module of the base, by its full name."""
        whole = any(f".{name}." in f".{module}." for name in self.saved)
        if whole or (self.excluded and _matches(self.excluded, module)):
            return False
        if self.targets is None:
            return True
        found = LAYER.match(module)
        inside = self.layers is None or (found is not None and int(found[1]) in self.layers)
        return _matches(self.targets, module) and (inside or isinstance(self.targets, re.Pattern))

    def is_saved(self, module: str) -> bool:
        """Tell whether a module is stored whole: `norm` names `input_layernorm` too, as in PEFT."""
        return module.endswith(self.saved)


def read_lora_config(folder: Path) -> LoraConfig:
    """Read the adapter's configuration in `folder`. Raises InputError, which names the key and what is allowed."""
    path = folder / ADAPTER_CONFIG
    return _Reader(path, read_json(path, "adapter")).read()


class _Reader:
    def __init__(self, path: Path, raw: Mapping[str, Any]):
        self.path, self.raw = path, raw

    def read(self) -> LoraConfig:
        self._check_plain()
        tokens = self.raw.get("trainable_token_indices") or {}
        if isinstance(tokens, list):
            tokens = {"embed_tokens": tokens}
        if not isinstance(tokens, Mapping):
            raise self._refused("trainable_token_indices", tokens, "must be a list, or an object of lists by module")
        base = self.raw.get("base_model_name_or_path")
        layers = self.raw.get("layers_to_transform")
        if isinstance(layers, int):
            layers = [layers]
        return LoraConfig(
            str(self.path),
            base if isinstance(base, str) and base else None,
            int(self._number("r", self.raw.get("r", 8), whole=True)),
            self._number("lora_alpha", self.raw.get("lora_alpha", 8)),
            self.raw.get("use_rslora") is True,
            tuple((at, int(each)) for at, each in self._by_pattern("rank_pattern", whole=True)),
            tuple(self._by_pattern("alpha_pattern")),
            self._names("target_modules"),
            self._names("exclude_modules"),
            None if not layers else self._indices("layers_to_transform", layers),
            tuple(self._list("modules_to_save", self.raw.get("modules_to_save"))),
            {key: self._indices(f"trainable_token_indices.{key}", each) for key, each in tokens.items()},
        )

    def _check_plain(self) -> None:
        """Refuse values under which something else would be merged."""
        nothing: tuple[Any, ...] = (None, [], {})
        no = (False, None)
        allowed: dict[str, tuple[Any, ...]] = {
            "peft_type": ("LORA",), "task_type": ("CAUSAL_LM", None), "bias": ("none", None), "fan_in_fan_out": no,
            "use_dora": no, "use_qalora": no, "lora_bias": no, "init_lora_weights": INIT, "use_rslora": (True, *no),
            **dict.fromkeys(
                ("layers_pattern", "layer_replication", "target_parameters", "alora_invocation_tokens", "use_bdlora",
                 "arrow_config", "kasa_config", "monteclora_config", "megatron_config"), nothing,
            ),
        }  # fmt: skip
        for key, values in allowed.items():
            found = self.raw.get(key)
            if (key in self.raw or key == "peft_type") and not any(found is each or found == each for each in values):
                said = " or ".join(repr(each) for each in values if each not in ([], {}))
                raise self._refused(key, found, f"allowed: {said}; other adapters are not merged")

    def _number(self, key: str, value: Any, whole: bool = False) -> float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or (whole and isinstance(value, float)) or not 0 < value <= 2**20:
            raise self._refused(key, value, f"must be {'an integer' if whole else 'a number'} above 0, up to {2**20:,}")
        return float(value)

    def _by_pattern(self, key: str, whole: bool = False) -> list[tuple[re.Pattern[str], float]]:
        """Return numbers by patterns, which match the end of a module's name from a point on, as in PEFT."""
        given = self.raw.get(key) or {}
        if not isinstance(given, Mapping) or len(given) > MOST_NAMES:
            raise self._refused(key, given, f"must be an object of at most {MOST_NAMES} numbers by pattern")
        found = []
        for text, value in given.items():
            pattern = self._pattern(key, text, rf"(.*\.)?({text})$")
            found.append((pattern, self._number(f"{key}.{text}", value, whole)))
        return found

    def _names(self, key: str) -> tuple[str, ...] | re.Pattern[str] | None:
        given = self.raw.get(key)
        if given is None or given == "all-linear":  # which the file's own tensors say
            return None
        if isinstance(given, str):
            return self._pattern(key, given, rf"(?:{given})\Z")
        return tuple(self._list(key, given))

    def _list(self, key: str, given: Any) -> list[str]:
        names = [] if given is None else given
        if not isinstance(names, list) or len(names) > MOST_NAMES or not all(isinstance(name, str) for name in names):
            raise self._refused(key, given, "must be a list of names")
        return names

    def _indices(self, key: str, given: Any) -> tuple[int, ...]:
        fit = isinstance(given, list) and all(type(each) is int and 0 <= each < 2**31 for each in given)
        if not fit:
            raise self._refused(key, given, "must be a list of integers from 0 on")
        return tuple(given)

    def _pattern(self, key: str, text: str, whole: str) -> re.Pattern[str]:
        """Compile a stranger's pattern, where a search with it ends soon."""
        loops = len(re.findall(r"[*+{]", text))
        if len(text) > MOST_PATTERN or loops > MOST_LOOPS or re.search(r"\)[*+{?]", text):
            allowed = f"a pattern has at most {MOST_PATTERN} characters and {MOST_LOOPS} repetitions, none of a group"
            raise self._refused(key, text, allowed)
        try:
            return re.compile(whole)
        except (re.error, OverflowError) as error:
            raise self._refused(key, text, f"is no pattern ({error})") from None

    def _refused(self, key: str, value: Any, allowed: str) -> InputError:
        return InputError(f"{self.path}: {key}", value, allowed)


def _matches(names: tuple[str, ...] | re.Pattern[str], module: str) -> bool:
    if isinstance(names, re.Pattern):
        return names.match(module) is not None
    return any(module == name or module.endswith(f".{name}") for name in names)
