"""A checkpoint is looked at without loading it: whether it is whole, and would fit."""

from collections.abc import Iterator
from pathlib import Path

from octorec.doctor.finding import Finding


def look_at_checkpoint(checkpoint: Path, device: str) -> Iterator[Finding]:
    """Yield how much memory a checkpoint's weights take beside what is free; an InputError where it is none."""
    from octorec.engine.memory import free_bytes, model_bytes
    from octorec.kernels.device import check_fp8, open_device
    from octorec.models.hf_folder import Checkpoint

    on, read = open_device(device), Checkpoint(checkpoint)
    if any("8" in read.dtype(name).partition("_")[0] for name in read.names()):
        check_fp8(on)
    needed, free = model_bytes(checkpoint, device), free_bytes(device)
    said = f"{needed / 1e6:,.1f} MB of weights, {free / 1e6:,.0f} MB are free on {device}"
    yield Finding(str(checkpoint), said, "take a larger device, or quantize it" if needed > free else "")
