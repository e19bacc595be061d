"""Reads broken files of one kind, one after the other, in a process of its own with bounds on time and memory.

A kind is a module of this folder with

    make(folder): write valid files, once
    broken(folder, rng): break them, in a copy; returns what to show of them where that is found to be a fault
    read(folder): read them as OctoRec does; returns something that is empty when the answer is

A fault is: another exception than InputError, an error of several lines or more than MOST_TEXT characters, an empty
answer, more than HANG_S seconds of work or WAIT_S of waiting, more than MOST_MB of memory beside what was used before.
Each input follows from the seed and its number alone. To look for more of them, or to see one again:

    python tests/fuzz/harness.py test_fuzz_recipe --seed 7 --seconds 600
    python tests/fuzz/harness.py test_fuzz_recipe --seed 7 --only 1234
"""

import argparse
import faulthandler
import importlib
import itertools
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from octorec.errors import InputError, shown

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SEED = 0
SECONDS = 20.0
HANG_S = 5.0  # of this process's own time, so that a busy machine makes no fault
WAIT_S = 30.0
MOST_MB = 1024
MOST_TEXT = 2500
MOST_UNMADE = 0.01  # share of the inputs
START_S = 120.0  # imports and the first files, on a busy machine


def fuzz(kind: str, seed: int = SEED, seconds: float = SECONDS) -> None:
    """Run the kind in a process of its own; an AssertionError shows its first fault, with seed and input."""
    command = [sys.executable, str(HERE / "harness.py"), kind, "--seed", str(seed), "--seconds", str(seconds)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, errors="replace", timeout=START_S + seconds
    )
    said = f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    assert done.returncode == 0, f"{kind}, seed {seed}, exit code {done.returncode}:\n{said}"


def run(kind: ModuleType, seed: int, seconds: float, numbers: Iterable[int], every: bool = False) -> int:
    """How many of the inputs were faults; ends after `seconds`, and with the first fault unless `every`."""
    faults = tried = read = unmade = 0
    with tempfile.TemporaryDirectory() as temporary:
        template, folder = Path(temporary) / "template", Path(temporary) / "input"
        template.mkdir()
        kind.make(template)
        shutil.copytree(template, folder)
        assert kind.read(folder), "the valid files must be read"  # imports what there is to import
        bound_memory()
        end = time.monotonic() + seconds
        for number in numbers:
            if time.monotonic() > end:
                break
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(template, folder)
            try:
                about = kind.broken(folder, random.Random(f"{seed} {number}"))
            except (ValueError, ArithmeticError, RecursionError) as error:  # changes that do not go together
                print(f"input {number} cannot be made: {error!r}", file=sys.stderr, flush=True)
                unmade += 1
                continue
            print(f"input {number}: {about[:3000]}", file=sys.stderr, flush=True)  # the last one says what hung
            fault = fault_of(kind, folder)
            tried += 1
            read += fault == ""
            if fault:
                print(f"FAULT {kind.__name__} --seed {seed} --only {number}\n{fault}\n{about}\n", flush=True)
                faults += 1
                if not every:
                    break
    print(f"{tried} inputs, {read} of them read, {faults} faults; {unmade} more could not be made")
    assert unmade <= MOST_UNMADE * (tried + unmade), "the changes themselves are at fault"
    return faults


def fault_of(kind: ModuleType, folder: Path) -> str | None:
    """What is wrong with how the input is read: "" where it is read well, None where it is refused well."""
    before, start = peak_mb(), time.process_time()
    faulthandler.dump_traceback_later(WAIT_S, exit=True)  # also where the interpreter is held
    try:
        with deadline():
            found = kind.read(folder)
        fault: str | None = "" if found else f"an empty answer: {shown(found)}"
    except InputError as error:
        text = str(error)
        good = "\n" not in text and len(text) <= MOST_TEXT
        fault = None if good else f"an error of {len(text)} characters: {text[:500]}"
    except BaseException as error:
        fault = "".join(traceback.format_exception(error)[-6:])
    finally:
        faulthandler.cancel_dump_traceback_later()
    if not fault and time.process_time() - start > HANG_S:
        fault = f"took {time.process_time() - start:.1f} s"
    if not fault and peak_mb() - before > MOST_MB:
        fault = f"took {peak_mb() - before:.0f} MB"
    return fault


@contextmanager
def deadline() -> Iterator[None]:
    """Interrupt the block after HANG_S where Python can be interrupted."""

    def late(*_: object) -> None:
        raise TimeoutError(f"more than {HANG_S:g} s")

    signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, HANG_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def bound_memory() -> None:
    """Refuse far more memory than the bound before the machine suffers: an allocation of 74 GB is a MemoryError."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + 4 * MOST_MB * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--only", type=int, help="the number of one input")
    parser.add_argument("--every", action="store_true", help="go on after a fault")
    given = parser.parse_args()
    sys.path.insert(0, str(HERE))
    kind = importlib.import_module(given.kind)
    numbers = itertools.count() if given.only is None else [given.only]
    sys.exit(1 if run(kind, given.seed, given.seconds, numbers, given.every) else 0)


if __name__ == "__main__":
    main()
