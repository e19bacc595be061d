"""Free memory is compared with the least that several checkpoints and catalogs take of it."""

from math import prod
from pathlib import Path

import torch

from octorec.models.checkpoint_folder import is_adapter
from octorec.models.lora import open_checkpoint

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
LIMITS = ("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")
UNLIMITED = 2**62


def model_bytes(checkpoint: Path, device: str, base: str | None = None) -> int:
    """Return the bytes that a checkpoint's tensors take at least, each in the type that `engine.load` gives it: 8-bit
    weights keep their size, others are float32 on a CPU and have 16 bits on a GPU. Reads the headers alone.

    base: of an adapter."""
    wide = 2 if torch.device(device).type == "cuda" else 4
    headers = open_checkpoint(checkpoint, base if is_adapter(checkpoint) else None).headers.values()
    return sum(prod(header.shape) * (1 if "8" in header.dtype.partition("_")[0] else wide) for header in headers)


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def free_bytes(device: str) -> int:
    """Return the bytes that the device has left; on the CPU the host's, as far as the process's own limit lets them."""
    on = torch.device(device)
    if on.type == "cuda":
        torch.cuda.empty_cache()  # what torch holds and nobody uses is free too
        return torch.cuda.mem_get_info(on)[0]
    return min(_host_free(), *(_group_free(*names) for names in LIMITS))


def _host_free() -> int:
    for line in (PROC / "meminfo").read_text().splitlines() if (PROC / "meminfo").is_file() else ():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return UNLIMITED


def _group_free(limit: str, used: str) -> int:
    """Return the bytes that the control group of the process leaves; pages of files that nobody needs count as free."""
    most = _number(CGROUPS / limit)
    if most is None or most >= UNLIMITED:
        return UNLIMITED
    stat = (CGROUPS / used).with_name("memory.stat")
    lines = dict(line.split()[:2] for line in stat.read_text().splitlines()) if stat.is_file() else {}
    reclaimable = int(lines.get("inactive_file", lines.get("total_inactive_file", 0)))
    return max(0, most - (_number(CGROUPS / used) or 0) + reclaimable)


def _number(path: Path) -> int | None:
    """Return the number in a file; None where it is not there or says `max`."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
