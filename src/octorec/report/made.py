"""A report says how it came about: when, by which version, with which command, on which machine."""

import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch

import octorec
from octorec.threads import cores

CPUINFO = Path("/proc/cpuinfo")
SECRET = "--pip-args"  # an option whose value may hold the password of an index


def made() -> list[tuple[str, str]]:
    """Return (what, value) of this process, for a report that it writes now."""
    return [
        ("Written", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ("Version", _version()),
        ("Command", command(sys.argv)),
        ("Machine", machine()),
    ]


def command(arguments: Sequence[str]) -> str:
    """Return a command as it is typed, without the folder of its program and without what may be secret."""
    shown = [Path(arguments[0]).name, *arguments[1:]]
    for at, argument in enumerate(shown):
        if argument == SECRET and at + 1 < len(shown):
            shown[at + 1] = "..."
        elif argument.startswith(f"{SECRET}="):
            shown[at] = f"{SECRET}=..."
    return shlex.join(shown)


def machine() -> str:
    """Return the processor, the cores that may be used, and the graphics cards that torch sees."""
    cards = [torch.cuda.get_device_name(card) for card in range(torch.cuda.device_count())]
    kinds = [f"{cards.count(name)} x {name}" for name in dict.fromkeys(cards)] or ["no GPU"]
    count = cores()
    return ", ".join([processor(), f"{count} core{'s' if count > 1 else ''}", *kinds])


def processor() -> str:
    """Return the processor's name, or its architecture where nothing names it."""
    if CPUINFO.is_file():
        for line in CPUINFO.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip() not in ("", "unknown"):
                return value.strip()
    return platform.processor() or platform.machine()


def _version() -> str:
    commit = _commit(Path(octorec.__file__).parents[2])
    beside = f"torch {torch.__version__}, Python {platform.python_version()}"
    return f"octorec {octorec.__version__}{f' (commit {commit})' if commit else ''}, {beside}"


def _commit(checkout: Path) -> str:
    """Return the commit of the checkout that this package runs from; none where it is installed without one."""
    if not (checkout / ".git").exists():
        return ""
    asked = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
