"""The newest run of each model of `studies.qwen.run` as tables.

python -m studies.qwen.render results/qwen.jsonl
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from benchmarks import records
from benchmarks.program import run
from benchmarks.rows import recorded
from benchmarks.rows.qwen import (
    QwenAnswersRow,
    QwenCertifiedRow,
    QwenParityRow,
    QwenRow,
    QwenTrainingRow,
    QwenVerdictRow,
)
from benchmarks.rows.verdicts import Interval
from benchmarks.tables import table

KINDS = (QwenTrainingRow, QwenAnswersRow, QwenCertifiedRow, QwenVerdictRow, QwenParityRow)
R = TypeVar("R", bound=QwenRow)


def read(path: Path) -> list[QwenRow]:
    """Return the rows of each model's newest run."""
    found = records.read(path, *KINDS)
    newest = {row.model: row.run for row in sorted(found, key=lambda row: row.run)}
    return [row for row in found if row.run == newest[row.model]]


def summary(path: Path) -> str:
    """Return all tables of a file of rows."""
    rows = read(path)
    parts = training(_of(rows, QwenTrainingRow)), answers(_of(rows, QwenAnswersRow))
    more = certified(_of(rows, QwenCertifiedRow)), verdicts(_of(rows, QwenVerdictRow)), parity(_of(rows, QwenParityRow))
    return "\n\n".join([*parts, *more])


def study() -> str:
    """Return, for a page, all trainings, and of the newest run each: answers beside the floors', and verdicts."""
    rows = recorded("qwen.jsonl", QwenRow)
    if not rows:
        return "Not measured yet: `python -m studies.qwen.run`."
    tables = [training(_of(rows, QwenTrainingRow)), answers(_newest(rows, QwenAnswersRow))]
    tables += [certified(_newest(rows, QwenCertifiedRow)), verdicts(_newest(rows, QwenVerdictRow))]
    commits = " and ".join(dict.fromkeys(row.environment.commit for row in rows))
    said = f"H200, torch {rows[-1].environment.torch}, commits {commits}: `python -m studies.qwen.run`."
    return "\n\n".join([*tables, said])


def _newest(rows: Sequence[QwenRow], kind: type[R]) -> list[R]:
    found = _of(rows, kind)
    newest = max((row.run for row in found), default=None)
    return [row for row in found if row.run == newest]


def training(rows: Sequence[QwenTrainingRow]) -> str:
    """Return what was trained for how long."""
    columns = ["model", "parameters", "codes", "steps", "items, millions", "loss of a code", "ms a step", "TFLOP/s"]
    lines = [
        [row.model, f"{row.parameters / 1e6:.1f} M", " x ".join(map(str, row.codebook_sizes)),
         f"{row.training['steps']:,.0f}",
         f"{row.items / 1e6:.1f}", f"{row.losses[0]:.3f} -> {row.losses[-1]:.3f}", f"{row.ms:.1f}", f"{row.tflops:.0f}"]
        for row in rows
    ]  # fmt: skip
    return table([*columns, "seconds"], [[*line, f"{row.seconds:.0f}"] for line, row in zip(lines, rows, strict=True)])


def answers(rows: Sequence[QwenAnswersRow]) -> str:
    """Return each shop's recall and NDCG beside the floors'."""
    columns = ["shop", "model", "targets", "NLL", "recall@10 (Markov chain, popularity)", "NDCG@10 (the same)"]
    lines = [
        [f"{row.shop}, {row.split}", row.model, f"{row.requests:,}", f"{row.nll:.3f}",
         _three(row.recall_10, row.markov_recall_10, row.popularity_recall_10),
         _three(row.ndcg_10, row.markov_ndcg_10, row.popularity_ndcg_10), _ends(row.recall_lead), _ends(row.ndcg_lead)]
        for row in rows
    ]  # fmt: skip
    return table([*columns, "lead over the chain, recall@10", "lead, NDCG@10"], lines)


def certified(rows: Sequence[QwenCertifiedRow]) -> str:
    """Return what share of answers each width certifies."""
    columns = [
        "model",
        "split",
        "requests",
        "beams",
        "certified",
        "exact",
        "margin, nats",
        "mass",
        "recall@10",
        "seconds",
    ]
    lines = [
        [row.model, row.split, f"{row.requests:,}", row.beam_width, f"{row.certified:.4f}", f"{row.exact:.4f}",
         f"{row.margin:.2g}", f"{row.mass:.4f}", f"{row.recall_10:.4f}", f"{row.seconds:.1f}"]
        for row in rows
    ]  # fmt: skip
    return table(columns, lines)


def verdicts(rows: Sequence[QwenVerdictRow]) -> str:
    """Return what each recipe costs beside BF16, the shops and all of them."""
    columns = [
        "recipe",
        "shop",
        "targets",
        "recall@10, BF16 -> FP8",
        "difference",
        "NDCG@10, BF16 -> FP8",
        "difference",
    ]
    lines = [
        [row.recipe, row.scope, f"{row.targets:,}", f"{row.bf16['recall@10']:.4f} -> {row.recall_10:.4f}",
         _share(row.relative_difference["recall@10"]), f"{row.bf16['ndcg@10']:.4f} -> {row.ndcg_10:.4f}",
         _share(row.relative_difference["ndcg@10"]), f"{row.nll_difference.value:+.4f}", f"{row.top10_overlap:.4f}",
         row.verdict.replace("_", " ") if row.enough else f"({row.verdict.replace('_', ' ')})"]
        for row in rows
    ]  # fmt: skip
    return table([*columns, "NLL, nats", "top 10 shared", f"verdict at {margin_of(rows)}"], lines)


def margin_of(rows: Sequence[QwenVerdictRow]) -> str:
    """Return the margin of the rows; verdicts in brackets decide nothing by the plan."""
    return " or ".join(sorted({f"{row.margin:.0%}" for row in rows})) or "no margin"


def _share(lead: Interval) -> str:
    low, high = ("unbounded" if end is None else f"{end:+.2%}" for end in (lead.low, lead.high))
    return f"{lead.value:+.2%} ({low} .. {high})"


def parity(rows: Sequence[QwenParityRow]) -> str:
    """Return how programs and precisions differ."""
    columns = ["one", "other", "prompts", "beams", "scores differ, nats", "beams differ, nats", "overlap", "identical"]
    lines = [
        [row.one, row.other, row.prompts, row.beam_width, f"{row.score_difference:.2g}", f"{row.beam_difference:.2g}",
         f"{row.overlap:.4f}", row.identical]
        for row in rows
    ]  # fmt: skip
    return table(columns, lines)


def _three(own: float, markov: float, popularity: float) -> str:
    return f"{own:.4f} ({markov:.4f}, {popularity:.4f})"


def _ends(lead: Interval) -> str:
    low, high = ("unbounded" if end is None else f"{end:+.4f}" for end in (lead.low, lead.high))
    return f"{lead.value:+.4f} ({low} .. {high})"


def _of(rows: Iterable[QwenRow], kind: type[R]) -> list[R]:
    return [row for row in rows if isinstance(row, kind)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    print(summary(parser.parse_args().rows))


if __name__ == "__main__":
    run(main)
