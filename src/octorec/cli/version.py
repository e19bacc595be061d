"""`octorec --version` tells what is installed, without importing it."""

import platform
from importlib.metadata import PackageNotFoundError, version

import typer

import octorec

BESIDE = ("torch", "triton")  # whose versions decide what a kernel does


def print_version(asked: bool) -> None:
    """Print one line of versions and exit, where that is asked for."""
    if asked:
        print(
            f"octorec {octorec.__version__} ({', '.join(map(_installed, BESIDE))}, Python {platform.python_version()})"
        )
        raise typer.Exit


def _installed(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"no {name}"
