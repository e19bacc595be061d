"""Wheel and sdist hold what they must, and a clone shadows nothing."""

import email
import re
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

import pytest

from tests.package_copy import ROOT, build, copy_checkout


@dataclass(frozen=True)
class Built:
    """names: of the project's files. sdist, wheel: of those inside. metadata: the wheel's."""

    names: list[str]
    sdist: set[str]
    wheel: set[str]
    metadata: Message


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("built") / "octorec"
    names = copy_checkout(folder)
    sdist, wheel = build(folder)
    with tarfile.open(sdist) as archive:
        packed = {member.name.partition("/")[2] for member in archive if member.isfile()}
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
        (about,) = (name for name in inside if name.endswith(".dist-info/METADATA"))
        return Built(names, packed, inside, email.message_from_bytes(archive.read(about)))


@pytest.mark.slow
def test_the_sdist_holds_the_whole_project(built: Built) -> None:
    assert not set(built.names) - built.sdist
    for name in ("LICENSE", "Makefile", "constraints.txt", "docs/numerics.md", "tests/test_package.py", ".ci/run"):
        assert name in built.sdist
    assert any(name.startswith("results/") for name in built.sdist)


@pytest.mark.slow
def test_the_wheel_holds_the_whole_package_and_nothing_else(built: Built) -> None:
    package = {name.removeprefix("src/") for name in built.names if name.startswith("src/octorec/")}
    extra = {name for name in built.wheel if ".dist-info/" not in name}
    assert extra == package
    assert "octorec/py.typed" in package
    assert any(name.endswith("licenses/LICENSE") for name in built.wheel)


@pytest.mark.slow
def test_the_metadata_says_what_an_index_shows(built: Built) -> None:
    about = built.metadata
    assert (about["Name"], about["Author"]) == ("octorec", "OctoRec contributors")
    assert about["License-Expression"] == "Apache-2.0"
    assert about["Summary"]
    assert "FP8" in about["Keywords"]
    assert "Typing :: Typed" in about.get_all("Classifier", [])
    assert about["Description-Content-Type"] == "text/markdown"
    assert {"serve", "bench", "families", "deepgemm", "dev"} <= set(about.get_all("Provides-Extra", []))


@pytest.mark.slow
def test_the_description_has_no_link_that_only_a_clone_can_follow(built: Built) -> None:
    text = built.metadata.get_payload()
    assert isinstance(text, str)
    assert text.startswith("# OctoRec")
    links = re.findall(r"\]\(([^)]+)\)|(?:src|href)=.([^\"' >]+)", text)
    assert all(link.startswith("https://") for pair in links for link in pair if link)


def test_a_script_beside_a_clone_imports_the_installed_package(tmp_path: Path) -> None:
    (tmp_path / "octorec").symlink_to(ROOT)
    (tmp_path / "script.py").write_text("import octorec; print(octorec.__file__, octorec.Request(['1']).history)")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    ask = [sys.executable, "-c", "import octorec; print(octorec.__file__)"]
    installed = subprocess.run(ask, cwd=elsewhere, capture_output=True, text=True, check=True).stdout.strip()
    for command in ([sys.executable, "script.py"], [sys.executable, "-c", (tmp_path / "script.py").read_text()]):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.stdout.strip() == f"{installed} ('1',)", done.stderr


def test_docker_is_given_what_it_copies() -> None:
    copied = re.findall(r"^COPY (.*) \S+$", (ROOT / "Dockerfile").read_text(), re.M)
    given = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied
    for name in " ".join(copied).split():
        assert (ROOT / name).exists()
        assert name in given, name
