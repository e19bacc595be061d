"""`octorec doctor` says each problem in one line with its remedy, and never fails itself."""

import json
import resource
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from octorec.doctor import machine, packages
from octorec.doctor.finding import Finding, findings
from octorec.errors import InputError
from tests.cli.test_command import said_at_the_end
from tests.serve.served import make_catalog, save_checkpoint


def problems(found: Iterator[Finding]) -> dict[str, str]:
    return {one.about: one.remedy for one in found if one.is_problem}


def test_a_sound_machine_is_told_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    code, _ = said_at_the_end(["doctor", "--json"])
    told = json.loads(capsys.readouterr().out)
    about = {one["about"]: one["found"] for one in told["findings"]}
    assert (code, told["problems"]) == (0, 0)
    assert about["torch"] == torch.__version__
    assert about["extra serve"] == "is there"
    assert about["cores"].endswith("cores, 1 threads")


def test_a_problem_is_one_line_with_its_remedy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1000")
    code, _ = said_at_the_end(["doctor"])
    said = capsys.readouterr().out.splitlines()
    assert code == 1
    assert said[-1] == "1 problem"
    assert said[-2].startswith("! cores: ")
    assert "To do: set OMP_NUM_THREADS" in said[-2]
    code, refused = said_at_the_end(["doctor", str(tmp_path / "none")])
    assert (code, refused) == (2, f"error: checkpoint: got '{tmp_path}/none'; there is no such file or folder\n")


def test_a_checkpoint_is_said_to_fit_or_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path / "model", make_catalog())
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert said_at_the_end(["doctor", str(tmp_path / "model")])[0] == 0
    assert "MB of weights" in capsys.readouterr().out
    monkeypatch.setattr("octorec.engine.memory.free_bytes", lambda device: 1000)
    assert said_at_the_end(["doctor", str(tmp_path / "model")])[0] == 1
    assert "To do: take a larger device" in capsys.readouterr().out


def test_a_check_that_fails_does_not_end_the_others() -> None:
    def broken() -> Iterator[Finding]:
        yield Finding("first", "fine")
        raise RuntimeError("a library\nis broken")

    def refused() -> Iterator[Finding]:
        raise InputError("device", "tpu", "allowed: cpu")
        yield

    found = [*findings({"broken": broken, "refused": refused, "last": lambda: [Finding("last", "fine")]})]
    assert [(one.about, one.is_problem) for one in found] == [
        ("first", False), ("broken", True), ("refused", True), ("last", False),
    ]  # fmt: skip
    assert "\n" not in found[1].found


def test_packages_that_lack_or_are_old_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = [
        "torch>=2.9",
        'absent>=1; extra == "serve"',
        'numpy>=99; extra == "bench"',
        'rich>=1; extra == "dev"',
        "gone",
    ]
    monkeypatch.setattr(packages, "requires", lambda name: needs)
    found = {one.about: one for one in packages.look_at_packages()}
    assert found["gone"].remedy == "pip install --upgrade octorec"
    assert found["extra serve"].found == "is not there (lacks absent)"
    assert not found["extra serve"].is_problem
    assert found["extra bench"].remedy == "pip install --upgrade 'octorec[bench]'"
    assert "dev" not in found
    assert not found["torch"].is_problem


def gpu(monkeypatch: pytest.MonkeyPatch, cuda: str | None, capability: tuple[int, int] | None = None) -> None:
    monkeypatch.setattr(torch.version, "cuda", cuda)
    fake: dict[str, Any] = {
        "is_available": lambda: capability is not None,
        "device_count": lambda: 1,
        "get_device_name": lambda n: "a card",
        "get_device_capability": lambda n: capability,
        "mem_get_info": lambda n: (2**34, 2**35),
    }
    for name, value in fake.items():
        monkeypatch.setattr(torch.cuda, name, value)


@pytest.mark.parametrize(
    ("capability", "said"), [((9, 0), "BF16 and FP8"), ((8, 0), "no FP8"), ((7, 0), None), ((99, 0), None)]
)
def test_a_card_is_told_what_runs_there(
    capability: tuple[int, int], said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu(monkeypatch, "12.8", capability)
    (found,) = machine.look_at_gpus()
    assert "16.0 of 32.0 GiB are free" in found.found
    assert found.is_problem is (said is None)
    assert said is None or said in found.found


def test_a_card_that_torch_does_not_see_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "DRIVER", tmp_path / "version")
    for cuda in (None, "12.8"):
        gpu(monkeypatch, cuda)
        (found,) = machine.look_at_gpus()
        assert not found.is_problem
    (tmp_path / "version").write_text("NVRM version: NVIDIA 570.1\nGCC\n")
    for cuda, remedy in ((None, "CUDA build"), ("12.8", "nvidia-smi")):
        gpu(monkeypatch, cuda)
        (found,) = machine.look_at_gpus()
        assert remedy in found.remedy
        assert "570.1" in found.found


def test_limits_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda what: (256, 512))
    assert "descriptors" in problems(iter([*machine.look_at_host()]))
    monkeypatch.setattr(machine, "SHARED", tmp_path / "none")
    assert "shared memory" in problems(machine.look_at_shared_memory())
    monkeypatch.setattr(machine, "SHARED", tmp_path)
    monkeypatch.setattr(machine.os, "statvfs", lambda path: SimpleNamespace(f_bavail=1, f_frsize=4096))
    assert "shared memory" in problems(machine.look_at_shared_memory())


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "cache" / "abc").mkdir(parents=True)
    (tmp_path / "cache" / "abc" / "kernel.cubin").write_bytes(b"x" * 2**20)
    (found,) = machine.look_at_kernels()
    assert found.found == f"1 in {tmp_path}/cache (1 MiB)"
    monkeypatch.setattr(machine.os, "access", lambda path, how: False)
    assert "kernel cache" in problems(machine.look_at_kernels())


def test_it_asks_for_nothing_that_is_not_needed() -> None:
    source = "".join(path.read_text() for path in Path(machine.__file__).parent.glob("*.py"))
    assert "octorec.serve" not in source
