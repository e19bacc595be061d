"""How wide a beam must be for its answers to be exact, and how wide `auto` begins for that."""

from collections.abc import Sequence

import numpy as np

from benchmarks.rows.exact import CertifiedRow, StartsRow
from octorec.engine.engine import Engine
from octorec.engine.request import Request
from octorec.errors import InputError
from octorec.evaluate.beam_starts import measure_widths
from octorec.evaluate.metrics import recall_at
from studies.exact.asked import Asked, Deadline, Lists, ranks_of
from studies.exact.searches import ask
from studies.exact.settings import KS, WIDEST, WIDTHS
from studies.exact.subject import Subject

TEN = 10


def beam_starts(subject: Subject, asked: Asked, deadline: Deadline) -> None:
    """Measure how wide `auto` should begin, as `octorec widths` does, and let the subject's engine begin so."""
    requests = [Request(example.history) for example in asked.examples]
    found = measure_widths(subject.engine, requests, KS, lambda done, total, what="": deadline.check())
    subject.starting(found.starts)
    starts = found.to_dict()["starts"]
    ms = {str(one.beam_width): round(one.ms, 3) for one in found.widths}
    subject.row(StartsRow, asked, starts=starts, batch=found.batch, ms=ms)
    print(f"  {subject.name}: starts {starts}, ms {ms}", flush=True)


def certified(subject: Subject, engine: Engine, asked: Asked, ks: Sequence[int], deadline: Deadline) -> None:
    """Count what each width certifies, at every k that it can give. engine: the subject's, over what is asked of.

    The widest may be more than the beam kernel has room for beside large codebooks: that is said, and it is left out.
    """
    for width in (*WIDTHS, WIDEST):
        try:
            asking = engine if width in WIDTHS else subject.over(asked.catalog, width)
            lists = ask(asking, asked, width, min(width, ks[-1]), deadline)
        except InputError as error:
            print(f"  {subject.name}, {width} beams: {error}", flush=True)
        else:
            _record(subject, asked, width, lists, ks)


def mass(lists: Lists) -> float:
    """Return the mean probability that a model gives the first ten items of its lists."""
    return float(np.exp(lists.scores[:, :TEN].astype(np.float64)).sum(1).mean())


def _record(subject: Subject, asked: Asked, width: int, lists: Lists, ks: Sequence[int]) -> None:
    shares = {str(k): round(float(lists.certified(k).mean()), 6) for k in ks if k <= lists.places.shape[1]}
    recall = float(recall_at(ranks_of(lists.places, asked.targets), TEN).mean())
    row = subject.row(
        CertifiedRow, asked, beam_width=width, certified=shares, mass=round(mass(lists), 6), recall_10=round(recall, 6)
    )
    print(f"  {subject.name}, {width} beams: {shares}, mass {row.mass:.4f}, recall@10 {recall:.4f}", flush=True)
