"""A part of the tests in a new virtual environment that holds one pinned set of versions.

    python -m studies.versions oldest        # the lower bounds of pyproject.toml
    python -m studies.versions newest

Python and the machine are those that run it. PIP_ARGS in the environment are arguments of pip, such as an index.
The exit code is that of the tests.
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SETS = {"oldest": "constraints-oldest.txt", "newest": "constraints-newest.txt"}
EXTRAS = "serve,grpc,client,bench,qwen"
TOOLS = ("pytest", "pytest-timeout", "hypothesis", "psutil")
MODELS = ("checkpoint", "config", "context_module", "features", "names", "onerec", "shapes")
TESTS = (
    "tests/data", "tests/catalog", "tests/quant", "tests/client", "tests/test_settings.py",
    "tests/engine/test_engine.py",
    "tests/serve/test_recommend.py", "tests/serve/test_serve_errors.py",
    *(f"tests/models/test_{name}.py" for name in MODELS),  # the others need transformers
)  # fmt: skip
# They write types that pyarrow 19 reads and does not write, or ask for transformers.
LEFT_OUT = (
    "tests/data/test_every_type.py", "tests/data/test_items.py::test_lists_of_every_form_are_read",
    "tests/data/test_interactions.py::test_ids_of_other_types_become_text",
    "tests/data/test_users.py::test_parquet_fields_of_every_plain_type", "tests/quant/test_compressed_tensors.py",
    "tests/quant/test_foreign_fp8.py", "tests/quant/test_qwen_folders.py",
)  # fmt: skip


def install(constraints: Path, folder: Path) -> Path:
    """Install the checkout's package, its extras and the tests' tools; return the environment's Python."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin/python"
    pip = [str(python), "-m", "pip", "install", "--quiet", *shlex.split(os.environ.get("PIP_ARGS", ""))]
    subprocess.run([*pip, "-e", f"{ROOT}[{EXTRAS}]", *TOOLS, "-c", str(constraints)], check=True)
    return python


def test(python: Path) -> int:
    """Run the chosen tests with an environment's Python; return the exit code of pytest."""
    left_out = [f"--deselect={name}" if "::" in name else f"--ignore={name}" for name in LEFT_OUT]
    command = [str(python), "-m", "pytest", "-q", "-m", "not slow and not gpu", *left_out, *TESTS]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=list(SETS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            python = install(ROOT / SETS[options.set], Path(folder) / "venv")
        except subprocess.CalledProcessError as error:
            print(f"the set cannot be installed: {' '.join(map(str, error.cmd))} ended with {error.returncode}")
            return 2
        return test(python)


if __name__ == "__main__":
    sys.exit(main())
