"""A process computes on one core fewer than it has, and its threads sleep while they wait."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from octorec import threads


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 8 cores, no quota, and nothing set; its control groups lie in the folder."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for name in ("CGROUPS", "MEMBERSHIP", "PROCESSORS"):
        monkeypatch.setattr(threads, name, tmp_path / name)
    monkeypatch.setattr(os, "environ", {})
    return tmp_path


def quota(machine: Path, membership: str, files: dict[str, str]) -> None:
    (machine / "MEMBERSHIP").write_text(membership)
    for name, text in files.items():
        path = machine / "CGROUPS" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_one_core_is_left_free(machine: Path) -> None:
    assert (threads.cores(), threads.threads()) == (8, 7)


def test_affinity_counts_and_one_core_is_enough(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert (threads.cores(), threads.threads()) == (1, 1)


def test_two_processors_of_one_core_are_one(machine: Path) -> None:
    for number in range(8):
        folder = machine / f"PROCESSORS/cpu{number}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{number % 4},{number % 4 + 4}\n")
    assert threads.cores() == 4


@pytest.mark.parametrize(
    ("membership", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "300000 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/pod/one\n", {"pod/cpu.max": "250000 100000\n", "pod/one/cpu.max": "max 100000\n"}, 2),
        ("0::/pod/one\n", {"pod/cpu.max": "800000 100000\n", "pod/one/cpu.max": "500000 100000\n"}, 5),
        (
            "4:memory:/x\n3:cpu,cpuacct:/\n",
            {"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            4,
        ),
        ("3:cpu:/pod\n", {"cpu/pod/cpu.cfs_quota_us": "-1\n", "cpu/pod/cpu.cfs_period_us": "100000\n"}, 8),
        ("3:cpuset:/pod\n", {"cpu/pod/cpu.cfs_quota_us": "1\n", "cpu/pod/cpu.cfs_period_us": "100000\n"}, 8),
        ("0::/gone\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "what is this\n"}, 8),
    ],
)
def test_the_quota_of_a_container_counts(machine: Path, membership: str, files: dict[str, str], cores: int) -> None:
    quota(machine, membership, files)
    assert threads.cores() == cores


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"OMP_NUM_THREADS": "7", "OMP_WAIT_POLICY": "PASSIVE"}),
        ({"OMP_NUM_THREADS": "12"}, {"OMP_NUM_THREADS": "12", "OMP_WAIT_POLICY": "PASSIVE"}),
        ({"OMP_WAIT_POLICY": "active"}, {"OMP_NUM_THREADS": "7", "OMP_WAIT_POLICY": "active"}),
    ],
)
def test_what_the_environment_says_is_kept(
    machine: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], expected: dict[str, str]
) -> None:
    os.environ.update(given)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    threads.share_the_cores()
    assert {name: os.environ[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("number", "given", "expected"), [(8, {}, 7), (5, {}, 5), (8, {"OMP_NUM_THREADS": "8"}, 8), (1, {}, 1)]
)
def test_a_torch_that_was_there_before_gets_its_number_unless_somebody_chose_another(
    machine: Path, monkeypatch: pytest.MonkeyPatch, number: int, given: dict[str, str], expected: int
) -> None:
    now = [number]
    torch = SimpleNamespace(get_num_threads=lambda: now[-1], set_num_threads=now.append)
    monkeypatch.setitem(sys.modules, "torch", torch)
    os.environ.update(given)
    threads.share_the_cores()
    assert now[-1] == expected
    assert (threads.COUNT in os.environ, threads.WAITING in os.environ) == (bool(given), False)


@pytest.mark.slow
def test_torch_computes_as_the_package_said() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in (threads.COUNT, threads.WAITING)}
    code = "import octorec, torch; print(torch.get_num_threads(), octorec.threads.threads())"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env={**environment, "OMP_DISPLAY_ENV": "TRUE"}, capture_output=True, text=True)
    found, said = done.stdout.split()
    assert found == said
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in done.stderr  # what torch's OpenMP has read
