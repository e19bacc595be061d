"""Decide how many threads a process computes with on the CPU, and how they wait for one another.

The threads of one product wait for the slowest of them. Where a neighbour takes a core, the thread on that core is late
in every product, and the others, which spin while they wait, take the time that it needs. So one core is left free, and
threads that wait sleep (OMP_WAIT_POLICY=passive). Both have to be said before torch, whose OpenMP reads them, is
imported; `import octorec` says them. What the environment says already is kept.
"""

import os
import sys
from pathlib import Path

COUNT, WAITING = "OMP_NUM_THREADS", "OMP_WAIT_POLICY"
CGROUPS, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
PROCESSORS = Path("/sys/devices/system/cpu")


def share_the_cores() -> None:
    """Set the number of threads and their way of waiting for this process and those that it starts.

    Where torch was imported before, only its number of threads can still be set; a number that somebody chose (another
    than the number of cores) is kept.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        os.environ.setdefault(WAITING, "PASSIVE")
        os.environ.setdefault(COUNT, str(threads()))
    elif COUNT not in os.environ and torch.get_num_threads() == allowed():
        torch.set_num_threads(threads())


def threads() -> int:
    """Return the number of threads to use: all cores of this process but one; at least 1."""
    return max(1, cores() - 1)


def cores() -> int:
    """Return how many whole cores this process may keep busy: those it may run on, and no more than its
    containers' quotas.
    """
    return max(1, int(min(allowed(), quota())))


def allowed() -> int:
    """Return the cores that this process may run on; two processors that are threads of one core are one."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    siblings = {n: _text(PROCESSORS / f"cpu{n}" / "topology/thread_siblings_list") for n in os.sched_getaffinity(0)}
    return len({text or n for n, text in siblings.items()})


def quota() -> float:
    """Return how many seconds of processor time a second the process's control groups (version 1 or 2)
    leave it, or infinity.
    """
    least = float("inf")
    for line in _text(MEMBERSHIP).splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = CGROUPS / "cpu" if controllers else CGROUPS
        here = root / group.lstrip("/")
        for folder in (here, *here.parents):
            least = min(least, _limit(folder))
            if folder == root:
                break
    return least


def _limit(folder: Path) -> float:
    """Return the quota of one control group, or infinity."""
    both = _text(folder / "cpu.max").split()  # version 2: quota and period in microseconds, or "max" and a period
    both = both or [_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    try:
        limit, period = float(both[0]), float(both[1])
    except (ValueError, IndexError):
        return float("inf")
    return limit / period if limit > 0 and period > 0 else float("inf")  # -1: none


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
