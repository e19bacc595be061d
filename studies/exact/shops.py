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
from studies.exact.asked import Deadline, ask, parse_all, predictions
from studies.exact.data import shop_of
from studies.exact.subject import Subject
from studies.exact.temperature import target_log_probs

K = 10
POLICY: BeamWidth = 128


def markov_chains(train: Interactions, examples: Sequence[Example]) -> dict[str, Predictions]:
    """Return the answers of each shop's own chain to its examples, learned from its part of `train`."""
    found = {}
    for shop, of_shop in by_shop(examples).items():
        mine = pc.starts_with(train.table["user_id"], shop[0])
        part = Interactions(train.table.filter(mine).combine_chunks(), train.held_out)
        found[shop] = evaluate_baselines(part, of_shop, K, exclude_seen=True)["markov"]
    return found


def by_shop(examples: Sequence[Example]) -> dict[str, list[Example]]:
    """Return the examples of each shop."""
    found: dict[str, list[Example]] = {}
    for example in examples:
        found.setdefault(shop_of(example.user_id), []).append(example)
    return found


def beside_markov(
    subject: Subject, examples: Sequence[Example], chains: dict[str, Predictions], deadline: Deadline
) -> None:
    """Record recall and NDCG on each shop beside its chain's."""
    engine = subject.engine
    for shop, of_shop in by_shop(examples).items():
        parsed = parse_all(engine, of_shop, deadline)
        log_probs = target_log_probs(engine, parsed, of_shop, deadline)
        lists = ask(engine, parsed, POLICY, K, deadline)
        ours, floor = predictions(engine, of_shop, lists, K, log_probs), chains[shop]
        values, theirs = ({name: float(one.mean()) for name, one in side.values().items()} for side in (ours, floor))
        leads = [Interval(**difference(ours, floor, f"{metric}@{K}").to_dict()) for metric in ("recall", "ndcg")]
        row = subject.row(
            ShopRow, len(of_shop), shop=shop, policy=shown(POLICY), nll=round(-float(np.sum(log_probs, 1).mean()), 6),
            recall_10=round(values["recall@10"], 6), ndcg_10=round(values["ndcg@10"], 6),
            markov_recall_10=round(theirs["recall@10"], 6), markov_ndcg_10=round(theirs["ndcg@10"], 6),
            recall_lead=leads[0], ndcg_lead=leads[1],
        )  # fmt: skip
        print(f"  {subject.name}, {shop}: recall@10 {row.recall_10:.4f} (Markov chain {row.markov_recall_10:.4f}), "
              f"ndcg@10 {row.ndcg_10:.4f} ({row.markov_ndcg_10:.4f}), NLL {row.nll:.3f}", flush=True)  # fmt: skip
