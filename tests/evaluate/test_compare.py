import json
import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from table_engine import TableEngine, random_table, sampled_examples

from octorec.data.interactions import Interactions
from octorec.data.splits import Example, leave_last_out
from octorec.engine.request import Request
from octorec.errors import InputError, MismatchError
from octorec.evaluate.compare import compare, compare_predictions, difference, evaluate_baselines
from octorec.evaluate.predictions import Predictions, predict
from octorec.evaluate.shadow import shadow
from octorec.report.verdict import render, render_shadow


@pytest.fixture
def engine():
    return TableEngine(random_table(np.random.default_rng(0)))


@pytest.fixture
def examples(engine):
    return sampled_examples(np.random.default_rng(1), engine, users=400, targets=2)


def text_of(renderable):
    console = Console(width=200)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def tables(before, after):
    """Two engines over items 0..3; only what follows item 0 matters. One level."""
    tables = [np.full((4, 4, 1), -9.0) for _ in range(2)]
    tables[0][0, :, 0], tables[1][0, :, 0] = before, after
    return [TableEngine(table) for table in tables]


def test_every_number_by_hand():
    baseline, candidate = tables([-9, -1.0, -2.0, -3.0], [-9, -2.0, -1.0, -3.5])  # the first two change places
    examples = [
        Example("u", ("0",), "1"),
        Example("u", ("0",), "3"),
        Example("v", ("0",), "2"),
        Example("w", ("0",), "x"),
    ]
    result = compare(baseline, candidate, examples, k=2, margin=0.5)
    assert (result.users, result.targets, result.not_in_catalog, result.in_history) == (3, 4, (1, 1), 0)
    gain = 1 / math.log2(3)
    assert result.baseline == pytest.approx({"recall@2": 0.5, "ndcg@2": (1 + gain) / 4, "nll": 2.0})
    assert result.candidate == pytest.approx({"recall@2": 0.5, "ndcg@2": (1 + gain) / 4, "nll": 6.5 / 3})
    assert result.differences["recall@2"].value == 0
    assert (result.differences["recall@2"].discordant, result.differences["ndcg@2"].discordant) == (0, 2)
    assert result.nll.value == pytest.approx(0.5 / 3)
    assert vars(result.agreement) == pytest.approx(
        {"overlap": 1.0, "identical": 1.0, "max_drift": 1.0, "mean_drift": 2.5 / 3}
    )


def test_overlap_of_lists_that_share_one_item_of_two():
    baseline, candidate = tables([-9, -1, -2, -3], [-9, -1, -3, -2])
    agreement = compare(baseline, candidate, [Example("u", ("0",), "1")], k=2).agreement
    assert (agreement.overlap, agreement.identical) == (0.5, 0.0)


def test_the_same_engine_is_not_inferior(engine, examples):
    result = compare(engine, engine, examples, margin=0.05)
    assert result.verdict.outcome == "not_inferior"
    assert -0.05 < result.differences["recall@10"].low < 0 < result.differences["recall@10"].high
    assert (result.agreement.overlap, result.agreement.max_drift) == (1.0, 0.0)


def test_nll_is_the_sum_over_levels(engine, examples):
    result = compare(engine, engine, examples)
    joint = [engine.log_probs[int(e.history[0]), int(e.target)].astype(float).sum() for e in examples]
    assert result.baseline["nll"] == pytest.approx(-np.mean(joint))


def test_a_slightly_shaken_engine_is_not_inferior_and_its_differences_are_seen(engine, examples):
    noise = np.random.default_rng(2).normal(0, 0.02, engine.log_probs.shape)
    result = compare(engine, TableEngine(engine.log_probs + noise), examples, margin=0.05)
    assert result.verdict.exit_code == 0
    assert result.nll.low < result.nll.value < result.nll.high
    assert result.agreement.mean_drift == pytest.approx(0.02 * math.sqrt(2 / math.pi), rel=0.1)
    assert 0.9 < result.agreement.overlap < 1


def test_a_worse_engine_turns_the_verdict_red(engine, examples):
    noise = np.random.default_rng(3).normal(0, 3, engine.log_probs.shape)
    result = compare(engine, TableEngine(engine.log_probs + noise), examples, margin=0.05)
    assert (result.verdict.outcome, result.verdict.exit_code) == ("inferior", 3)
    assert result.candidate["recall@10"] < 0.95 * result.baseline["recall@10"]
    assert "inferior at a margin" in text_of(render(result))


def test_few_users_are_inconclusive_and_told_how_many_would_decide(engine, examples):
    noise = np.random.default_rng(4).normal(0, 0.1, engine.log_probs.shape)
    result = compare(engine, TableEngine(engine.log_probs + noise), examples[:60], margin=0.01)
    assert (result.verdict.outcome, result.verdict.exit_code) == ("inconclusive", 4)
    assert result.verdict.users_needed > 30
    assert f"about {result.verdict.users_needed:,} users" in text_of(render(result))


def test_json_and_table(engine, examples):
    odd = [Example("odd", ("1",), "not there"), Example("odd", ("1", "2"), "1")]
    result = compare(engine, engine, examples + odd)
    read = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert read["verdict"] == {
        "outcome": "not_inferior",
        "exit_code": 0,
        "margin": 0.05,
        "metrics": ["recall@10", "ndcg@10"],
        "users_needed": None,
    }
    assert read["nll_difference"]["low"] == pytest.approx(0, abs=1e-9)
    assert read["relative_difference"]["recall@10"]["joint_high"] >= read["relative_difference"]["recall@10"]["high"]
    assert read["targets_not_in_catalog"] == {"baseline": 1, "candidate": 1}
    assert (read["targets_in_history"], read["exclude_seen"]) == (1, True)
    text = text_of(render(result))
    for part in (
        "802 targets of 401 users",
        "recall@10",
        "baseline 1, candidate 1",
        "seen items excluded",
        "overlap 100.00%",
    ):
        assert part in text


def test_what_has_no_value_and_no_bound_is_said_in_words():
    baseline, candidate = tables([-9, -1.0, -2.0, -3.0], [-9, -2.0, -1.0, -3.5])
    result = compare(baseline, candidate, [Example(f"u{n}", ("0",), "3") for n in range(30)], k=1)
    text = text_of(render(result))
    assert "undefined" in text
    assert "not bounded" in text
    assert "nan" not in text
    assert "inf%" not in text


def test_predictions_made_once_give_the_same_comparison(engine, examples):
    other = TableEngine(engine.log_probs[::-1])
    once = compare(engine, other, examples)
    again = compare_predictions(predict(engine, examples), predict(other, examples))
    assert again == once


def test_progress_counts_both_engines(engine, examples):
    calls = []
    compare(engine, engine, examples[:5], batch=3, progress=lambda done, total, _: calls.append((done, total)))
    assert calls == [(3, 10), (5, 10), (8, 10), (10, 10)]


@pytest.mark.parametrize("margin", [0, 1.5])
def test_a_bad_margin_is_refused_before_any_work(engine, examples, margin):
    with pytest.raises(InputError, match="margin"):
        compare(engine, engine, examples, margin=margin)
    assert engine.recommended == []


def test_predictions_that_do_not_belong_together(engine, examples):
    here = predict(engine, examples[:10])
    with pytest.raises(MismatchError, match="user_ids"):
        compare_predictions(here, predict(engine, examples[10:20]))
    with pytest.raises(MismatchError, match="k: got 5"):
        compare_predictions(here, predict(engine, examples[:10], k=5))
    with pytest.raises(MismatchError, match="levels: got 1"):
        compare_predictions(here, predict(TableEngine(engine.log_probs[..., :1]), examples[:10]))
    nobody = [[Example("u", ("0",), "1"), Example("u", ("0",), target)] for target in ("2", "9")]
    small = TableEngine(engine.log_probs[:3, :3])
    with pytest.raises(MismatchError, match="targets"):
        compare_predictions(predict(small, nobody[0]), predict(small, nobody[1]))


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_log_probabilities_of_a_file_that_are_no_numbers_are_refused(engine, examples, tmp_path, value):
    predict(engine, examples).save(tmp_path / "saved")
    broken = Predictions.load(tmp_path / "saved")
    row = int(np.flatnonzero(broken.scored)[3])
    log_probs = broken.log_probs.copy()
    log_probs[row, 0] = value
    broken = replace(broken, log_probs=log_probs)
    for pair in ((broken, predict(engine, examples)), (broken, broken)):
        with pytest.raises(InputError, match=f"NaN or infinity for {broken.targets[row]} of user"):
            compare_predictions(*pair)


def test_catalogs_without_a_target_in_common():
    small, large = TableEngine(np.zeros((2, 2, 1))), TableEngine(np.zeros((4, 4, 1)))
    small.catalog.item_ids = ["0", "1"]
    large.catalog.item_ids = ["0", "2", "3"]
    with pytest.raises(MismatchError, match="no target is in both"):
        compare(small, large, [Example("u", ("0",), "1"), Example("v", ("0",), "2")], k=1)


def test_shadow_by_hand():
    baseline, candidate = tables([-9, -1.0, -2.0, -3.0], [-9, -1.25, -4.0, -3.0])
    result = shadow(baseline, candidate, [Request(["0"], k=2, exclude=["0"])], batch=1)
    assert (result.requests, result.answers) == (1, 2)
    assert vars(result.agreement) == {"overlap": 0.5, "identical": 0.0, "max_drift": 2.0, "mean_drift": 1.125}
    assert json.loads(json.dumps(result.to_dict()))["agreement"]["overlap"] == 0.5
    assert "2 answers" in text_of(render_shadow(result))


def test_shadow_takes_requests_of_every_kind_in_batches(engine):
    requests = [Request([str(item)], k=1 + item % 4, exclude=[str(item)]) for item in range(30)]
    calls = []
    result = shadow(engine, engine, requests, batch=8, progress=lambda *call: calls.append(call))
    assert result.answers == sum(request.k for request in requests)
    assert (result.agreement.overlap, result.agreement.max_drift) == (1, 0)
    assert calls == [(8, 30), (16, 30), (24, 30), (30, 30)]


def test_shadow_without_anything_to_compare(engine):
    with pytest.raises(InputError, match="requests: got 0"):
        shadow(engine, engine, [])
    with pytest.raises(InputError, match="batch: got 0"):
        shadow(engine, engine, [Request(["0"])], batch=0)
    everything = [str(item) for item in range(40)]
    with pytest.raises(InputError, match="none of them"):
        shadow(engine, engine, [Request(["0"], exclude=everything)])


@pytest.fixture
def walks():
    """Users who walk round a ring of 40 items: what comes next is certain, and every item equally popular."""
    rng = np.random.default_rng(5)
    starts = rng.integers(40, size=300)
    rows = [(f"u{user}", str((start + step) % 40), step) for user, start in enumerate(starts) for step in range(6)]
    users, items, times = zip(*rows, strict=True)
    return Interactions.from_table(pa.table({"user_id": users, "item_id": items, "timestamp": times}))


def test_floors_on_the_same_targets(walks):
    train, examples = leave_last_out(walks)
    floors = evaluate_baselines(train, examples, k=10)
    assert list(floors) == ["popularity", "markov"]
    assert floors["markov"].values()["recall@5"].mean() == 1
    assert floors["popularity"].values()["recall@10"].mean() < 0.6
    beats = difference(floors["markov"], floors["popularity"])
    assert beats.low > 0.3
    loses = difference(floors["popularity"], floors["markov"])
    assert loses.high < -0.3
    even = difference(floors["markov"], floors["markov"])
    assert even.value == 0
    assert even.low < 0 <= even.high  # a floor that hits every target has nothing to gain


def test_floors_stand_beside_both_sides_in_numbers_and_in_words(walks, engine):
    train, examples = leave_last_out(walks)
    result = compare(engine, engine, examples, k=(2, 10), train=train)
    assert list(result.floors) == ["popularity", "markov"]
    markov = result.floors["markov"]
    assert markov.values == {"recall@2": 1, "ndcg@2": 1, "recall@5": 1, "ndcg@5": 1, "recall@10": 1, "ndcg@10": 1}
    assert markov.lead.value == result.baseline["recall@10"] - 1
    assert json.loads(json.dumps(result.to_dict()))["floors"]["markov"]["recall@2"] == 1
    text = text_of(render(result))
    assert ["Markov", "chain", *["1.0000"] * 6] in [line.split() for line in text.splitlines()]
    assert "The baseline is beaten by the Markov chain: recall@10 -" in text
    assert "popularity: recall@10" in text
    assert compare(engine, engine, examples).floors == {}


def test_floors_count_targets_they_never_met(walks):
    train, examples = leave_last_out(walks)
    floors = evaluate_baselines(train, [*examples, Example("u", ("1",), "new")], k=10)
    assert int((~floors["markov"].known).sum()) == 1
    assert floors["markov"].values()["recall@10"][-1] == 0


def test_floors_have_no_verdict_and_know_their_metrics(walks):
    train, examples = leave_last_out(walks)
    floor = evaluate_baselines(train, examples)["markov"]
    with pytest.raises(InputError, match="log_probs"):
        compare_predictions(floor, floor)
    with pytest.raises(InputError, match="recall@5, ndcg@5, recall@10, ndcg@10"):
        difference(floor, floor, metric="recall@20")
    with pytest.raises(InputError, match="examples"):
        evaluate_baselines(train, [])


@pytest.mark.slow
@given(st.integers(0, 10**6), st.integers(10, 80), st.integers(1, 4))
@settings(max_examples=6, deadline=None)
def test_no_verdict_improves_when_lists_lose_hits_one_by_one(seed, users, targets):
    """The verdict follows ranked lists: one target after the other leaves the candidate's list, until none is left."""
    rng = np.random.default_rng(seed)
    n = users * targets
    lists = np.array([[f"other {place}" for place in range(10)]] * n, dtype=object)
    ids, wanted = np.repeat(np.arange(users), targets).astype(object), np.array(["wanted"] * n, dtype=object)
    place = rng.integers(0, 25, n)  # 10 and more: a miss
    lists[place < 10, place[place < 10]] = "wanted"
    truth = np.ones(n, bool), np.zeros(n, bool), np.full((n, 1), -1.0, np.float32)
    baseline = Predictions(ids, wanted, lists, *truth)
    order, before = ["inferior", "inconclusive", "not_inferior"], None
    for row in [None, *rng.permutation(np.flatnonzero(place < 10))]:
        if row is not None:
            lists = lists.copy()
            lists[row][lists[row] == "wanted"] = "lost"
        now = compare_predictions(baseline, Predictions(ids, wanted, lists, *truth), margin=0.1)
        if before is not None:
            assert order.index(now.verdict.outcome) <= order.index(before.verdict.outcome)
            for name, found in now.differences.items():
                assert found.low <= before.differences[name].low + 1e-9
        before = now
    if len(set(ids[place < 10])) > 25:  # few users are not beyond doubt, even where all that they had is lost
        assert now.verdict.outcome == "inferior"
