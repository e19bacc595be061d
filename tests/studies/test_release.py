"""A release is refused where something does not agree, and licences that ask more than to be named are found."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

import octorec
from octorec.errors import InputError
from studies.licences import is_fine, licence_of, main, needed
from studies.release import check_tree, check_version

ROOT = Path(__file__).parents[2]


def tree(folder: Path, changelog: str = "# Changelog\n\n## 0.2.0\n", citation: str = "0.2.0") -> Path:
    (folder / "src/octorec").mkdir(parents=True)
    (folder / "src/octorec/__init__.py").write_text('__version__ = "0.2.0"\n')
    (folder / "CITATION.cff").write_text(f"version: {citation}\n")
    (folder / "CHANGELOG.md").write_text(changelog)
    return folder


def test_versions_that_agree_are_taken(tmp_path: Path) -> None:
    check_version("0.2.0", tree(tmp_path))


@pytest.mark.parametrize(
    ("version", "changes", "named"),
    [
        ("0.2", {}, "version"),
        ("v0.2.0", {}, "version"),
        ("0.3.0", {}, "__init__.py"),
        ("0.2.0", {"citation": "0.1.0"}, "CITATION.cff"),
        ("0.2.0", {"changelog": "## Next\n"}, "CHANGELOG.md"),
        ("0.2.0", {"changelog": "## Next\n## 0.2.0\n"}, "CHANGELOG.md"),
    ],
)
def test_versions_that_do_not_agree_are_refused(
    version: str, changes: dict[str, str], named: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=named):
        check_version(version, tree(tmp_path, **changes))


@pytest.mark.parametrize(
    ("status", "branch", "tags", "named"),
    [
        (" M README.md", "main", "", "README.md"),
        ("", "next", "", "branch"),
        ("", "main", "v0.2.0", "tag"),
        ("", "main", "", None),
    ],
)
def test_a_tree_that_is_not_the_release_is_refused(status: str, branch: str, tags: str, named: str | None) -> None:
    def git(command: Sequence[str]) -> str:
        return {"status": status, "rev-parse": branch, "tag": tags}[command[1]]

    if named is None:
        check_tree("0.2.0", git)
        return
    with pytest.raises(InputError, match=named):
        check_tree("0.2.0", git)


def test_the_citation_is_of_this_version() -> None:
    about = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert about["version"] == octorec.__version__
    assert {one["identifiers"][0]["value"] for one in about["references"]} == {"arXiv:2603.11486", "arXiv:2508.20900"}


def test_issue_templates_are_forms() -> None:
    for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text())
        if path.name == "config.yml":
            continue
        assert {"name", "description", "body"} <= set(form)
        ids = [one["id"] for one in form["body"] if one["type"] != "markdown"]
        assert len(set(ids)) == len(ids) > 0


@pytest.mark.parametrize(
    ("licence", "fine"),
    [
        ("MIT", True), ("Apache-2.0 AND MIT", True), ("BSD License", True), ("GPLv2", False), ("AGPL-3.0-only", False),
        ("GNU General Public License v3 (GPLv3)", False), ("LGPL-3.0", True), ("MIT OR GPL-2.0", True), ("", False),
        ("Proprietary", False), ("Mozilla Public License 2.0 (MPL 2.0)", True),
    ],
)  # fmt: skip
def test_licences_are_told_apart(licence: str, fine: bool) -> None:
    assert is_fine(licence) is fine


def test_all_that_is_installed_may_be_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 0, capsys.readouterr().err
    found = needed()
    assert found["torch"] >= {"always"}
    assert "always" not in found["fastapi"]
    assert licence_of("rich")
