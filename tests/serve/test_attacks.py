"""Liveness is answered while each attack goes on that needs no token."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.attack_cases import CASES
from benchmarks.attack_server import Served, serving
from benchmarks.attacks import attacked
from benchmarks.overload_model import save_demo_size
from tests.serve.served import WORKER_FLAGS

SECONDS = 1.5  # of each attack
LIVE_MS = 1000.0  # at most, of 99 of 100 probes; an idle machine shows a tenth of it (docs/security.md)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("attacked")
    save_demo_size(folder / "model")
    with serving(folder / "model", folder, *WORKER_FLAGS) as served:
        yield served


@pytest.mark.parametrize("name", CASES)
def test_liveness_is_answered_within_a_second(name: str, server: Served) -> None:
    row = attacked(CASES[name], server, "after", {}, SECONDS)
    assert row.live_failed == 0
    assert row.live_p99_ms is not None
    assert row.live_p99_ms < LIVE_MS
