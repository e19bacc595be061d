"""The lengths of list that are asked for are those that are reported, and the largest decides."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from table_engine import TableEngine, random_table, sampled_examples

from octorec.data.interactions import Interactions
from octorec.errors import InputError
from octorec.evaluate.compare import compare, compare_predictions, difference, evaluate_baselines
from octorec.evaluate.cutoffs import cutoffs, lengths
from octorec.evaluate.metrics import recall_at, target_ranks
from octorec.evaluate.predictions import Predictions, predict
from octorec.prove.config import ProveConfig
from studies.quality.outcomes import Outcomes, outcomes_of, pooled


@pytest.fixture(scope="module")
def engine():
    return TableEngine(random_table(np.random.default_rng(0)))


@pytest.fixture(scope="module")
def examples(engine):
    return sampled_examples(np.random.default_rng(1), engine, users=100, targets=2)


@pytest.mark.parametrize(
    ("k", "cuts"),
    [
        (1, (1,)),
        (3, (3,)),
        (5, (5,)),
        (7, (5, 7)),
        (10, (5, 10)),
        (50, (5, 10, 50)),
        ([30, 8], (5, 8, 10, 30)),
        ((2, 2), (2,)),
    ],
)
def test_every_length_asked_for_is_reported_and_the_longest_is_last(k, cuts):
    assert cutoffs(lengths(k)) == cuts


@pytest.mark.parametrize("k", [0, -3, 2.0, True, "10", (), [10, 0], [None]])
def test_what_is_no_length_is_refused(k, engine, examples):
    with pytest.raises(InputError, match="k: got"):
        predict(engine, examples[:2], k)


@pytest.mark.parametrize("k", [3, 7, 10, 20, (4, 25)])
def test_the_verdict_is_on_the_longest_list_asked_for(k, engine, examples):
    noise = np.random.default_rng(2).normal(0, 0.5, engine.log_probs.shape)
    found = compare(engine, TableEngine(engine.log_probs + noise), examples, k)
    longest = max(lengths(k))
    assert found.k == longest
    assert found.verdict.metrics == (f"recall@{longest}", f"ndcg@{longest}")
    names = {f"{metric}@{cut}" for metric in ("recall", "ndcg") for cut in cutoffs(lengths(k))}
    assert set(found.differences) == names
    assert set(found.baseline) == set(found.candidate) == {*names, "nll"}
    assert found.to_dict()["cutoffs"] == list(cutoffs(lengths(k)))
    asked = predict(engine, examples, k)
    hits = recall_at(target_ranks(asked.ranked, asked.targets), longest).mean()
    assert found.baseline[f"recall@{longest}"] == pytest.approx(hits)


def test_a_loss_beyond_the_tenth_item_decides_where_twenty_are_asked_for():
    """Targets stand at place 15; the candidate puts them last."""
    before = np.full((40, 40, 1), -1.0) - np.arange(40)[None, :, None] / 100
    after = before.copy()
    after[:, 15] = -90
    pair = TableEngine(before), TableEngine(after)
    examples = sampled_examples(np.random.default_rng(3), pair[0], users=200)
    examples = [type(e)(e.user_id, ("39",), "15" if row % 2 else "1") for row, e in enumerate(examples)]
    outcomes = {k: compare(*pair, examples, k, margin=0.2).verdict.outcome for k in (10, 20, (10, 20))}
    assert outcomes == {10: "not_inferior", 20: "inferior", (10, 20): "inferior"}


def test_saved_files_keep_the_lengths(engine, examples, tmp_path):
    found = predict(engine, examples, (7, 20))
    found.save(tmp_path / "predictions.parquet")
    loaded = Predictions.load(tmp_path / "predictions.parquet")
    assert loaded.cutoffs == found.cutoffs == (5, 7, 10, 20)
    assert loaded.at(np.arange(3)).cutoffs == found.cutoffs
    outcomes_of({"a": found, "b": predict(engine, examples, 20)}).save(tmp_path / "outcomes.parquet")
    kept = Outcomes.load(tmp_path / "outcomes.parquet")
    assert "recall@7" in kept.values("b")
    assert "recall@7" in pooled({"x": kept}).values("a")
    assert kept.judge("a", "b", 0.5)[1].metrics == ("recall@20", "ndcg@20")


def test_files_from_before_the_lengths_were_kept_are_cut_as_they_were(engine, examples, tmp_path):
    for k, cuts in ((10, (5, 10)), (4, (4,))):
        path = tmp_path / f"{k}.parquet"
        predict(engine, examples, k).save(path)
        pyarrow.parquet.write_table(pyarrow.parquet.read_table(path).replace_schema_metadata(), path)
        assert Predictions.load(path).cutoffs == cuts


@pytest.mark.parametrize("asked", ["x", "0", "11", "-1", "5;6"])
def test_a_file_that_asks_for_what_it_has_not_is_refused(asked, engine, examples, tmp_path):
    path = tmp_path / "p.parquet"
    predict(engine, examples[:3], 10).save(path)
    table = pyarrow.parquet.read_table(path).replace_schema_metadata({"asked": asked})
    pyarrow.parquet.write_table(table, path)
    with pytest.raises(InputError, match="asked: got"):
        Predictions.load(path)


def test_outcomes_of_a_length_that_is_no_number_are_refused(tmp_path):
    table = pa.table({"user_id": ["u"]}).replace_schema_metadata({"k": "ten"})
    pyarrow.parquet.write_table(table, tmp_path / "o.parquet")
    with pytest.raises(InputError, match=r"Outcomes\.save"):
        Outcomes.load(tmp_path / "o.parquet")


def test_one_side_may_have_asked_for_more_cutoffs(engine, examples):
    found = compare_predictions(predict(engine, examples, (7, 20)), predict(engine, examples, 20))
    assert found.cutoffs == (5, 7, 10, 20)


def test_floors_are_cut_and_compared_at_the_same_lengths(engine, examples):
    rows = [(e.user_id, e.history[-1], 0) for e in examples]
    users, items, times = zip(*rows, strict=True)
    train = Interactions.from_table(pa.table({"user_id": users, "item_id": items, "timestamp": times}))
    floor = evaluate_baselines(train, examples, (3, 20), exclude_seen=True)["popularity"]
    assert floor.cutoffs == (3, 5, 10, 20)
    asked = predict(engine, examples, (3, 20))
    assert difference(asked, floor).value == difference(asked, floor, "recall@20").value
    with pytest.raises(InputError, match="recall@3, ndcg@3"):
        difference(asked, floor, "recall@4")


def test_a_proof_takes_several_lengths_up_to_the_beam_width():
    assert ProveConfig(k=(10, 128)).k == (10, 128)
    with pytest.raises(InputError, match=r"k: got \(10, 200\); at most beam_width = 128"):
        ProveConfig(k=(10, 200))
    with pytest.raises(InputError, match="k: got 0"):
        ProveConfig(k=0)
