"""What an overload leaves: answers in time, a polite client's share, and refusals that are cheap.

Half of what `long_runs.py` asks for, as other work may share the machine; and the queue is short, as it is waited for.
"""

from collections.abc import Iterator

import pytest
from overloaded import beside_large_bodies, in_time, of_a_polite_client, require, timed

from tests.serve.served import make_catalog, save_checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("overload") / "model"
    save_checkpoint(folder, make_catalog())
    with timed(folder, "--max-queued-requests", "64") as port:
        yield port


@pytest.mark.parametrize(("times", "wanted"), [(2, 0.45), (10, 0.4)])
def test_deadlines_are_kept_at_twice_and_ten_times_the_capacity(times: float, wanted: float, port: int) -> None:
    require(wanted, lambda: in_time(port, times, 1.0, 3))


def test_a_polite_client_keeps_its_answers_beside_eight_connections_of_lists(port: int) -> None:
    require(0.475, lambda: of_a_polite_client(port, 4))


def test_large_bodies_that_are_refused_cost_little(port: int) -> None:
    require(0.4, lambda: beside_large_bodies(port, 4))
