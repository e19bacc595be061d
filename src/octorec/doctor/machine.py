"""The machine is looked at: cores, memory, descriptors, graphics cards and compiled kernels."""

import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

from octorec.doctor.finding import Finding
from octorec.threads import COUNT, cores, threads

DRIVER = Path("/proc/driver/nvidia/version")
SHARED = Path("/dev/shm")
LEAST_DESCRIPTORS = 1100  # 1,000 connections, and files
LEAST_SHARED = 64 * 2**20  # bytes
COMPILERS = ("cc", "gcc", "clang")


def look_at_host() -> Iterator[Finding]:
    """Yield what there is of cores, memory and descriptors."""
    from octorec.engine.memory import free_bytes

    given = os.environ.get(COUNT, "")
    said = f"{cores()} cores, {given or threads()} threads"
    if given.isdecimal() and int(given) > cores():
        yield Finding("cores", said, f"set {COUNT} to at most {cores()}, or leave it unset: more threads only wait")
    else:
        yield Finding("cores", said)
    yield Finding("memory", f"{free_bytes('cpu') / 2**30:.1f} GiB are free")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < LEAST_DESCRIPTORS:
        yield Finding("descriptors", f"at most {hard}", "raise the limit (ulimit -Hn): a connection needs one")
    else:
        yield Finding("descriptors", "no limit" if hard == resource.RLIM_INFINITY else f"at most {hard}")


def look_at_gpus() -> Iterator[Finding]:
    """Yield each graphics card with what runs there, or why there is none."""
    import torch

    driver = DRIVER.read_text().splitlines()[0] if DRIVER.is_file() else ""
    if torch.version.cuda is None and driver:
        yield Finding("GPU", f"torch {torch.__version__} has no CUDA, and there is a driver: {driver}",
                      "install torch's CUDA build: its own page says how")  # fmt: skip
        return
    if not torch.cuda.is_available():
        if driver:
            yield Finding("GPU", f"torch with CUDA {torch.version.cuda} finds none: {driver}",
                          "check with nvidia-smi that the driver is new enough and the card is free")  # fmt: skip
        else:
            yield Finding("GPU", "none: all runs on the CPU, which is for trying and for small models")
        return
    for number in range(torch.cuda.device_count()):
        yield from _gpu(number)


def _gpu(number: int) -> Iterator[Finding]:
    import torch

    from octorec.errors import InputError
    from octorec.kernels.products import card_with

    about, name = f"GPU {number}", torch.cuda.get_device_name(number)
    capability = torch.cuda.get_device_capability(number)
    free, total = torch.cuda.mem_get_info(number)
    said = f"{name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB are free, CUDA {torch.version.cuda}"
    try:
        card = card_with(capability)
    except InputError as error:
        has = ".".join(map(str, capability))
        yield Finding(about, f"{said}, compute capability {has}", str(error.allowed))
        return
    runs = "BF16 and FP8" if card.fp8 else "BF16; its tensor cores have no FP8"
    yield Finding(about, f"{said}; {card.name}: {runs}")


def look_at_kernels() -> Iterator[Finding]:
    """Yield where compiled kernels lie, how many there are, and what stops new ones from being compiled."""
    folder = Path(os.environ.get("TRITON_CACHE_DIR") or Path.home() / ".triton" / "cache")
    compiled = [*folder.glob("*/*.cubin")] if folder.is_dir() else []
    size = sum(path.stat().st_size for path in compiled)
    yield Finding("compiled kernels", f"{len(compiled)} in {folder} ({size / 2**20:.0f} MiB)")
    there = next(one for one in (folder, *folder.parents) if one.is_dir())
    if not os.access(there, os.W_OK):
        yield Finding("kernel cache", f"{there} cannot be written", "set TRITON_CACHE_DIR to a folder that can be")
    import torch

    if torch.cuda.is_available() and not any(map(shutil.which, (os.environ.get("CC", "cc"), *COMPILERS))):
        yield Finding("C compiler", "none is on the path", "install gcc: Triton compiles a launcher for each kernel")


def look_at_shared_memory() -> Iterator[Finding]:
    """Yield how much shared memory there is, which PyTorch and Ray use between processes."""
    if not SHARED.is_dir():
        yield Finding("shared memory", f"{SHARED} is not there", "mount it: docker run --shm-size=1g")
        return
    found = os.statvfs(SHARED)
    free = found.f_bavail * found.f_frsize
    said = f"{free / 2**20:.0f} MiB are free in {SHARED}"
    yield Finding("shared memory", said, "give more: docker run --shm-size=1g" if free < LEAST_SHARED else "")
