"""What a server keeps under overload: `make test-long`, on an idle machine."""

from collections.abc import Iterator

import pytest
from overloaded import beside_large_bodies, in_time, of_a_polite_client, require, timed

from tests.serve.served import make_catalog, save_checkpoint

TWICE = [(2, deadline_s, 0.9) for deadline_s in (0.5, 1.0, 3.0)]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("overload") / "model"
    save_checkpoint(folder, make_catalog())
    with timed(folder) as port:
        yield port


@pytest.mark.parametrize(("times", "deadline_s", "wanted"), [*TWICE, (10, 1.0, 0.8)])
def test_deadlines_are_kept(times: float, deadline_s: float, wanted: float, port: int) -> None:
    require(wanted, lambda: in_time(port, times, deadline_s, 5))


def test_a_polite_client_keeps_its_answers(port: int) -> None:
    require(0.95, lambda: of_a_polite_client(port, 6))


def test_large_bodies_that_are_refused_cost_little(port: int) -> None:
    require(0.8, lambda: beside_large_bodies(port, 6))
