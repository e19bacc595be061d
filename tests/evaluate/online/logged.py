"""Small experiments, exposures and outcomes for tests that join them."""

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa

from octorec.evaluate.online.experiment import Experiment, parse_experiment
from octorec.evaluate.online.exposures import read_exposures
from octorec.evaluate.online.join import join
from octorec.evaluate.online.joined import Joined
from octorec.evaluate.online.log import RowLog
from octorec.evaluate.online.rows import EXPOSURES, OUTCOMES

DAY = 86400
START = 1_700_000_000
HALVES = {"control": Fraction(1, 2), "b": Fraction(1, 2)}
STAGES = [SimpleNamespace(number=number, since=START + number, shares=HALVES) for number in (0, 1)]


def experiment(**metrics: dict) -> Experiment:
    """Control and b, half each. metrics: as in a file, `click` (the sum in a day) if there are none."""
    given = {name: {"kind": "mean", "event": name, "window": "1d", **one} for name, one in metrics.items()}
    return parse_experiment(
        {
            "name": "x",
            "salt": "salt-of-x",
            "unit": "user_id",
            "variants": {"control": {"share": 0.5}, "b": {"share": 0.5}},
            "metrics": {name: {"role": "guardrail", "margin": 0.01, **one} for name, one in (given or CLICK).items()},
            "plan": {"units": 1000},
        }
    )


CLICK = {"click": {"kind": "mean", "event": "click", "window": "1d"}}


def exposure(unit: str, time: float = 0, variant: str = "control", **more: object) -> dict:
    """A row at START + `time`."""
    row = {
        "time": START + time, "experiment": "x", "stage": 0, "unit": unit, "variant": variant, "group": "experiment",
        "request_id": f"{unit}-{time}", "ended": "answered", "items": ["i1"], "model": "m", "catalog": "c",
        "latency_ms": 2.0,
    }  # fmt: skip
    return row | more


def outcome(unit: str | None, time: float, event: str = "click", value: float = 1.0, **more: object) -> dict:
    """A row at START + `time`."""
    return {"time": START + time, "unit": unit, "event": event, "value": value, **more}


def log(folder: Path, rows: list[dict], schema: pa.Schema = EXPOSURES) -> Path:
    """Write rows as one server process does."""
    made = RowLog(folder, schema)
    for row in rows:
        made.add(row)
    made.close(60)
    assert made.lost == 0
    return folder


def table(rows: list[dict], schema: pa.Schema) -> pa.Table:
    """Rows as `read_exposures` and `read_outcomes` give them."""
    names = schema.names
    columns = {name: pa.array([row.get(name) for row in rows]) for name in names}
    columns["time"] = pa.array([round(row["time"] * 1e6) for row in rows], pa.int64())
    return pa.table({name: columns[name].cast(schema.field(name).type) for name in names}, schema=schema)


def joined(exposures: list[dict], outcomes: list[dict], now: float = 10 * DAY, **metrics: dict) -> Joined:
    """The join of rows at START + `now`."""
    return join(
        experiment(**metrics), STAGES, table(exposures, EXPOSURES), table(outcomes, OUTCOMES), START + now, {"given": 3}
    )


def both(folder: Path) -> tuple[list[dict], dict[str, int]]:
    """What a folder's exposures are, as plain rows, and the counts."""
    found, counts = read_exposures(folder)
    return found.to_pylist(), counts
