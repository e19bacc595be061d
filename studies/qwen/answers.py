"""What a trained folder answers to held-out targets, beside popularity and the counting Markov chain.

Letters: n requests, L levels.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow.compute as pc

from benchmarks import records
from benchmarks.rows.qwen import QwenAnswersRow, QwenCertifiedRow, QwenRow
from benchmarks.rows.verdicts import Interval
from octorec.data.interactions import Interactions
from octorec.data.splits import Example
from octorec.engine.engine import Engine
from octorec.engine.load import load
from octorec.engine.request import Request
from octorec.evaluate.compare import difference, evaluate_baselines
from octorec.evaluate.metrics import recall_at
from octorec.evaluate.predictions import Predictions
from studies.exact.asked import Asked, Deadline, Lists, parse_all, predictions, ranks_of
from studies.exact.searches import ask
from studies.exact.shops import by_shop
from studies.quality.outcomes import Outcomes, outcomes_of
from studies.qwen.settings import Study

SYSTEM = "qwen"
R = TypeVar("R", bound=QwenRow)


@dataclass
class Answering:
    """An Answering asks one engine. about: what its rows are of. train: what the floors learn from."""

    engine: Engine
    study: Study
    train: Interactions
    about: dict[str, Any]
    out: Path
    outcomes: dict[str, Outcomes] = field(default_factory=dict)

    def measure(self, examples: Sequence[Example], split: str, deadline: Deadline) -> None:
        """Record what each width certifies, then each shop's answers at the widest beside its floors."""
        asked = parse_all(self.engine, examples, deadline)
        print(f"  {split}: {len(asked):,} requests are parsed", flush=True)
        for width in self.study.widths:
            start = time.perf_counter()
            lists = ask(self.engine, asked, width, self.study.k, deadline)
            self._certified(asked, lists, split, width, time.perf_counter() - start)
        log_probs = self.log_probs(asked)
        rows = {example: row for row, example in enumerate(examples)}
        for shop, some in by_shop(examples).items():
            at = np.array([rows[one] for one in some])
            self._shop(shop, asked, lists, log_probs, at, split)

    def log_probs(self, asked: Asked) -> np.ndarray:
        """Return the log-probabilities [n, L] of the targets' codes."""
        requests = [Request(one.history, exclude_seen=True) for one in asked.examples]
        return self.engine.score(requests, [one.target for one in asked.examples])

    def _certified(self, asked: Asked, lists: Lists, split: str, width: int, seconds: float) -> None:
        k = self.study.k
        mass = float(np.exp(lists.scores.astype(np.float64)).sum(1).mean())
        recall = float(recall_at(ranks_of(lists.places, asked.targets), k).mean())
        row = self._row(
            QwenCertifiedRow, split=split, requests=len(asked), beam_width=width, mass=round(mass, 6),
            certified=round(float(lists.certified(k).mean()), 6), exact=round(float(lists.exact.mean()), 6),
            recall_10=round(recall, 6), margin=self.engine.margin, seconds=round(seconds, 3),
        )  # fmt: skip
        print(f"  {split}, {width} beams: certified {row.certified:.4f}, exact {row.exact:.4f}, mass {mass:.4f}, "
              f"recall@{k} {recall:.4f} ({seconds:.1f} s)", flush=True)  # fmt: skip

    def _shop(self, shop: str, asked: Asked, lists: Lists, log_probs: np.ndarray, at: np.ndarray, split: str) -> None:
        """Record the answers to requests number `at` [m], of one shop."""
        examples, k = [asked.examples[row] for row in at], self.study.k
        own = Asked(asked.catalog, examples, [asked.parsed[row] for row in at])
        of_shop = Lists(*(column[at] for column in vars(lists).values()))
        systems = {SYSTEM: predictions(own, of_shop, k, log_probs[at]), **floors(self.train, shop, examples, k)}
        self.outcomes[shop] = outcomes_of(systems)
        values = {name: _means(found, k) for name, found in systems.items()}
        leads = [
            Interval(**difference(systems[SYSTEM], systems["markov"], f"{one}@{k}").to_dict())
            for one in ("recall", "ndcg")
        ]
        row = self._row(
            QwenAnswersRow, shop=shop, split=split, requests=len(own), beam_width=self.study.widths[-1],
            nll=round(-float(log_probs[at].astype(np.float64).sum(1).mean()), 6),
            recall_10=values[SYSTEM][0], ndcg_10=values[SYSTEM][1],
            markov_recall_10=values["markov"][0], markov_ndcg_10=values["markov"][1],
            popularity_recall_10=values["popularity"][0], popularity_ndcg_10=values["popularity"][1],
            recall_lead=leads[0], ndcg_lead=leads[1],
        )  # fmt: skip
        print(f"  {split}, {shop}: recall@{k} {row.recall_10:.4f} (Markov chain {row.markov_recall_10:.4f}, popularity "
              f"{row.popularity_recall_10:.4f}), ndcg@{k} {row.ndcg_10:.4f} ({row.markov_ndcg_10:.4f}), "
              f"NLL {row.nll:.3f}", flush=True)  # fmt: skip

    def _row(self, kind: type[R], **found: Any) -> R:
        row = kind(**self.about, **found)
        records.append(self.out, row)
        return row


def opened(folder: Path, study: Study, device: str) -> Engine:
    """Open a folder; on a GPU, measure by how much scores differ between batches."""
    engine = load(folder, device=device, **engine_settings(study))
    engine.warm_up()
    print(f"  margin {engine.margin:.3g} nats", flush=True)
    return engine


def engine_settings(study: Study) -> dict[str, Any]:
    """Return an engine's settings: large batches, and no item of the history is an answer."""
    sizes = sorted({max(1, study.most_beams // width) for width in study.widths})
    return {
        "batch_sizes": tuple(sizes), "beam_widths": study.widths, "default_beam_width": study.widths[-1],
        "max_rows": study.most_beams, "exclude_seen": True, "max_context": study.longest,
        "max_tokens": study.longest * (len(study.codebook_sizes) + 1) + 1,
    }  # fmt: skip


def floors(train: Interactions, shop: str, examples: Sequence[Example], k: int) -> dict[str, Predictions]:
    """Return the answers of a shop's own popularity and Markov chain, learned from its part of `train`."""
    part = Interactions(train.table.filter(pc.starts_with(train.table["user_id"], shop[0])).combine_chunks())
    return evaluate_baselines(part, examples, k, exclude_seen=True)


def _means(found: Predictions, k: int) -> tuple[float, float]:
    values = found.values()
    return round(float(values[f"recall@{k}"].mean()), 6), round(float(values[f"ndcg@{k}"].mean()), 6)
