"""Say what a checkpoint's folder holds without its weights: the tokens of items, shapes, types and settings."""

import math
import os
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from octorec.errors import InputError
from octorec.files import read_json
from octorec.models.checkpoint_folder import ADAPTER_CONFIG, CONFIG, SUFFIX, require_inspectable
from octorec.models.families import known_family
from octorec.models.generation_config import ignored_generation
from octorec.models.hf_folder import Checkpoint
from octorec.models.layouts import Layout, read_layout
from octorec.models.vocabulary import BASE, TOKENIZER, TOKENIZER_CONFIG

MOST_VALUES = 8  # of a list in config.json that is shown


@dataclass(frozen=True)
class Inspected:
    """An Inspected says what lies in a folder.

    family: OctoRec's name of the model's family; None: of none. config: what config.json says in a line, and
    adapter_config.json. layout: which tokens are which codes; None without a tokenizer, or where `refused` says why
    not. weights: files, tensors, bytes, and parameters by type; None without files. ignored: settings of
    generation_config.json that a beam search ignores.
    """

    folder: str
    family: str | None
    config: dict[str, Any]
    layout: dict[str, Any] | None
    weights: dict[str, Any] | None
    ignored: dict[str, Any] = field(default_factory=dict)
    refused: InputError | None = None

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(replace(self, refused=None)), "refused": None if self.refused is None else str(self.refused)}


def inspect_folder(folder: str | Path) -> Inspected:
    """Return what a folder says of itself. No weight is read, and no code of the folder runs.

    Raises InputError for files that are broken. Tokens of which no layout is known are not: `refused` says it.
    """
    require_inspectable(folder)
    folder = Path(folder)
    raws = [
        read_json(folder / name, "checkpoint", infinite=True)
        for name in (CONFIG, ADAPTER_CONFIG)
        if _there(folder, name)
    ]
    config = {key: value for raw in raws for key, value in raw.items() if _is_short(value)}
    layout, refused = None, None
    if any(_there(folder, name) for name in (TOKENIZER, BASE, TOKENIZER_CONFIG)):
        try:
            layout = described(read_layout(folder))
        except InputError as error:
            refused = error
    family = known_family(raws[0] if layout is None else {**raws[0], "sid_tokens": layout})
    return Inspected(
        str(folder),
        None if family is None else family.label,
        config,
        layout,
        _weights(folder),
        ignored_generation(folder),
        refused,
    )


def described(layout: Layout) -> dict[str, Any]:
    """Return a layout for people and programs: each token with its text and its id."""
    text_of, sids = layout.vocabulary.text_of(), layout.sids

    def token(id: int) -> dict[str, Any]:
        return {"text": text_of.get(id, ""), "id": int(id)}

    levels = []
    for ids in sids.levels:
        used = np.flatnonzero(ids >= 0)
        ends = {
            name: {"code": int(code), **token(ids[code])} for name, code in (("first", used[0]), ("last", used[-1]))
        }
        levels.append({"codes": len(ids), "tokens": len(used), "gaps": len(ids) - len(used), **ends})
    return {
        "family": layout.family,
        "recognised": layout.recognised,
        "levels": levels,
        "begin": {domain: token(id) for domain, id in sids.begin.items()},
        "end": [{**token(end.id), "scored": end.scored} for end in sids.end],
        "scores_over": sids.scores_over,
        "item": layout.item,
        "separator": layout.separator,
        "prompt": layout.prompt,
        "notes": list(layout.notes),
    }


def _weights(folder: Path) -> dict[str, Any] | None:
    """Return what the headers of the safetensors files say."""
    files = sorted(folder.glob(f"*{SUFFIX}"))
    if not files:
        return None
    checkpoint = Checkpoint(folder, bare=True)
    values: Counter[str] = Counter()
    for header in checkpoint.headers.values():
        values[header.dtype] += math.prod(header.shape)
    size = sum(header.nbytes for header in checkpoint.headers.values())
    return {
        "files": len(files),
        "tensors": len(checkpoint.headers),
        "bytes": size,
        "parameters": dict(values.most_common()),
    }


def _there(folder: Path, name: str) -> bool:
    return os.path.lexists(folder / name)


def _is_short(value: Any) -> bool:
    """Tell whether a value of config.json is shown: a plain one, or few plain ones."""
    if isinstance(value, dict | list):
        parts = list(value.values()) if isinstance(value, dict) else value
        return len(parts) <= MOST_VALUES and not any(isinstance(part, dict | list) for part in parts)
    return True
