"""Where `auto` begins is measured: shares are those that are counted by hand, and the cheapest width is chosen."""

from types import SimpleNamespace

import numpy as np
import pytest

from octorec.engine.engine import Engine, EngineConfig
from octorec.engine.request import Request
from octorec.errors import InputError
from octorec.evaluate import beam_starts
from octorec.evaluate.beam_starts import MeasuredWidths, measure_widths
from tests.engine.made_up import MadeUpModel, random_catalog

SIZES = (6, 5, 4)
WIDTHS = (2, 4, 8, 120)
KS = (1, 3, 8)


class Sharp(MadeUpModel):
    """A model that is sure of its codes."""

    def logits(self, seed: int, path: tuple[int, ...], level: int) -> np.ndarray:
        return super().logits(seed, path, level) * 4


def engine(model: MadeUpModel) -> Engine:
    config = EngineConfig(8, batch_sizes=(1, 8), beam_widths=WIDTHS, default_beam_width=WIDTHS[-1])
    return Engine(model, random_catalog(110, SIZES), config)


def requests(n: int = 40) -> list[Request]:
    return [Request([f"i{number}"], k=1, beam_width=1) for number in range(n)]


@pytest.fixture
def rows_take_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search takes a second a beam, whatever this machine does meanwhile."""
    now = [0.0]
    recommend = Engine.recommend

    def timed(self: Engine, asked: list[Request]) -> object:
        now[0] += max(int(request.beam_width or 0) for request in asked)  # type: ignore[arg-type]
        return recommend(self, asked)

    monkeypatch.setattr(Engine, "recommend", timed)
    monkeypatch.setattr(beam_starts, "time", SimpleNamespace(perf_counter=lambda: now[0]))


def measured(model: MadeUpModel) -> MeasuredWidths:
    return measure_widths(engine(model), requests(), KS)


def scores(subject: Engine, width: int, asked: Request) -> tuple[list[float], float]:
    """All scores that a beam ends with, and the best that it dropped."""
    found = subject.search([subject.parse(Request(asked.history, k=1, beam_width=width))])
    return found.scores[0].tolist(), float(found.bounds[0].max())


@pytest.mark.slow
@pytest.mark.usefixtures("rows_take_time")
def test_shares_are_those_that_are_counted_by_hand() -> None:
    subject = engine(Sharp(SIZES))
    found = measured(Sharp(SIZES))
    assert [one.beam_width for one in found.widths] == list(WIDTHS)
    assert (found.requests, found.batch) == (40, 8)
    narrow = 0
    for one in found.widths:
        assert list(one.certified) == [k for k in KS if k <= one.beam_width]
        for k, share in one.certified.items():
            sure = 0
            for asked in requests():
                items = subject.recommend([Request(asked.history, k=k, beam_width=one.beam_width)])[0].scores
                bound = scores(subject, one.beam_width, asked)[1]
                sure += bound == -np.inf or (len(items) == k and items[-1] > bound)
            assert share == pytest.approx(sure / 40)
            narrow += 0 < share < 1
    assert narrow > 2, "some shares lie between none and all"
    assert all(share == 1 for share in found.widths[-1].certified.values())


@pytest.mark.slow
@pytest.mark.usefixtures("rows_take_time")
def test_a_repeat_costs_what_the_width_takes_that_it_is_repeated_with() -> None:
    subject, found = engine(Sharp(SIZES)), measured(Sharp(SIZES))
    for one in found.widths:
        assert one.ms == one.beam_width * 1000
        for k in one.certified:
            again = 0.0
            for asked in requests():
                answer = subject.recommend([Request(asked.history, k=k, beam_width=one.beam_width)])[0]
                if answer.bound is None or (answer.complete and answer.scores[-1] > answer.bound):
                    continue
                enough = 1 / np.exp(answer.scores[-1]) if answer.complete else np.inf
                wider = [width for width in WIDTHS if width > one.beam_width and width >= np.floor(enough)]
                again += (wider or [WIDTHS[-1]])[0] * 1000 * (one.beam_width < WIDTHS[-1])
            assert one.repeats[k] == pytest.approx(again / 40)
            assert one.cost(k) == one.ms + one.repeats[k]


@pytest.mark.usefixtures("rows_take_time")
def test_a_sharp_model_begins_narrow_and_a_flat_one_at_the_widest() -> None:
    sharp, flat = measured(Sharp(SIZES)), measured(MadeUpModel(SIZES, levels_of_score=1))
    assert sharp.starts.widths[1] < WIDTHS[-1]
    assert [sharp.starts.widths[k] for k in KS] == sorted(sharp.starts.widths[k] for k in KS)
    assert flat.starts.widths == dict.fromkeys(KS, WIDTHS[-1])
    for found in (sharp, flat):
        for k, width in found.starts.widths.items():
            costs = {one.beam_width: one.cost(k) for one in found.widths if k in one.certified}
            assert costs[width] == min(costs.values())


@pytest.mark.parametrize(
    ("widths", "ks", "count", "said"),
    [
        ((8,), (1,), 1, "two widths or more"),
        (((2, 4, 8), 16), (1,), 1, "two widths or more"),
        ((2, 8), (1, 9), 1, "k: got 9; at most the widest beam, 8"),
        ((2, 8), (1,), 0, "requests: got 0; give at least one request"),
    ],
)
def test_what_cannot_be_measured_is_refused(widths: tuple, ks: tuple[int, ...], count: int, said: str) -> None:
    config = EngineConfig(8, batch_sizes=(1,), beam_widths=widths, default_beam_width=widths[-1])
    subject = Engine(MadeUpModel(SIZES), random_catalog(110, SIZES), config)
    with pytest.raises(InputError, match=said):
        measure_widths(subject, requests(count), ks)
