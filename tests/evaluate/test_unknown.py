"""Item ids that the catalog lacks are left out of histories, counted and named with their users; or refused by name."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console
from table_engine import TableEngine, random_table

from octorec.data.interactions import Interactions, read_interactions
from octorec.data.splits import Example, leave_last_out
from octorec.engine.request import Answer, Request
from octorec.errors import InputError, NonFiniteError
from octorec.evaluate.compare import compare, compare_predictions
from octorec.evaluate.predictions import Predictions, predict
from octorec.evaluate.shadow import shadow
from octorec.evaluate.unknown import Unknown, askable
from octorec.report.verdict import render, render_shadow


@pytest.fixture
def engine():
    return TableEngine(random_table(np.random.default_rng(0), items=12))


def printed(what) -> str:
    console = Console(width=300, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(what, markup=False)
    return console.export_text()


def plain(examples):
    """The same examples without the ids that are no item."""
    return [Example(e.user_id, tuple(item for item in e.history if item.isdigit()), e.target) for e in examples]


EXAMPLES = [
    Example("u1", ("1", "gone", "2"), "3"),
    Example("u2", ("4", "gone", "gone", "lost"), "5"),
    Example("u2", ("4", "gone", "lost", "5"), "6"),
    Example("u3", ("7",), "8"),
]


def test_an_unknown_item_is_left_out_and_counted_with_its_users(engine):
    result = predict(engine, EXAMPLES, k=3)
    expected = predict(engine, plain(EXAMPLES), k=3)
    np.testing.assert_array_equal(result.ranked, expected.ranked)
    np.testing.assert_array_equal(result.log_probs, expected.log_probs)
    assert result.unknown == Unknown(3, 2, (("u1", "gone"), ("u2", "gone"), ("u2", "lost")))
    assert expected.unknown == Unknown()
    assert all(set(request.history) <= set(engine.catalog.item_ids) for request in engine.recommended)


def test_refused_unknown_items_name_the_user_and_what_to_do(engine):
    with pytest.raises(InputError, match=r"history of u1: got 'gone'; is no item of the catalog; .*unknown_items"):
        predict(engine, EXAMPLES, k=3, unknown_items="refuse")
    assert engine.recommended == []
    predict(engine, plain(EXAMPLES), k=3, unknown_items="refuse")
    with pytest.raises(InputError, match="unknown_items: got 'keep'; allowed: drop, refuse"):
        predict(engine, EXAMPLES, unknown_items="keep")


def test_a_history_of_which_nothing_is_known_is_a_miss_unless_the_user_has_fields(engine):
    examples = [Example("a", ("gone",), "3"), *EXAMPLES, Example("b", ("gone", "lost"), "new")]
    result = predict(engine, examples, k=3, batch=2)
    assert result.askable.tolist() == [False, True, True, True, True, False]
    assert result.known.tolist() == [True] * 5 + [False]
    assert result.scored.tolist() == [False, True, True, True, True, False]
    assert (result.ranked[[0, 5]] == "").all()
    assert np.isnan(result.log_probs[[0, 5]]).all()
    assert result.values()["recall@3"][0] == 0
    assert result.unknown.not_asked == 2
    asked = []
    empty = SimpleNamespace(
        catalog=engine.catalog,
        exclude_seen=False,
        recommend=lambda requests: asked.extend(requests) or [SimpleNamespace(items=[]) for _ in requests],
        score=lambda requests, targets: np.full((len(requests), 2), -1.0),
    )
    of_user = predict(empty, examples[:1], k=3, users={"a": {"age": 3}})
    assert of_user.askable.all()
    assert (asked[0].history, dict(asked[0].user)) == ((), {"age": 3})


class PopularEngine(TableEngine):
    """Answers an empty history by the items of the highest numbers, as one whose catalog has counts does."""

    def __init__(self, log_probs):
        super().__init__(log_probs)
        self.catalog.interactions = np.arange(len(log_probs))

    def _answer(self, request):
        if request.history:
            return super()._answer(request)
        items = self.catalog.item_ids[::-1][: request.k]
        return Answer(items, [0.0] * len(items), [(0, 0)] * len(items), items, True, source="popularity")


def test_a_history_of_which_nothing_is_known_is_judged_by_the_popularity_that_would_be_served(engine):
    popular, best = PopularEngine(engine.log_probs), str(len(engine.log_probs) - 1)
    examples = [Example("a", ("gone",), best), *EXAMPLES, Example("b", ("gone", "lost"), "0")]
    result = predict(popular, examples, k=3)
    assert result.ranked[[0, 5]].tolist() == [popular.catalog.item_ids[::-1][:3]] * 2
    assert result.values()["recall@3"][[0, 5]].tolist() == [1, 0]
    assert result.scored.tolist() == [False, True, True, True, True, False]
    assert np.isnan(result.log_probs[[0, 5]]).all()
    np.testing.assert_array_equal(result.ranked[1:5], predict(engine, EXAMPLES, k=3).ranked)
    assert (result.unknown.by_popularity, result.unknown.not_asked) == (2, 0)
    assert "Answered by popularity, as nothing of the history is in the catalog: 2" in result.unknown.lines()
    compared = compare_predictions(result, predict(popular, examples, k=3))
    assert compared.to_dict()["unknown_items"]["baseline"]["by_popularity"] == 2


def test_nothing_to_ask_at_all_is_refused(engine):
    with pytest.raises(InputError, match="no target in the catalog has a history with an item of it"):
        predict(engine, [Example("a", ("gone",), "3"), Example("b", ("1",), "new")], k=3)
    with pytest.raises(InputError, match="examples: got 1"):
        askable([Example("a", ("gone",), "3")], engine.catalog.item_ids, {})


def test_a_new_item_among_the_last_two_is_a_missed_target_and_then_left_out(engine, tmp_path):
    rows = [f"u{user},{(user + step) % 12},{step}" for user in range(3) for step in range(4)]
    (tmp_path / "data.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows, "u1,999,4", "u1,7,5"]))
    interactions: Interactions = read_interactions(tmp_path / "data.csv")
    result = predict(engine, leave_last_out(interactions, 2)[1], k=3)
    assert result.known.sum() == 5
    assert result.unknown == Unknown(1, 1, (("u1", "999"),))


def test_the_comparison_says_so_to_people_and_programs(engine):
    examples = [*EXAMPLES, Example("[red]x", ("gone",), "3")]
    result = compare(engine, engine, examples, k=3)
    said = json.loads(json.dumps(result.to_dict()))["unknown_items"]
    assert said["baseline"] == said["candidate"]
    assert {name: said["baseline"][name] for name in ("items", "users", "not_asked")} == {
        "items": 4, "users": 3, "not_asked": 1
    }  # fmt: skip
    assert said["baseline"]["first"][0] == {"user": "u1", "item": "gone"}
    text = printed(render(result))
    some = "'gone' of u1, 'gone' of u2, 'lost' of u2, 'gone' of [red]x"
    assert text.count(f"Items not in the catalog, left out: 4 of 3 users, such as {some}") == 1
    assert "Not asked, as nothing of the history is in the catalog: 1" in text
    assert "left out" not in printed(render(compare(engine, engine, plain(EXAMPLES), k=3)))


def test_each_side_leaves_out_what_its_own_catalog_lacks(engine):
    small = TableEngine(engine.log_probs[:9, :9])
    examples = [Example("u", ("1", "10", "2"), "3"), Example("v", ("11",), "4"), Example("w", ("1",), "2")]
    result = compare(engine, small, examples, k=3)
    assert result.unknown == (Unknown(), Unknown(2, 2, (("u", "10"), ("v", "11")), 1))
    assert np.isfinite([result.nll.value, result.agreement.max_drift]).all()
    text = printed(render(result))
    assert "Candidate: Items not in the catalog, left out: 2 of 2 users" in text
    assert "Baseline: " not in text


def test_what_was_not_asked_survives_saving(engine, tmp_path):
    result = predict(engine, [Example("a", ("gone",), "3"), *EXAMPLES], k=3)
    result.save(tmp_path / "p.parquet")
    again = Predictions.load(tmp_path / "p.parquet")
    assert again.askable.tolist() == [False, True, True, True, True]
    assert again.at(np.array([0, 2])).askable.tolist() == [False, True]


def test_shadow_leaves_unknown_ids_out_of_history_and_exclude(engine):
    requests = [Request(["1", "gone"], k=3, exclude=["lost", "2"]), Request(["gone"], k=3), Request(["4"], k=3)]
    result = shadow(engine, engine, requests)
    assert (result.requests, result.answers) == (3, 6)
    assert result.unknown == Unknown(
        3, 2, (("request 1", "gone"), ("request 1", "lost"), ("request 2", "gone")), not_asked=1
    )
    assert result.to_dict()["unknown_items"]["items"] == 3
    assert "left out: 3 of 2 requests, such as 'gone' of request 1" in printed(render_shadow(result))
    with pytest.raises(InputError, match="history of request 1: got 'gone'"):
        shadow(engine, engine, requests, unknown_items="refuse")
    with pytest.raises(InputError, match="exclude of request 1: got 'lost'"):
        shadow(engine, engine, [Request(["1"], exclude=["lost"])], unknown_items="refuse")
    with pytest.raises(InputError, match="requests: got 1"):
        shadow(engine, engine, [Request(["gone"], k=3)])


class Broken(TableEngine):
    """Scores of requests whose history ends with `item` are NaN, in one of its two calls."""

    def __init__(self, table, item, call):
        super().__init__(table)
        self.item, self.call = item, call

    def recommend(self, requests):
        self.check(requests, "recommend")
        return super().recommend(requests)

    def score(self, requests, targets):
        self.check(requests, "score")
        return super().score(requests, targets)

    def check(self, requests, call):
        places = [place for place, request in enumerate(requests) if request.history[-1] == self.item]
        if places and call == self.call:
            raise NonFiniteError("runs/broken", places, f"request {places[0] + 1} of {len(requests)}")


@pytest.mark.parametrize("call", ["recommend", "score"])
def test_scores_that_are_no_numbers_name_checkpoint_and_user(engine, call):
    broken = Broken(engine.log_probs, "5", call)
    examples = [Example("u", ("gone",), "3"), *EXAMPLES]
    for batch in (1, 256):
        with pytest.raises(NonFiniteError, match=r"runs/broken.* user u2 with the target '6'") as caught:
            compare(engine, broken, examples, k=3, batch=batch)
        assert caught.value.places == (3,)


@pytest.mark.parametrize("call", ["recommend", "score"])
def test_scores_that_are_no_numbers_name_checkpoint_and_request_in_shadow(engine, call):
    broken = Broken(engine.log_probs, "5", call)
    requests = [Request([item], k=3) for item in ("gone", "1", "5", "2")]
    for batch in (1, 256):
        with pytest.raises(NonFiniteError, match=r"runs/broken.* request 3") as caught:
            shadow(engine, broken, requests, batch=batch)
        assert caught.value.places == (2,)
