import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from table_engine import TableEngine, random_table, sampled_examples

from octorec.data.splits import Example
from octorec.errors import InputError
from octorec.evaluate.predictions import Predictions, predict


@pytest.fixture
def engine():
    return TableEngine(random_table(np.random.default_rng(0), items=12))


def test_requests_carry_history_width_user_and_whether_seen_items_are_excluded(engine):
    examples = [Example("u", ("1", "2"), "3"), Example("v", ("4",), "5")]
    predict(engine, examples, k=3, beam_width=7, users={"u": {"age": 30}})
    first, second = engine.recommended
    assert (first.history, first.exclude_seen, first.k, first.beam_width) == (("1", "2"), True, 3, 7)
    assert (dict(first.user), dict(second.user)) == ({"age": 30}, {})


def test_answers_and_log_probabilities_are_the_engines(engine):
    examples = sampled_examples(np.random.default_rng(1), engine, users=30)
    result = predict(engine, examples, k=5, batch=7)
    for row, example in enumerate(examples):
        sums = engine.log_probs[int(example.history[0])].sum(-1)
        best = sorted((item for item in range(12) if str(item) not in example.history), key=lambda item: -sums[item])
        assert result.ranked[row].tolist() == [str(item) for item in best[:5]]
        np.testing.assert_array_equal(
            result.log_probs[row], engine.log_probs[int(example.history[0]), int(example.target)]
        )
    assert result.values()["recall@5"].mean() > 0.4


def test_a_target_outside_the_catalog_is_a_miss_and_stays(engine):
    examples = [Example("u", ("1",), "new"), Example("u", ("1",), "2"), Example("v", ("3",), "new too")]
    result = predict(engine, examples, k=11, batch=1)
    assert result.known.tolist() == [False, True, False]
    assert result.values()["recall@10"].tolist()[::2] == [0, 0]
    assert np.isnan(result.log_probs).all(1).tolist() == [True, False, True]


def test_a_target_in_its_own_history_is_masked_and_counted(engine):
    result = predict(engine, [Example("u", ("1", "2"), "1")], k=11)
    assert result.seen.tolist() == [True]
    assert result.values()["recall@10"].tolist() == [0]


def test_short_answers_end_early(engine):
    result = predict(engine, [Example("u", tuple("123456789"), "0")], k=10)
    assert set(result.ranked[0, :3]) == {"0", "10", "11"}
    assert (result.ranked[0, 3:] == "").all()


def test_progress(engine):
    calls = []
    examples = [Example("u", ("1",), "2")] * 5
    predict(engine, examples, k=2, batch=2, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(2, 5), (4, 5), (5, 5)]


@pytest.mark.parametrize("floor", [False, True])
def test_saved_and_loaded(tmp_path, engine, floor):
    examples = [*sampled_examples(np.random.default_rng(2), engine, users=20), Example("x", ("1",), "new")]
    result = predict(engine, examples, k=6)
    if floor:
        result = Predictions(result.user_ids, result.targets, result.ranked, result.known, result.seen)
    result.save(tmp_path / "p.parquet")
    again = Predictions.load(tmp_path / "p.parquet")
    for name in ("user_ids", "targets", "ranked", "known", "seen"):
        np.testing.assert_array_equal(getattr(again, name), getattr(result, name))
    if floor:
        assert again.log_probs is None
    else:
        np.testing.assert_array_equal(again.log_probs, result.log_probs)
    assert [path.name for path in tmp_path.iterdir()] == ["p.parquet"]


def test_files_that_are_none(tmp_path):
    with pytest.raises(InputError, match=r"Predictions\.save"):
        Predictions.load(tmp_path / "missing.parquet")
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(InputError, match=r"Predictions\.save"):
        Predictions.load(tmp_path / "text.parquet")
    pyarrow.parquet.write_table(pa.table({"user_id": ["u"], "target": ["1"]}), tmp_path / "other.parquet")
    with pytest.raises(InputError, match="with the columns known, ranked, seen"):
        Predictions.load(tmp_path / "other.parquet")
    columns = {"user_id": ["u"], "target": ["1"], "known": [True], "seen": [False], "ranked": ["1"]}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "flat.parquet")
    with pytest.raises(InputError, match="column ranked: got 'string'"):
        Predictions.load(tmp_path / "flat.parquet")


SAVED_WRONG = {
    "known": pa.array([None, True, True, True]),
    "seen": pa.array(["no"] * 4),
    "askable": pa.array([1, 0, 1, 1]),
    "target": pa.array([None, "1", "2", "3"]),
    "ranked": pa.array([None, ["1", "2"], ["1", "2"], ["1", "2"]], pa.list_(pa.string(), 2)),
    "log_probs": pa.array([["x"]] * 4, pa.list_(pa.string(), 1)),
}


@pytest.mark.parametrize("name", SAVED_WRONG)
def test_a_saved_column_of_another_type_or_with_nulls_is_refused(tmp_path, engine, name):
    predict(engine, sampled_examples(np.random.default_rng(2), engine, users=4), k=2).save(tmp_path / "saved")
    table = pyarrow.parquet.read_table(tmp_path / "saved")
    table = table.set_column(table.column_names.index(name), name, SAVED_WRONG[name])
    pyarrow.parquet.write_table(table, tmp_path / "wrong")
    with pytest.raises(InputError, match=f"wrong: column {name}: got"):
        Predictions.load(tmp_path / "wrong")


def test_no_examples(engine):
    with pytest.raises(InputError, match="examples"):
        predict(engine, [])


def test_no_target_in_the_catalog(engine):
    with pytest.raises(InputError, match="none of the 1 targets"):
        predict(engine, [Example("u", ("1",), "new")])


@pytest.mark.parametrize("option", [{"batch": 0}, {"k": 0}, {"k": -2}, {"beam_width": 0}, {"k": 9, "beam_width": 8}])
def test_bad_options(engine, option):
    with pytest.raises(InputError, match=next(iter(option))):
        predict(engine, [Example("u", ("1",), "2")], **option)


def test_a_log_probability_that_is_no_number_is_refused(engine):
    engine.log_probs[1, 2, 0] = np.nan
    with pytest.raises(InputError, match="log-probabilities of 2 for user v"):
        predict(engine, [Example("u", ("1",), "3"), Example("v", ("1",), "2")])


def test_an_engine_that_has_lists_is_asked_for_no_more() -> None:
    class Lists(TableEngine):
        def lists(self, requests):
            return [answer.items for answer in super().recommend(requests)]

        def recommend(self, requests):
            raise AssertionError("answers hold more than is read")

    table = random_table(np.random.default_rng(0))
    examples = sampled_examples(np.random.default_rng(1), TableEngine(table), 30)
    found, expected = (predict(engine, examples, 5) for engine in (Lists(table), TableEngine(table)))
    np.testing.assert_array_equal(found.ranked, expected.ranked)
