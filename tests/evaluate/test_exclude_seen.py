"""What is judged is what would be served: with seen items or without, said in every result, never mixed."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from rich.console import Console
from table_engine import TableEngine, random_table, sampled_examples

from octorec.data.interactions import Interactions
from octorec.data.splits import Example
from octorec.engine.request import Request
from octorec.errors import InputError, MismatchError
from octorec.evaluate.compare import compare, compare_predictions, difference, evaluate_baselines
from octorec.evaluate.predictions import Predictions, predict
from octorec.evaluate.shadow import shadow
from octorec.report.verdict import render, render_shadow
from studies.quality.outcomes import Outcomes, outcomes_of, pooled

TABLE = random_table(np.random.default_rng(0), items=12)
BACK = [Example(f"u{n}", ("1", "2", str(n % 12)), str(n % 3)) for n in range(24)]  # 1 and 2 were met before, 0 may be


def text_of(rendered: object) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(rendered)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.fixture
def engines() -> dict[bool, TableEngine]:
    return {rule: TableEngine(TABLE, exclude_seen=rule) for rule in (False, True)}


def test_lists_are_those_that_the_engine_would_serve(engines: dict[bool, TableEngine]) -> None:
    for rule, engine in engines.items():
        by_default, said = predict(engine, BACK, k=11), predict(engines[not rule], BACK, k=11, exclude_seen=rule)
        assert by_default.exclude_seen is said.exclude_seen is rule
        np.testing.assert_array_equal(by_default.ranked, said.ranked)
        held = [set(example.history) & set(row) for example, row in zip(BACK, by_default.ranked, strict=True)]
        assert any(held) is not rule
    hits = {rule: predict(engine, BACK, k=11).values()["recall@11"] for rule, engine in engines.items()}
    seen = predict(engines[True], BACK, k=11).seen
    assert seen.sum() >= 16
    assert not hits[True][seen].any()
    assert hits[False][seen].any()


def test_two_rules_are_never_compared(engines: dict[bool, TableEngine], tmp_path: Path) -> None:
    found = {rule: predict(engine, BACK, k=5) for rule, engine in engines.items()}
    with pytest.raises(MismatchError, match=r"exclude_seen: got True; the baseline's is False"):
        compare_predictions(found[False], found[True])
    with pytest.raises(MismatchError, match="exclude_seen"):
        compare(engines[False], engines[True], BACK)
    assert compare(engines[False], engines[True], BACK, exclude_seen=True).exclude_seen
    with pytest.raises(MismatchError, match="exclude_seen"):
        outcomes_of({"a": found[False], "b": found[True]})
    parts = {str(rule): outcomes_of({"a": one}) for rule, one in found.items()}
    with pytest.raises(MismatchError, match="exclude_seen"):
        pooled(parts)
    with pytest.raises(MismatchError, match="candidate: exclude_seen: got True; the baseline's is False"):
        shadow(engines[False], engines[True], [Request(["1"], k=3)])


@pytest.mark.parametrize("rule", [False, True])
def test_saved_lists_remember_their_rule(rule: bool, engines: dict[bool, TableEngine], tmp_path: Path) -> None:
    found = predict(engines[rule], BACK, k=5)
    found.save(tmp_path / "lists")
    outcomes_of({"a": found}).save(tmp_path / "outcomes")
    assert Predictions.load(tmp_path / "lists").exclude_seen is rule
    assert Predictions.load(tmp_path / "lists").at(np.array([0, 2])).exclude_seen is rule
    assert Outcomes.load(tmp_path / "outcomes").exclude_seen is rule
    assert pooled({"x": Outcomes.load(tmp_path / "outcomes")}).exclude_seen is rule
    other = predict(engines[not rule], BACK, k=5)
    with pytest.raises(MismatchError, match="exclude_seen"):
        compare_predictions(Predictions.load(tmp_path / "lists"), other)


def test_files_from_before_hold_no_seen_item_and_others_are_refused(
    engines: dict[bool, TableEngine], tmp_path: Path
) -> None:
    path = tmp_path / "lists"
    predict(engines[False], BACK, k=5).save(path)
    table = pyarrow.parquet.read_table(path)
    pyarrow.parquet.write_table(table.replace_schema_metadata({"asked": "5"}), path)
    assert Predictions.load(path).exclude_seen
    pyarrow.parquet.write_table(table.replace_schema_metadata({"asked": "5", "exclude_seen": "perhaps"}), path)
    with pytest.raises(InputError, match="exclude_seen: got 'perhaps'; must be true or false"):
        Predictions.load(path)


def test_the_terminal_says_the_rule_and_what_it_costs(engines: dict[bool, TableEngine]) -> None:
    new = sampled_examples(np.random.default_rng(3), engines[True], users=30)
    said = {(rule, back): text_of(render(compare(engine, engine, BACK if back else new)))
            for rule, engine in engines.items() for back in (False, True)}  # fmt: skip
    count = int(predict(engines[True], BACK).seen.sum())
    share = f"{count} of the 24 targets ({count / 24:.1%}) stand in their own history"
    assert "seen items excluded" in said[True, True]
    assert f"warning: {share}, so that excluding seen items makes them misses for both" in said[True, True]
    assert "seen items not excluded" in said[False, True]
    assert f"{share}: excluding seen items would lose them" in said[False, True]
    assert "No target stands in its own history: excluding seen items loses none" in said[True, False]
    assert "nobody comes back to an item here, see --exclude-seen" in said[False, False]


def test_results_for_programs_state_the_rule(engines: dict[bool, TableEngine]) -> None:
    for rule, engine in engines.items():
        assert compare(engine, engine, BACK).to_dict()["exclude_seen"] is rule
        seen = shadow(engine, engine, [Request(["1"], k=3)])
        assert seen.to_dict()["exclude_seen"] is rule
        assert f"seen items {'' if rule else 'not '}excluded" in text_of(render_shadow(seen))


def test_floors_follow_the_rule_of_what_is_compared_with_them(engines: dict[bool, TableEngine]) -> None:
    rows = [(f"u{n}", str(item), time) for n in range(20) for time, item in enumerate((1, 2, (n % 9) + 3))]
    users, items, times = zip(*rows, strict=True)
    train = Interactions.from_table(pa.table({"user_id": users, "item_id": items, "timestamp": times}))
    for rule, engine in engines.items():
        floors = evaluate_baselines(train, BACK, k=5, exclude_seen=rule)
        for name in ("popularity", "markov"):
            held = [set(example.history) & set(row) for example, row in zip(BACK, floors[name].ranked, strict=True)]
            assert any(held) is not rule
            difference(predict(engine, BACK, k=5), floors[name])
            with pytest.raises(MismatchError, match="exclude_seen"):
                difference(predict(engines[not rule], BACK, k=5), floors[name])
