"""Rows with several targets, or none, go through the same metrics and the same paired verdict."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from table_engine import TableEngine, random_table, sampled_examples

from octorec.data.splits import Example
from octorec.engine.request import Request
from octorec.errors import InputError, MismatchError
from octorec.evaluate.compare import compare, compare_predictions
from octorec.evaluate.metrics import ABSENT, NO_TARGET, ndcg_at, pass_at, ranked_items, ranks_of, recall_at
from octorec.evaluate.predictions import Predictions, predict
from octorec.evaluate.sids import by_sid
from octorec.evaluate.single import evaluate


def test_every_metric_of_several_targets_by_hand() -> None:
    ranked = ranked_items([["a", "b", "c"], ["c"], ["a", "b", "c"], []], 3)
    ranks = ranks_of(ranked, [("c", "x", "a"), (), ("b",), ("a",)])
    assert ranks.tolist() == [[2, ABSENT, 0], [NO_TARGET] * 3, [1, NO_TARGET, NO_TARGET], [ABSENT] + [NO_TARGET] * 2]
    assert recall_at(ranks, 2).tolist() == pytest.approx([1 / 3, 0, 1, 0])
    assert recall_at(ranks, 3).tolist() == pytest.approx([2 / 3, 0, 1, 0])
    assert pass_at(ranks, 1).tolist() == [1, 0, 0, 0]
    assert pass_at(ranks, 2).tolist() == [1, 0, 1, 0]
    two, three = 1 + 1 / math.log2(3), 1 + 1 / math.log2(3) + 1 / 2
    assert ndcg_at(ranks, 2).tolist() == pytest.approx([1 / two, 0, 1 / math.log2(3), 0])
    assert ndcg_at(ranks, 3).tolist() == pytest.approx([1.5 / three, 0, 1 / math.log2(3), 0])


def test_random_rows_against_sets() -> None:
    rng = np.random.default_rng(0)
    lists = [[str(item) for item in rng.permutation(30)[: rng.integers(11)]] for _ in range(200)]
    targets = [tuple(str(item) for item in rng.permutation(30)[: rng.integers(6)]) for _ in range(200)]
    ranks = ranks_of(ranked_items(lists, 10), targets)
    for row, (items, wanted) in enumerate(zip(lists, targets, strict=True)):
        hits = {*items[:5]} & {*wanted}
        assert recall_at(ranks, 5)[row] == pytest.approx(len(hits) / len(wanted) if wanted else 0)
        assert pass_at(ranks, 5)[row] == bool(hits)


def several(engine: TableEngine, seed: int = 1, users: int = 300) -> list[Example]:
    """Rows with one to three targets that the engine believes in, and one without."""
    rng = np.random.default_rng(seed)
    rows = [sampled_examples(np.random.default_rng(seed + more), engine, users) for more in range(3)]
    out = []
    for one, *others in zip(*rows, strict=True):
        more = dict.fromkeys(other.target for other in others[: rng.integers(3)] if other.target != one.target)
        out.append(replace(one, others=tuple(more)))
    return [*out, Example("nobody", out[0].history, "")]


def test_a_row_counts_once_in_the_verdict_whatever_its_targets() -> None:
    engine = TableEngine(random_table(np.random.default_rng(0)))
    rows = several(engine)
    result = compare(engine, engine, rows, k=5, margin=0.3)
    assert result.targets == len(rows)
    assert result.answers == sum(len(row.targets) for row in rows) > len(rows)
    assert result.verdict.outcome == "not_inferior"
    assert result.verdict.metrics == ("recall@5", "ndcg@5")
    assert result.baseline["pass@5"] >= result.baseline["recall@5"] > 0
    worse = TableEngine(random_table(np.random.default_rng(9)))
    assert compare(engine, worse, rows, k=5, margin=0.05).verdict.outcome == "inferior"
    alone = evaluate(engine, rows, 5)
    assert {name: value.value for name, value in alone.metrics.items()} == pytest.approx(result.baseline)
    assert alone.metrics["recall@5"].low < result.baseline["recall@5"] < alone.metrics["recall@5"].high
    assert "pass@5" in alone.to_dict()["metrics"]


def test_saved_rows_keep_their_targets(tmp_path: Path) -> None:
    engine = TableEngine(random_table(np.random.default_rng(0)))
    made = predict(engine, several(engine, users=30), k=5)
    made.save(tmp_path / "rows.parquet")
    read = Predictions.load(tmp_path / "rows.parquet")
    assert read.every_target == made.every_target
    assert {name: values.tolist() for name, values in read.values().items()} == {
        name: values.tolist() for name, values in made.values().items()
    }
    with pytest.raises(MismatchError, match="others"):
        compare_predictions(made, replace(read, others=read.others[::-1]))  # type: ignore[index]


class Shared(TableEngine):
    """An engine whose items 2n and 2n + 1 share the semantic ID (n,)."""

    def __init__(self) -> None:
        super().__init__(random_table(np.random.default_rng(0)), exclude_seen=False)
        self.catalog.index = {str(item): item for item in range(40)}
        self.catalog.codes = np.arange(40)[:, None] // 2
        self.catalog.n_sharing = 40

    def lists(self, requests: list[Request], of: object) -> list[tuple[list[str], list[tuple[int, ...]]]]:
        answers = self.recommend([replace(request, k=40) for request in requests])
        sids = [list(dict.fromkeys((int(item) // 2,) for item in answer.items)) for answer in answers]
        return [
            (answer.items[: request.k], found[: request.k])
            for answer, found, request in zip(answers, sids, requests, strict=True)
        ]


def test_a_hit_by_semantic_id_is_a_hit_of_any_of_its_items() -> None:
    engine = Shared()
    (best,) = engine.recommend([Request(["0"], k=40)])
    other = str(int(best.items[0]) ^ 1)  # shares the first item's semantic ID
    last = str(2 * list(dict.fromkeys(int(item) // 2 for item in best.items))[-1])  # of the worst semantic ID
    found = predict(engine, [Example("u", ("0",), other), Example("v", ("0",), last)], k=2)
    place = best.items.index(other)
    assert found.values()["recall@2"].tolist() == [place < 2, 0]
    assert found.values()["sid_recall@2"].tolist() == [1, 0]
    assert found.values()["sid_ndcg@2"].tolist() == [1, 0]
    assert list(found.values())[:2] == ["recall@2", "sid_recall@2"]
    assert found.at(np.array([1])).values()["sid_recall@2"].tolist() == [0]


def test_rows_of_another_run_than_the_catalog_are_refused() -> None:
    rows = [Example(f"u{row}", ("0",), str(row), sids=((row // 2 if row == 1 else 30,),)) for row in range(1, 5)]
    with pytest.raises(MismatchError, match="3 of 4 rows differ: the catalog is of another run or domain"):
        by_sid(Shared(), rows, [[]] * 4, 2)


def test_a_prompt_is_refused_by_a_model_that_reads_codes() -> None:
    row = Example("u", (), "1", messages=({"role": "user", "content": "hello"},))
    with pytest.raises(InputError, match="the model reads items' codes, not a prompt"):
        predict(Shared(), [row], k=2)
