"""The newest run of `studies.exact.run` of each model as tables for docs/exact.md; `benchmarks.report` calls these."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from benchmarks import records
from benchmarks.records import Row
from benchmarks.rows import FILES, recorded
from benchmarks.rows.exact import (
    BatchTimesRow,
    CertifiedRow,
    ExactDifferenceRow,
    ExactRow,
    PolicyAnswersRow,
    ScheduleVerdict,
    ShopRow,
    StartsRow,
    TemperatureRow,
)
from benchmarks.rows.verdicts import Interval
from benchmarks.tables import table

NOTHING = "Not yet measured: no row is recorded."
R = TypeVar("R", bound=ExactRow)


def rows() -> list[ExactRow]:
    """The rows of each model's newest run."""
    return newest_run(recorded("exact.jsonl", ExactRow))


def newest_run(found: Sequence[ExactRow]) -> list[ExactRow]:
    """Return the rows of each model's newest run, the models in the order of those runs."""
    newest: dict[str, str] = {}
    for row in found:
        newest[row.model] = max(newest.get(row.model, ""), row.run)
    ordered = sorted(newest, key=lambda model: newest[model])
    return [row for model in ordered for row in found if row.model == model and row.run == newest[model]]


def certified() -> str:
    """The share of answers that each width certifies, of the real catalog and of the larger one."""
    return _certified(rows())


def _certified(found: Sequence[ExactRow]) -> str:
    of_run = _of(found, CertifiedRow)
    if not of_run:
        return NOTHING
    widths = sorted({row.beam_width for row in of_run})
    lines = []
    for (items, subject), group in _grouped(of_run).items():
        widest = max(group, key=lambda row: row.beam_width)
        for k in widest.certified:
            shares = {row.beam_width: row.certified[k] for row in group if k in row.certified}
            cells = [f"{shares[width]:.3f}" if width in shares else "" for width in widths]
            lines.append([f"{items:,}", subject, f"{widest.mass:.3f} / {widest.recall_10:.3f}", k, *cells])
    columns = ["items", "model", "mass / recall@10", "k", *(f"{width} beams" for width in widths)]
    made = max(row.made_up for row in of_run)
    larger = f" The larger catalog has {made:,} made-up neighbours of real items." if made else ""
    return f"{table(columns, lines)}\n\n{_measured(of_run)}{larger}"


def policies() -> str:
    """What each policy costs and certifies, the schedule's verdict, and how exact answers compare."""
    return _policies(rows())


def _policies(found: Sequence[ExactRow]) -> str:
    found = _calibrated(found)
    of_run, timed = _of(found, PolicyAnswersRow), _of(found, BatchTimesRow)
    if not of_run:
        return NOTHING
    waits = {(_subject(row), row.policy, row.k): row for row in timed}
    seen = {(_subject(row), row.policy, row.k): row for row in of_run}
    lines = []
    for key in dict.fromkeys((*seen, *waits)):
        row, wait = seen.get(key), waits.get(key)
        answers = [f"{row.exact:.1%}", f"{row.repeated:.1%}", f"{row.found:.1f}"] if row else ["", "", ""]
        lines.append([*key, *answers, *([f"{wait.p50_ms:.1f}", f"{wait.p99_ms:.1f}"] if wait else ["", ""])])
    batch = f" (batches of {timed[0].batch})" if timed else ""
    columns = ["model", "policy", "k", "exact", "repeated", "items found", f"p50, ms{batch}", "p99, ms"]
    same = [
        f"{_subject(row)}, `{row.policy}`, k {row.k}: {row.differ} of {row.both_exact:,} answers that are exact on "
        f"both sides differ from those of 512 beams, {row.near_ties} more are near ties; the scores of "
        f"{row.equal_scores:.1%} have the same bits, the largest difference is {row.score_difference:.2g} nats."
        for row in _of(found, ExactDifferenceRow)
    ]
    parts = [table(columns, lines), *same, _starts(found), _verdicts(found), _measured(of_run)]
    return "\n\n".join(part for part in parts if part)


def _starts(found: Sequence[ExactRow]) -> str:
    lines = [
        [_subject(row), *row.starts.values(), *(f"{ms:.1f}" for ms in row.ms.values())] for row in _of(found, StartsRow)
    ]
    if not lines:
        return ""
    first = _of(found, StartsRow)[0]
    columns = [*(f"`auto` begins, k {k}" for k in first.starts), *(f"{width} beams, ms" for width in first.ms)]
    return table([f"model, batches of {first.batch}", *columns], lines)


def _verdicts(found: Sequence[ExactRow]) -> str:
    lines = [
        [
            _subject(row),
            row.policy,
            row.k,
            *(_ratio(row, name) for name in ("recall", "ndcg")),
            row.verdict.replace("_", " "),
        ]
        for row in _of(found, ScheduleVerdict)
    ]
    columns = ["model", "against 512 beams at each level", "k", "recall", "NDCG", "at a margin of 1 %"]
    return table(columns, lines) if lines else ""


def recall() -> str:
    """Recall, NDCG and overlap of each policy; the model beside the Markov chain; what calibration changed."""
    return _recall(rows())


def _recall(found: Sequence[ExactRow]) -> str:
    of_run, shops = _of(_calibrated(found), PolicyAnswersRow), _of(found, ShopRow)
    if not of_run and not shops:
        return NOTHING
    cuts = list(dict.fromkeys(cut for row in of_run for cut in row.recall))
    lines = [[_subject(row), row.policy, row.k, *(_cell(row, cut) for cut in cuts)] for row in of_run]
    beside = [
        [row.shop, _subject(row), f"{row.requests:,}", f"{row.nll:.3f}",
         f"{row.recall_10:.4f} ({row.markov_recall_10:.4f})", f"{row.ndcg_10:.4f} ({row.markov_ndcg_10:.4f})",
         _ends(row.recall_lead), _ends(row.ndcg_lead)]
        for row in shops
    ]  # fmt: skip
    columns = ["shop", "model", "test targets", "NLL", "recall@10 (Markov chain)", "NDCG@10 (Markov chain)"]
    parts = [
        table(["model", "policy", "k", *(f"recall / NDCG / overlap at {cut}" for cut in cuts)], lines) if lines else "",
        table([*columns, "lead, recall@10", "lead, NDCG@10"], beside) if beside else "",
        *(
            f"{row.model}, {row.precision.upper()}: NLL of {row.requests:,} validation targets "
            f"{row.validation_nll:.3f} as trained, {row.validation_nll_calibrated:.3f} at a temperature of "
            f"{row.temperature:g}."
            for row in _of(found, TemperatureRow)
        ),
        _measured(of_run or shops),
    ]
    return "\n\n".join(part for part in parts if part)


def _calibrated(found: Sequence[ExactRow]) -> Sequence[ExactRow]:
    """The rows of calibrated models, which a page has room for; all where there are none."""
    return [row for row in found if row.temperature != 1] or found


def _cell(row: PolicyAnswersRow, cut: str) -> str:
    if cut not in row.recall:
        return ""
    return f"{row.recall[cut]:.4f} / {row.ndcg[cut]:.4f} / {row.overlap[cut]:.3f}"


def summary(path: Path) -> str:
    """Every table of the newest run in a file."""
    found = newest_run(_of(records.read(path, *FILES["exact.jsonl"]), ExactRow))
    return "\n\n".join((_certified(found), _policies(found), _recall(found)))


def _of(found: Iterable[Row], kind: type[R]) -> list[R]:
    return [row for row in found if isinstance(row, kind)]


def _grouped(found: Iterable[CertifiedRow]) -> dict[tuple[int, str], list[CertifiedRow]]:
    """Put rows together by catalog and model."""
    groups: dict[tuple[int, str], list[CertifiedRow]] = {}
    for row in found:
        groups.setdefault((row.items, _model(row)), []).append(row)
    return groups


def _subject(row: ExactRow) -> str:
    return f"{_model(row)}, {row.items:,} items" if row.made_up else _model(row)


def _model(row: ExactRow) -> str:
    return f"{row.model}, {row.precision.upper()}, T {row.temperature:g}"


def _measured(found: Sequence[ExactRow]) -> str:
    """Say how many took part in what was measured, of each model."""
    last = {row.model: row for row in found}
    return " ".join(
        f"{row.model} ({row.parameters / 1e6:,.0f} M parameters), {row.requests:,} users a row, "
        f"{here.card}, {here.date}, torch {here.torch}, commit {here.commit}."
        for row, here in ((row, row.environment) for row in last.values())
    )


def _ratio(row: ScheduleVerdict, metric: str) -> str:
    found = row.relative_difference.get(f"{metric}@{row.k}")
    return "" if found is None else f"{found.value:+.2%} ({_ends(found, '%')})"


def _ends(found: Interval, unit: str = "") -> str:
    form = "+.2%" if unit else "+.4f"
    return " .. ".join("unbounded" if end is None else format(end, form) for end in (found.low, found.high))
