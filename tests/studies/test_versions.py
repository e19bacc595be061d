"""The oldest set of versions holds the lower bounds that pyproject.toml states, and no set names an index."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from studies.versions import EXTRAS, LEFT_OUT, SETS, TESTS, TOOLS

ROOT = Path(__file__).parents[2]


def pins(name: str) -> dict[str, Version]:
    """The version of each package of a constraints file."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    parts = [line.partition("==") for line in lines]
    assert all(middle for _, middle, _ in parts)
    return {canonicalize_name(package): Version(version) for package, _, version in parts}


def bounds() -> dict[str, Version]:
    """The highest lower bound of each package that the tested extras and tools name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    tools = [line for line in extras["dev"] if Requirement(line).name in TOOLS]
    found: dict[str, Version] = {}
    for line in [*project["dependencies"], *(line for extra in EXTRAS.split(",") for line in extras[extra]), *tools]:
        wanted = Requirement(line)
        low = [Version(one.version) for one in wanted.specifier if one.operator == ">="]
        assert low, line
        name = canonicalize_name(wanted.name)
        found[name] = max([found[name], *low]) if name in found else max(low)
    return found


def test_the_oldest_set_holds_the_lower_bounds() -> None:
    oldest = pins(SETS["oldest"])
    assert {name: oldest.get(name) for name in bounds()} == bounds()


def test_every_set_pins_what_is_tested() -> None:
    for name in SETS.values():
        assert set(bounds()) <= set(pins(name))
        assert "://" not in (ROOT / name).read_text()


def test_the_chosen_tests_are_there() -> None:
    assert all((ROOT / path.partition("::")[0]).exists() for path in (*TESTS, *LEFT_OUT))
