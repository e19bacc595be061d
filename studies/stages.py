"""What studies that run in stages share."""

import gc
from collections.abc import Iterable

import torch

from octorec.errors import InputError


def release() -> None:
    """Give back the GPU memory of engines that are no longer used: their graphs hold gigabytes."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def stage_names(text: str, known: Iterable[str]) -> list[str]:
    """Read the names of stages, between commas; InputError for one that is not among `known`."""
    found = text.split(",")
    for name in found:
        if name not in known:
            raise InputError("--stages", name, f"allowed: {', '.join(known)}")
    return found
