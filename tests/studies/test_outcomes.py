from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from octorec.errors import InputError, MismatchError
from octorec.evaluate.compare import compare_predictions
from octorec.evaluate.predictions import Predictions
from studies.quality.outcomes import Outcomes, outcomes_of, pooled


def made(rng: np.random.Generator, users: int, k: int = 10, hit_rate: float = 0.3) -> Predictions:
    """Users "0", "1", ... with two targets each, all of them item "t"; a hit stands somewhere in the list."""
    n = 2 * users
    ranked = np.array([[f"i{place}" for place in range(k)] for _ in range(n)], dtype=object)
    for row in np.flatnonzero(rng.random(n) < hit_rate):
        ranked[row, rng.integers(k)] = "t"
    ids = np.repeat([str(user) for user in range(users)], 2).astype(object)
    log_probs = rng.normal(-3, 1, (n, 3)).astype(np.float32)
    flags = np.ones(n, bool), np.zeros(n, bool)
    return Predictions(ids, np.array(["t"] * n, dtype=object), ranked, *flags, log_probs)


def test_outcomes_are_judged_as_the_predictions_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    before, after = made(rng, 200), made(rng, 200, hit_rate=0.1)
    outcomes_of({"bf16": before, "fp8": after}).save(tmp_path / "outcomes.parquet")
    found, verdict = Outcomes.load(tmp_path / "outcomes.parquet").judge("bf16", "fp8", 0.05)
    whole = compare_predictions(before, after, 0.05)
    for name, value in whole.differences.items():
        assert (found[name].low, found[name].high) == pytest.approx((value.low, value.high))
    assert found["nll"].value == pytest.approx(whole.nll.value, rel=1e-4)
    assert verdict.outcome == whole.verdict.outcome == "inferior"


def test_pooled_users_stay_apart() -> None:
    rng = np.random.default_rng(1)
    parts = {name: outcomes_of({"bf16": made(rng, n), "fp8": made(rng, n)}) for name, n in (("a", 200), ("b", 300))}
    whole = pooled(parts)
    found, _ = whole.judge("bf16", "fp8", 0.05)
    assert found["recall@10"].users == 500
    hits = {name: sum(part.values(name_)["recall@10"].sum() for part in parts.values())
            for name, name_ in (("before", "bf16"), ("after", "fp8"))}  # fmt: skip
    assert found["recall@10"].value == pytest.approx(hits["after"] / hits["before"] - 1)


def test_only_what_every_part_has_is_pooled() -> None:
    rng = np.random.default_rng(2)
    one, two = made(rng, 3), made(rng, 3)
    whole = pooled({"a": outcomes_of({"bf16": one, "fp8": two}), "b": outcomes_of({"bf16": one})})
    assert list(whole.systems) == ["bf16"]
    with pytest.raises(InputError, match="system: got 'fp8'; allowed: bf16"):
        whole.values("fp8")


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    with pytest.raises(MismatchError, match=r"outcomes: k: got \[5, 10\]"):
        pooled({"a": outcomes_of({"x": made(rng, 3)}), "b": outcomes_of({"x": made(rng, 3, k=5)})})
    with pytest.raises(MismatchError, match="predictions of y"):
        outcomes_of({"x": made(rng, 3), "y": made(rng, 4)})
    made(rng, 3).save(tmp_path / "other.parquet")
    with pytest.raises(InputError, match=r"must be a file that Outcomes\.save wrote"):
        Outcomes.load(tmp_path / "other.parquet")


SAVED_WRONG = {
    "null rank": ("bf16: rank", pa.array([None, 1, 2, -1], pa.int16()), "1 nulls"),
    "fraction": ("bf16: rank", pa.array([0.5, 1, 2, np.nan]), "must be int16"),
    "text": ("bf16: rank", pa.array(["0", "1", "2", "3"]), "must be int16"),
    "below -1": ("bf16: rank", pa.array([0, 1, 2, -2], pa.int16()), "-1 to 9"),
    "behind the list": ("bf16: rank", pa.array([0, 1, 2, 10], pa.int16()), "-1 to 9"),
    "text as NLL": ("bf16: nll", pa.array(["0", "1", "2", "3"]), "must be float"),
    "no user": ("user_id", pa.array([None, "a", "b", "c"]), "1 nulls"),
}


@pytest.mark.parametrize("kind", SAVED_WRONG)
def test_outcomes_with_a_wrong_column_are_refused_and_never_counted_as_hits(tmp_path: Path, kind: str) -> None:
    name, values, message = SAVED_WRONG[kind]
    outcomes_of({"bf16": made(np.random.default_rng(4), 2)}).save(tmp_path / "saved")
    table = pq.read_table(tmp_path / "saved")
    pq.write_table(table.set_column(table.column_names.index(name), name, values), tmp_path / "wrong")
    with pytest.raises(InputError, match=f"column {name}: got .*{message}"):
        Outcomes.load(tmp_path / "wrong")


@pytest.mark.parametrize("k", ["0", "-1", "9" * 5000, "\u00b2", ""])
def test_outcomes_of_no_length_of_list_or_no_nll_are_refused(tmp_path: Path, k: str) -> None:
    outcomes_of({"bf16": made(np.random.default_rng(4), 2)}).save(tmp_path / "saved")
    table = pq.read_table(tmp_path / "saved")
    pq.write_table(table.replace_schema_metadata({"k": k}), tmp_path / "wrong")
    pq.write_table(table.drop_columns(["bf16: nll"]), tmp_path / "no_nll")
    for name in ("wrong", "no_nll"):
        with pytest.raises(InputError, match=r"must be a file that Outcomes\.save wrote"):
            Outcomes.load(tmp_path / name)
