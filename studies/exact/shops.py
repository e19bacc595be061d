"""A model beside the counting Markov chain, on the test targets of each shop."""

from collections.abc import Sequence

import numpy as np
import pyarrow.compute as pc

from benchmarks.rows.exact import ShopRow
from benchmarks.rows.verdicts import Interval
from octorec.data.interactions import Interactions
from octorec.data.splits import Example
from octorec.engine.widths import BeamWidth, shown
from octorec.evaluate.compare import difference, evaluate_baselines
from octorec.evaluate.predictions import Predictions
from studies.exact.asked import Asked, Deadline, predictions
from studies.exact.data import shop_of
from studies.exact.searches import ask
from studies.exact.subject import Subject
from studies.exact.temperature import target_log_probs

K = 10
POLICY: BeamWidth = 128


def markov_chain(train: Interactions, shop: str, examples: Sequence[Example]) -> Predictions:
    """Return the answers of a shop's own chain to its examples, learned from its part of `train`."""
    part = Interactions(train.table.filter(pc.starts_with(train.table["user_id"], shop[0])).combine_chunks())
    return evaluate_baselines(part, examples, K, exclude_seen=True)["markov"]


def by_shop(examples: Sequence[Example]) -> dict[str, list[Example]]:
    """Return the examples of each shop."""
    found: dict[str, list[Example]] = {}
    for example in examples:
        found.setdefault(shop_of(example.user_id), []).append(example)
    return found


def beside_markov(subject: Subject, shop: str, asked: Asked, chain: Predictions, deadline: Deadline) -> None:
    """Record recall and NDCG on the targets of one shop beside its chain's."""
    log_probs = target_log_probs(subject.engine, asked, deadline)
    ours = predictions(asked, ask(subject.engine, asked, POLICY, K, deadline), K, log_probs)
    values, theirs = ({name: float(one.mean()) for name, one in side.values().items()} for side in (ours, chain))
    leads = [Interval(**difference(ours, chain, f"{metric}@{K}").to_dict()) for metric in ("recall", "ndcg")]
    row = subject.row(
        ShopRow, asked, shop=shop, policy=shown(POLICY), nll=round(-float(np.sum(log_probs, 1).mean()), 6),
        recall_10=round(values["recall@10"], 6), ndcg_10=round(values["ndcg@10"], 6),
        markov_recall_10=round(theirs["recall@10"], 6), markov_ndcg_10=round(theirs["ndcg@10"], 6),
        recall_lead=leads[0], ndcg_lead=leads[1],
    )  # fmt: skip
    print(f"  {subject.name}, {shop}: recall@10 {row.recall_10:.4f} (Markov chain {row.markov_recall_10:.4f}), "
          f"ndcg@10 {row.ndcg_10:.4f} ({row.markov_ndcg_10:.4f}), NLL {row.nll:.3f}", flush=True)  # fmt: skip
