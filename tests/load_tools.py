"""aiperf, in a virtual environment of its own, asks a server as docs/openai.md says: run by `make test-long`.

PIP_ARGS in the environment are arguments of pip, such as an index.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fresh_install import run
from tests.package_copy import ROOT
from tests.qwen.made_models import Training, made_interactions, make_folder
from tests.qwen.sid2pid_files import sid2pid

PAGE = (ROOT / "docs" / "openai.md").read_text()
(BLOCK,) = re.findall(r"^```bash\n(pip install aiperf.*?)^```", PAGE, re.S | re.M)
LINES = re.sub(r"\\\n\s*", "", BLOCK).strip().splitlines()
ASKED = [line for line in LINES if line.startswith("aiperf ")]
(SERVE,) = re.findall(r"^octorec serve .*$", PAGE, re.M)
SHAPES = ("--beam-widths", "16", "--default-beam-width", "16")
pytestmark = pytest.mark.timeout(3600)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the page names: a trained model, its catalog, the body that a template makes."""
    made = tmp_path_factory.mktemp("asked")
    one = make_folder(made / "OneRec-1.7B", "openonerec", made_interactions(), Training())
    sid2pid(made / "sid2pid.json", one.catalog, range(100), 1000)
    (line,) = [line for line in LINES if line.startswith("echo ")]
    subprocess.run(line, shell=True, cwd=made, check=True)
    return made


@pytest.fixture(scope="module")
def aiperf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    environment = tmp_path_factory.mktemp("aiperf")
    run(sys.executable, "-m", "venv", environment, cwd=environment)
    pip = (environment / "bin/python", "-m", "pip", *shlex.split(LINES[0].partition("#")[0])[1:], "--quiet")
    run(*pip, *shlex.split(os.environ.get("PIP_ARGS", "")), cwd=environment)
    return environment / "bin/aiperf"


@pytest.fixture(scope="module")
def port(folder: Path) -> Iterator[str]:
    """Where `octorec serve` of the page listens."""
    words = shlex.split(SERVE.replace("--port 8080", "--port 0"))[1:]
    command = [sys.executable, "-m", "octorec", *words, *SHAPES]
    log = folder / "serve.log"
    with log.open("w") as written, subprocess.Popen(command, stderr=written, cwd=folder) as server:
        try:
            lines: list[dict[str, Any]] = []
            while not lines or lines[-1]["message"] != "ready":
                assert server.poll() is None, log.read_text()
                time.sleep(0.2)
                lines = [json.loads(one) for one in log.read_text().splitlines() if one.endswith("}")]
            yield str(next(one["port"] for one in lines if "port" in one))
        finally:
            server.send_signal(signal.SIGTERM)


@pytest.mark.parametrize("line", ASKED, ids=lambda line: line.split("--endpoint-type ")[1].split()[0])
def test_aiperf_is_answered(line: str, aiperf: Path, folder: Path, port: str, tmp_path: Path) -> None:
    words = shlex.split(line.replace("8080", port))[1:]
    run(aiperf, *words, "--wait-for-model-timeout", "60", "--artifact-dir", tmp_path, cwd=folder)
    found: Any = json.loads((tmp_path / "profile_export_aiperf.json").read_text())
    assert found["request_count"]["avg"] == 20
    assert found["error_summary"] == []
    if "template" not in words:
        assert found["output_sequence_length"]["avg"] == 3 * 16
