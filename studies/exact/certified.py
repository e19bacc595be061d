"""How wide a beam must be for its answers to be exact, and how wide `auto` begins for that."""

from collections.abc import Sequence

import numpy as np

from benchmarks.rows.exact import CertifiedRow, StartsRow
from octorec.catalog.catalog import Catalog
from octorec.data.splits import Example
from octorec.engine.engine import Engine
from octorec.engine.request import Request
from octorec.evaluate.beam_starts import measure_widths
from octorec.evaluate.metrics import recall_at
from studies.exact.asked import Deadline, Lists, ask, parse_all
from studies.exact.settings import KS, WIDEST, WIDTHS
from studies.exact.subject import Subject, ranks_of, target_places

TEN = 10


def beam_starts(subject: Subject, examples: Sequence[Example], deadline: Deadline) -> None:
    """Measure how wide `auto` should begin, as `octorec widths` does, and let the subject's engine begin so."""
    requests = [Request(example.history) for example in examples]
    found = measure_widths(subject.engine, requests, KS, lambda done, total, what="": deadline.check())
    subject.starting(found.starts)
    told = found.to_dict()
    ms = {str(one.beam_width): round(one.ms, 3) for one in found.widths}
    subject.row(StartsRow, len(requests), starts=told["starts"], batch=found.batch, ms=ms)
    print(f"  {subject.name}: starts {told['starts']}, ms {ms}", flush=True)


def certified(subject: Subject, catalog: Catalog, examples: Sequence[Example], deadline: Deadline) -> None:
    """Count what each width certifies, at every k."""
    parsed = parse_all(subject.engine, examples, deadline)
    targets = target_places(catalog, examples)
    for width in (*WIDTHS, WIDEST):
        engine = subject.engine if width in WIDTHS else subject.over(catalog, width)
        lists = ask(engine, parsed, width, min(width, KS[-1]), deadline)
        _record(subject, catalog, width, lists, targets, 0)


def certified_of_many(
    subject: Subject, catalog: Catalog, made_up: int, examples: Sequence[Example], deadline: Deadline
) -> None:
    """Count what each width certifies of ten items over a larger catalog of the same codebook."""
    engine: Engine = subject.over(catalog, *WIDTHS, WIDEST)
    parsed = parse_all(engine, examples, deadline)
    targets = target_places(catalog, examples)
    for width in (*WIDTHS, WIDEST):
        _record(subject, catalog, width, ask(engine, parsed, width, TEN, deadline), targets, made_up)


def mass(lists: Lists) -> float:
    """Return the mean probability that a model gives the first ten items of its lists."""
    return float(np.exp(lists.scores[:, :TEN].astype(np.float64)).sum(1).mean())


def _record(
    subject: Subject, catalog: Catalog, width: int, lists: Lists, targets: np.ndarray, made_up: int
) -> CertifiedRow:
    shares = {str(k): round(float(lists.certified(k).mean()), 6) for k in KS if k <= lists.places.shape[1]}
    recall = float(recall_at(ranks_of(lists.places, targets), TEN).mean())
    row = subject.row(
        CertifiedRow, len(targets), items=len(catalog), made_up=made_up, beam_width=width, certified=shares,
        mass=round(mass(lists), 6), recall_10=round(recall, 6),
    )  # fmt: skip
    print(f"  {subject.name}, {width} beams: {shares}, mass {row.mass:.4f}, recall@10 {recall:.4f}", flush=True)
    return row
