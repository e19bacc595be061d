"""Packages are compared with what OctoRec's own metadata asks for."""

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

import octorec
from octorec.doctor.finding import Finding

DEV = "dev"


def look_at_python() -> Iterator[Finding]:
    yield Finding("octorec", octorec.__version__)
    yield Finding("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    if platform.system() != "Linux":
        yield Finding("system", platform.system(), "OctoRec is tested on Linux alone: use it there, or in a container")


def look_at_packages() -> Iterator[Finding]:
    """Yield a finding a package that is needed, and one a whole extra, or what that lacks."""
    needed = [Requirement(one) for one in requires("octorec") or ()]
    for one in needed:
        if one.marker is None or one.marker.evaluate({"extra": ""}):
            yield _looked_at(one, "pip install --upgrade octorec")
    for extra in sorted({name for one in needed for name in _extras(one)} - {DEV}):
        yield _extra(extra, [one for one in needed if extra in _extras(one)])


def _extras(one: Requirement) -> list[str]:
    """Return the extra that a requirement is of, as a list of at most one."""
    said = str(one.marker or "")
    return [said.rpartition("extra == ")[2].strip("\"' )")] if "extra ==" in said else []


def _looked_at(one: Requirement, remedy: str) -> Finding:
    found = _installed(one.name)
    if found is None:
        return Finding(one.name, "is not installed", remedy)
    if not one.specifier.contains(found, prereleases=True):
        return Finding(one.name, f"{found}, but {one.specifier} is needed", remedy)
    return Finding(one.name, found)


def _extra(name: str, needed: list[Requirement]) -> Finding:
    """Return how an extra is: not to have one is no problem, to have half of it is."""
    lacks = [one.name for one in needed if _installed(one.name) is None]
    about = f"extra {name}"
    old = [_looked_at(one, "") for one in needed if _installed(one.name) is not None]
    wrong = [f"{one.about} {one.found}" for one in old if "is needed" in one.found]
    if wrong:
        return Finding(about, ", ".join(wrong), f"pip install --upgrade 'octorec[{name}]'")
    return Finding(about, f"is not there (lacks {', '.join(lacks)})" if lacks else "is there")


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
