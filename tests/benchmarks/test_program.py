"""A benchmark that needs a GPU says so in one line where there is none; so does one that is told a wrong device."""

import io
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch

from octorec import terminal

ROOT = Path(__file__).parents[2]
PROGRAMS = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text()
    for path in sorted([*(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "studies").rglob("*.py")])
    if '__name__ == "__main__"' in path.read_text()
}
NEED_A_GPU = [name for name, text in PROGRAMS.items() if 'run(main, "cuda")' in text]
GIVEN_ONE = {
    "benchmarks.judging": ["bf16", "fp8", "--data", "d"],
    "benchmarks.offline": [],
    "benchmarks.online_replay": ["folder"],
    "benchmarks.ray_overhead": ["checkpoint"],
    "benchmarks.serve_goodput": [],
    "benchmarks.serve_overhead": ["checkpoint"],
    "benchmarks.serve_refresh": [],
    "benchmarks.serve_soak": ["checkpoint"],
    "studies.exact.run": ["bf16", "fp8", "--data", "d", "--out", "o"],
    "studies.exact.trials": ["--data", "d", "--out", "o", "--settings", "s"],
    "studies.qwen.overlap": ["folder", "--data", "d", "--out", "o"],
    "studies.qwen.run": ["folder", "--data", "d", "--out", "o"],
    "studies.quality.run": ["--set", "beauty", "--data", "d", "--out", "o"],
    "studies.quality.sweep": ["--set", "beauty", "--data", "d", "--out", "o"],
}


def test_every_program_ends_in_one_line() -> None:
    assert len(NEED_A_GPU) >= 8
    assert {name for name, text in PROGRAMS.items() if '"--device"' in text} == {*GIVEN_ONE}
    assert not [
        name
        for name, text in PROGRAMS.items()
        if not re.search(r"run\(main|draw\(FOLDER\)|exit\(main\(\)\)|FILE\.write_text", text)
    ]


@pytest.mark.parametrize("name", [*NEED_A_GPU, *GIVEN_ONE])
def test_a_device_that_is_not_there(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    given = [*GIVEN_ONE[name], "--device", "gpu"] if name in GIVEN_ONE else []
    monkeypatch.setattr(sys, "argv", [name, *given])
    monkeypatch.setattr(terminal.console, "_file", said := io.StringIO())
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(name, run_name="__main__")
    assert ended.value.code == 2
    assert said.getvalue().startswith(f"error: device: got {'gpu' if given else 'cuda'!r}; ")
    assert said.getvalue().count("\n") == 1
    assert not [*tmp_path.iterdir()]
