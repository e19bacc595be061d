"""What docs/qwen.md tells a reader to run, runs: the folders and files that it names are made ones here."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from peft import LoraConfig, get_peft_model

from octorec.parity.theirs import open_model
from tests.cli.test_cli import octorec
from tests.qwen.made_models import Made
from tests.qwen.sid2pid_files import sid2pid

PAGE = (Path(__file__).parents[2] / "docs" / "qwen.md").read_text()
SECTION = PAGE[PAGE.index("## Serve it") : PAGE.index("## Which token is which code")]
COMMANDS = re.findall(r"^octorec (.*)$", SECTION, re.M)
(ASKED,) = re.findall(r"^curl .*?(/v1/recommend) -d '(.*)'$", SECTION, re.M)


@pytest.fixture
def named(made: Callable[[str], Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with everything that the section names."""
    monkeypatch.chdir(tmp_path)
    folders = {"OneRec-1.7B": "openonerec", "OneReason-8B": "onereason", "MiniOneRec": "minionerec"}
    for name, layout in folders.items():
        Path(name).symlink_to(made(layout).folder)
    base = made("openonerec")
    get_peft_model(open_model(base.folder), LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained("my-adapter")
    for name, first in (("sid2pid", 1000), ("video", 1000), ("product", 5000)):
        sid2pid(Path(f"{name}.json"), base.catalog, range(100), first)
    rows = enumerate(made("minionerec").catalog.codes)
    tokens = {str(item): [f"<{'abc'[level]}_{code}>" for level, code in enumerate(row)] for item, row in rows}
    Path("Office.index.json").write_text(json.dumps(tokens))
    return tmp_path


def test_every_command_answers(named: Path) -> None:
    ran = 0
    for line in COMMANDS:
        verb, *arguments = shlex.split(line)
        if verb == "recommend":
            said = octorec(verb, *arguments, "--beam-width", "16").stdout
            assert re.search(r"^ +1 +-\d+\.\d{4} ", said, re.M), said
            assert ("<|sid_begin|>" in said) == ("--show-prompt" in arguments)
            ran += 1
    assert ran == 5


@pytest.mark.slow
def test_the_server_of_the_page_answers_its_request(named: Path) -> None:
    import httpx

    (line,) = [line for line in COMMANDS if line.startswith("serve ")]
    arguments = shlex.split(line.replace("--port 8080", "--port 0"))
    command = [sys.executable, "-m", "octorec", *arguments, "--beam-widths", "16", "--default-beam-width", "16"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        assert server.stderr
        port, message = 0, ""
        while message != "ready":
            said = json.loads(server.stderr.readline())
            port, message = said.get("port", port), said["message"]
        path, body = ASKED
        answer = httpx.post(f"http://127.0.0.1:{port}{path}", content=body, timeout=60).json()
        assert len(answer["items"]) == json.loads(body)["k"]
        assert answer["prompt_tokens"] > 0
        assert np.all(np.diff(answer["scores"]) <= 0)
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)
