"""A copy of the checkout, in which wheel and sdist are built without touching the checkout itself."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def copy_checkout(target: Path) -> list[str]:
    """Copy the files that git knows, or of an unpacked sdist all; give their names, relative to the root."""
    for name in (names := _names()):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target / name)
    return names


def _names() -> list[str]:
    if not (ROOT / ".git").exists():
        made = {".venv", ".pytest_cache", ".mypy_cache", ".ruff_cache", "__pycache__", "runs", "build", "dist"}
        found = [path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file()]
        return [path.as_posix() for path in found if not made & set(path.parts)]
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def build(folder: Path) -> tuple[Path, Path]:
    """Build the project in `folder`: the sdist, and out of that the wheel."""
    command = [sys.executable, "-m", "build", "--no-isolation", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,), (wheel,) = folder.glob("dist/*.tar.gz"), folder.glob("dist/*.whl")
    return sdist, wheel
