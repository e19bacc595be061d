"""A folder's generation_config.json says how to sample; a beam search over items takes no notice of it.

Inherited sampling settings made invalid items in other programs. So they are ignored here, and named.
"""

import os
from pathlib import Path
from typing import Any

from octorec.errors import shown
from octorec.files import read_json

GENERATION = "generation_config.json"
NO_SETTINGS = ("transformers_version", "bos_token_id", "eos_token_id", "pad_token_id")  # say nothing of how to sample


def ignored_generation(folder: str | Path) -> dict[str, Any]:
    """Return the fields of a folder's generation_config.json that a beam search ignores; empty without the file."""
    path = Path(folder, GENERATION)
    if not os.path.lexists(path):
        return {}
    raw = read_json(path, "checkpoint", infinite=True)
    return {key: value for key, value in raw.items() if key not in NO_SETTINGS and not key.startswith("_")}


def ignored_generation_line(folder: str | Path) -> str | None:
    """Return a line for the log that names the ignored fields and their values; None where there are none."""
    found = ignored_generation(folder)
    said = ", ".join(f"{key} {shown(value)}" for key, value in found.items())
    return f"{GENERATION} is ignored in beam search: {said}" if said else None
