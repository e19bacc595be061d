"""A made-up shop in which FP8 takes the place of BF16: 20,000 customers, half of them in each variant.

    python tests/evaluate/online/shop.py FOLDER

writes what a server and a shop would have: FOLDER/experiments/fp8-shop with its record and exposures, and the shop's
own past.csv and outcomes.csv. Customers click at rates of their own, some of them order, and FP8 changes nothing.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from octorec.evaluate.online.assign import assign
from octorec.evaluate.online.experiment import Experiment, read_experiment
from octorec.evaluate.online.exposures import EXPOSURES_FOLDER
from octorec.evaluate.online.log import RowLog
from octorec.evaluate.online.record import start
from octorec.evaluate.online.rows import EXPOSURES

DAY = 86400.0
START = datetime(2026, 11, 2, tzinfo=UTC).timestamp()
UNITS, PAST_DAYS, ENTERING_DAYS, WINDOW_DAYS = 20_000, 35, 14, 7
CLICKS_A_DAY, ORDERS = 3 / 7, 0.3  # a click rate is Gamma of shape 1.5; a share of customers orders in a week


def make(folder: Path, experiment: Experiment, units: int = UNITS, loss: float = 0.0, seed: int = 0) -> Path:
    """The shop's files and the experiment's folder, which comes back. loss: share of FP8's clicks that are lost."""
    rng = np.random.default_rng(seed)
    names = [str(100_000 + number) for number in range(units)]
    variants = np.array([assign(experiment, name).variant for name in names])
    entered = START + ENTERING_DAYS * DAY * np.sort(rng.random(units))
    rates = rng.gamma(1.5, CLICKS_A_DAY / 1.5, units)
    begin = START - PAST_DAYS * DAY
    past = [_events(rng, "click", rates * PAST_DAYS, np.full(units, begin), np.full(units, START))]
    end = entered + WINDOW_DAYS * DAY
    here = [
        _events(rng, "click", rates * np.where(variants == "control", 1, 1 - loss) * WINDOW_DAYS, entered, end),
        _events(rng, "order", np.full(units, -np.log1p(-ORDERS)), entered, end),
    ]
    past.append(
        _events(
            rng,
            "order",
            np.full(units, -np.log1p(-ORDERS) * PAST_DAYS / 7),
            np.full(units, begin),
            np.full(units, START),
        )
    )
    _write(folder / "past.csv", names, past)
    _write(folder / "outcomes.csv", names, here)
    root = folder / "experiments"
    root.mkdir(parents=True, exist_ok=True)
    record = start(root, experiment, {name: (f"{name}-1", "catalog-1") for name in experiment.variants}, START)
    _expose(record.folder, experiment, names, variants, entered)
    return record.folder


def _events(rng: np.random.Generator, event: str, mean: np.ndarray, since: np.ndarray, until: np.ndarray) -> pa.Table:
    """Events of each unit at a Poisson number of times between `since` and `until`: time, unit's place, event."""
    units = np.repeat(np.arange(len(mean)), rng.poisson(mean))
    times = since[units] + rng.random(len(units)) * (until - since)[units]
    return pa.table({"time": times, "unit": units, "event": [event] * len(units)})


def _write(path: Path, names: list[str], events: list[pa.Table]) -> None:
    """A CSV as shops have it, with their own names of columns."""
    table = pa.concat_tables(events).sort_by("time")
    times, units = (table.column(name).to_numpy() for name in ("time", "unit"))
    when = pa.array((times * 1000).astype("int64"), pa.timestamp("ms", "UTC"))
    customers = pa.array(names).take(pa.array(units))
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.csv.write_csv(pa.table({"when": when, "customer": customers, "what": table.column("event")}), path)


def _expose(folder: Path, experiment: Experiment, names: list[str], variants: np.ndarray, entered: np.ndarray) -> None:
    """One request of each unit, as a server logs it."""
    log = RowLog(folder / EXPOSURES_FOLDER, EXPOSURES)
    for number, (name, variant, time) in enumerate(zip(names, variants.tolist(), entered.tolist(), strict=True)):
        log.add(
            {
                "time": time,
                "experiment": experiment.name,
                "stage": 0,
                "unit": name,
                "variant": variant,
                "group": "experiment",
                "request_id": f"request-{number}",
                "ended": "answered" if number % 500 else "short",
                "items": ["1", "2", "3"],
                "model": f"{variant}-1",
                "catalog": "catalog-1",
                "latency_ms": 12.5,
            }
        )
    log.close(60.0)
    assert log.lost == 0


if __name__ == "__main__":
    print(make(Path(sys.argv[1]), read_experiment(Path(sys.argv[1]) / "experiment.yaml")))
