"""python -m studies.release VERSION looks at all that a release must be, builds it, tries it, and tags it.

It changes nothing but `dist/` and the tag; --dry-run leaves out the tag, --skip-tests `make check test-all test-long`.
Publishing is a person's: twine upload dist/*, then git push --tags. docs/release.md is the whole list.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Sequence
from pathlib import Path

from octorec.errors import InputError

ROOT = Path(__file__).parent.parent
VERSION = re.compile(r"\d+\.\d+\.\d+((a|b|rc)\d+)?")
TARGETS = ("check", "test-all", "test-long", "licences")
Run = Callable[[Sequence[str]], str]


def run(command: Sequence[str]) -> str:
    """Return what a command prints; an InputError with its last line where it fails."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # the wheel is to be tried
    done = subprocess.run(command, cwd=ROOT, env=inherited, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise InputError(" ".join(command), done.returncode, said[-1] if said else "failed")
    return done.stdout.strip()


def check_version(version: str, root: Path = ROOT) -> None:
    """Refuse a version that package, changelog and citation do not all have."""
    if not VERSION.fullmatch(version):
        raise InputError("version", version, "must be such as 0.2.0, or 0.2.0rc1")
    places = {
        "src/octorec/__init__.py": f'__version__ = "{version}"',
        "CITATION.cff": f"version: {version}",
        "CHANGELOG.md": f"## {version}",
    }
    for name, line in places.items():
        if line not in (root / name).read_text().splitlines():
            raise InputError(name, "no such line", f"must have the line {line!r}")
    if "## Next" in (root / "CHANGELOG.md").read_text().splitlines():
        raise InputError("CHANGELOG.md", "## Next", f"must be named ## {version} in a release")


def check_tree(version: str, git: Run = run) -> None:
    """Refuse a tree with changes, another branch than main, and a tag that is there."""
    changed = git(["git", "status", "--porcelain"]).splitlines()
    if changed:
        raise InputError("tree", changed[0], f"must be clean, and {len(changed)} files are changed")
    branch = git(["git", "rev-parse", "--abbrev-ref", "HEAD"])
    if branch != "main":
        raise InputError("branch", branch, "must be main")
    if git(["git", "tag", "--list", f"v{version}"]):
        raise InputError("tag", f"v{version}", "is there already: a release is not changed")


def build_and_try(version: str) -> None:
    """Build sdist and wheel into `dist/`, and ask the wheel for its version in an environment of its own."""
    run([sys.executable, "-m", "build", "--outdir", "dist"])
    wheel, source = f"dist/octorec-{version}-py3-none-any.whl", f"dist/octorec-{version}.tar.gz"
    for path in (wheel, source):
        if not (ROOT / path).is_file():
            raise InputError("dist", path, "was not built")
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = f"{folder}/bin/python"
        run([python, "-m", "pip", "install", "--quiet", f"{wheel}[serve,client]", "-c", "constraints.txt"])
        said = run([f"{folder}/bin/octorec", "--version"])
        if not said.startswith(f"octorec {version} "):
            raise InputError("wheel", said, f"must be octorec {version}")
        run([f"{folder}/bin/octorec", "doctor"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Do all steps, each with a line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--skip-tests", action="store_true")
    asked = parser.parse_args(arguments)
    steps: list[tuple[str, Callable[[], object]]] = [
        ("version, changelog and citation agree", lambda: check_version(asked.version)),
        ("the tree is clean, on main, and not tagged", lambda: check_tree(asked.version)),
    ]
    if not asked.skip_tests:
        steps += [(f"make {target}", lambda target=target: run(["make", target])) for target in TARGETS]  # type: ignore[misc]
    steps.append(("sdist and wheel, and the wheel in a new environment", lambda: build_and_try(asked.version)))
    if not asked.dry_run:
        tag = ["git", "tag", "--annotate", f"v{asked.version}", "--message", f"OctoRec {asked.version}"]
        steps.append((f"the tag v{asked.version}", lambda: run(tag)))
    for name, step in steps:
        try:
            step()
        except InputError as error:
            print(f"not released: {name}: {error}", file=sys.stderr)
            return 1
        print(f"done: {name}")
    print("dist/ is ready" if asked.dry_run else "tagged; docs/release.md says how to publish")
    return 0


if __name__ == "__main__":
    sys.exit(main())
