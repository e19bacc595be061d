"""The rows of `benchmarks.online_replay` as a table for docs/online.md."""

from benchmarks.rows import ReplayRow, recorded
from benchmarks.tables import newest, table

NOTHING = "Not yet measured: no row is recorded."
COLUMNS = ["people", "treatment", "expected", "verdict", "hits a user: difference", "users", "sample ratio, p"]


def page() -> str:
    """A line for each experiment: what was expected of it, and what `octorec ab report` said."""
    rows = newest(recorded("online_replay.jsonl", ReplayRow), lambda row: (row.set, row.experiment))
    if not rows:
        return NOTHING
    last = {row.set: row for row in rows}
    sets = "; ".join(
        f"{name}: {row.requests:,} requests (commit {row.environment.commit}, {row.environment.date})"
        for name, row in last.items()
    )
    said = f"Each experiment asked, margin 5 %, {sets}."
    return f"{table(COLUMNS, [_line(row) for row in rows])}\n\n{said}"


def _line(row: ReplayRow) -> list[str]:
    verdicts = [verdict.replace("_", " ") for verdict in (row.expected, row.outcome)]
    ratio = f"{row.report['sample_ratio']['p']:.2f}"
    return [row.set, row.experiment, *verdicts, _difference(row), f"{row.users:,}", ratio]


def _difference(row: ReplayRow) -> str:
    looks = row.report["looks"]
    if not looks:
        return "not judged"
    effect = looks[-1]["effects"][0]
    low, high = ("none" if end is None else f"{end:+.1%}" for end in (effect["low"], effect["high"]))
    return f"{effect['value']:+.1%} ({low} .. {high})"
