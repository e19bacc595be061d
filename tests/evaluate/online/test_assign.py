"""Assignment is the one that docs/online-assignment.md says, fair inside any ramp, and stable as a ramp goes up."""

import dataclasses
import hashlib
import json
import random
import re
import shutil
import subprocess
import unicodedata
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest, chi2_contingency

from octorec.errors import InputError
from octorec.evaluate.online.assign import BUCKETS, Assignment, assign, borders, bucket, variant_of
from octorec.evaluate.online.buckets import drawn
from octorec.evaluate.online.experiment import Experiment, parse_experiment
from octorec.evaluate.online.unit import unit_id

TEXT = Path(__file__).parents[3] / "docs/online-assignment.md"
DOCUMENTED = {
    "salt": "spring-2026",
    "variants": {"control": {"share": "2/5"}, "fp8": {"share": "2/5"}, "fresh": {"share": "1/5"}},
    "ramp": "1/2",
    "hold_out": "1/20",
    "overrides": {"tester": "fp8"},
}


def experiment(**changes: Any) -> Experiment:
    metrics = {"buyers": {"kind": "proportion", "event": "buy", "window": "1d", "role": "goal"}}
    variants = {"control": {"share": 0.5}, "b": {"share": 0.5}}
    raw = {"name": "one", "salt": "s1", "unit": "user_id", "variants": variants, "metrics": metrics}
    return parse_experiment({**raw, "plan": {"units": 1000}, **changes})


def documented(heading: str, columns: int) -> list[tuple[Any, ...]]:
    """The rows of the table below a heading: JSON where a cell is code, and otherwise text."""
    part = TEXT.read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("|")][2:]
    assert all(len(row) == columns for row in rows)
    return [tuple(_cell(cell.replace("\\|", "|")) for cell in row) for row in rows]


def _cell(text: str) -> Any:
    if text.endswith(" × 256"):
        return _cell(text.removesuffix(" × 256")) * 256
    found = re.fullmatch("`(.*)`", text)
    if found is None:
        return text
    return found[1] if re.fullmatch("[a-z_-]+", found[1]) and found[1] != "null" else json.loads(found[1])


BUCKET_ROWS = documented("A bucket", 4)
ASSIGNED_ROWS = documented("Test vectors", 3)


def second_bucket(salt: str, purpose: str, unit: str) -> int:
    """The page's rule, written another way: hexadecimal text, and a remainder taken digit by digit."""
    hashed = hashlib.new("sha256")
    for number, part in enumerate((salt, purpose, unit)):
        hashed.update((b"\x00" if number else b"") + part.encode("utf-8"))
    remainder = 0
    for digit in hashed.hexdigest()[:12]:
        remainder = (remainder * 16 + "0123456789abcdef".index(digit)) % 10000
    return remainder


def second_assign(one: Experiment, unit: Any, hold_out_salt: str) -> tuple[str, str]:
    """The page's rule, written another way: no borders, but sums of exact fractions."""
    if unit in (None, ""):
        return "control", "no_unit"
    text = unicodedata.normalize("NFC", f"{unit}")
    for tester, variant in one.overrides.items():
        if tester == text:
            return variant, "tester"
    if Fraction(second_bucket(hold_out_salt, "hold-out", text), 10000) < one.hold_out:
        return "control", "hold_out"
    if Fraction(second_bucket(one.salt, "ramp", text), 10000) >= one.ramp:
        return "control", "outside"
    place, total = Fraction(second_bucket(one.salt, "variant", text), 10000), Fraction(0)
    for name, variant in one.variants.items():
        total += variant.share
        if place < total:
            return name, "experiment"
    raise AssertionError("a bucket without a variant")


def test_the_documented_buckets_are_ours_and_those_of_a_second_implementation() -> None:
    assert len(BUCKET_ROWS) == 12
    for salt, purpose, unit, number in BUCKET_ROWS:
        assert bucket(salt, purpose, unit) == second_bucket(salt, purpose, unit) == int(number)


def test_the_documented_assignments_are_ours_and_those_of_a_second_implementation() -> None:
    one = experiment(**DOCUMENTED)
    assert {group for _, _, group in ASSIGNED_ROWS} == {"experiment", "hold_out", "outside", "tester", "no_unit"}
    for unit, variant, group in ASSIGNED_ROWS:
        assert assign(one, unit, "shop") == Assignment(variant, group)
        assert second_assign(one, unit, "shop") == (variant, group)


def test_the_documented_borders_are_among_the_vectors() -> None:
    numbers = [bucket("spring-2026", "variant", unit) for unit, _, group in ASSIGNED_ROWS if group == "experiment"]
    assert {0, 3999, 4000, 7999, 8000, 9999} <= set(numbers)


def test_thousands_of_assignments_are_those_of_a_second_implementation() -> None:
    draw = random.Random(1)
    for number in range(40):
        parts = [draw.randrange(1, 50) for _ in range(draw.randrange(2, 6))]
        names = ["control", "a", "b", "c", "d"][: len(parts)]
        draw.shuffle(names)
        variants = {name: {"share": f"{part}/{sum(parts)}"} for name, part in zip(names, parts, strict=True)}
        ramp, hold_out = f"{draw.randrange(1, 100)}/99", f"{draw.randrange(0, 30)}/61"
        one = experiment(salt=f"salt {number}", variants=variants, ramp=ramp, hold_out=hold_out)
        for unit in range(50):
            found = assign(one, unit, "the deployment's")
            assert (found.variant, found.group) == second_assign(one, unit, "the deployment's")


NODE = """
const { buckets, experiment, units, holdOutSalt } = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
experiment.overrides = new Map(Object.entries(experiment.overrides));
const assigned = units.map((one) => assign(experiment, one, holdOutSalt));
process.stdout.write(JSON.stringify({ assigned, buckets: buckets.map((row) => bucket(...row)) }));
"""


def test_the_documented_javascript_gives_the_same() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs Node.js, and there is none here")
    one = experiment(**DOCUMENTED)
    units = [unit for unit, _, _ in ASSIGNED_ROWS] + [f"é{number}" for number in range(2000)]
    total, sums = Fraction(0), []
    for name, variant in one.variants.items():
        total += variant.share
        sums.append([name, [total.numerator, total.denominator]])
    shares = {"ramp": [1, 2], "holdOut": [1, 20], "sums": sums, "salt": one.salt, "overrides": dict(one.overrides)}
    rows = [row[:3] for row in BUCKET_ROWS]
    asked = json.dumps({"buckets": rows, "experiment": shares, "units": units, "holdOutSalt": "shop"})
    script = TEXT.read_text(encoding="utf-8").split("```javascript\n")[1].split("```")[0] + NODE
    done = subprocess.run([node, "-e", script], input=asked, capture_output=True, text=True, check=True, timeout=300)
    found = json.loads(done.stdout)
    assert found["buckets"] == [int(row[3]) for row in BUCKET_ROWS]
    ours = [assign(one, unit, "shop") for unit in units]
    assert found["assigned"] == [[each.variant, each.group] for each in ours]


@pytest.fixture(scope="module")
def ramps() -> dict[str, list[Assignment]]:
    """What 100,000 units get at a ramp of 10 % and of 20 %."""
    units = [f"user-{number}" for number in range(100_000)]
    both = {ramp: experiment(ramp=ramp) for ramp in ("1/10", "1/5")}
    return {ramp: [assign(one, unit) for unit in units] for ramp, one in both.items()}


def test_inside_a_ramp_of_a_tenth_variants_have_their_shares(ramps: dict[str, list[Assignment]]) -> None:
    counts = Counter(one.variant for one in ramps["1/10"] if one.counted)
    assert binomtest(counts.total(), 100_000, 0.1).pvalue > 0.001
    assert binomtest(counts["b"], counts.total(), 0.5).pvalue > 0.001


def test_a_higher_ramp_keeps_who_was_in_and_changes_nobodys_variant(ramps: dict[str, list[Assignment]]) -> None:
    pairs = list(zip(ramps["1/10"], ramps["1/5"], strict=True))
    assert all(after == before for before, after in pairs if before.counted)
    joined = Counter(after.variant for before, after in pairs if after.counted and not before.counted)
    assert joined.total() > 9_000
    assert binomtest(joined["b"], joined.total(), 0.5).pvalue > 0.001


def test_experiments_of_two_salts_divide_units_independently(ramps: dict[str, list[Assignment]]) -> None:
    other = experiment(salt="s2", ramp="1/5")
    theirs = [assign(other, f"user-{number}") for number in range(100_000)]
    in_both = Counter((a.counted, b.counted) for a, b in zip(ramps["1/5"], theirs, strict=True))
    variants = Counter(
        (a.variant, b.variant) for a, b in zip(ramps["1/5"], theirs, strict=True) if a.counted * b.counted
    )
    for table, keys in ((in_both, (False, True)), (variants, ("control", "b"))):
        assert chi2_contingency([[table[row, column] for column in keys] for row in keys]).pvalue > 0.001


def test_ramp_hold_out_and_variant_know_nothing_of_each_other() -> None:
    salt = "one salt for all three"
    for first, second in (("hold-out", "ramp"), ("ramp", "variant"), ("hold-out", "variant")):
        units = range(20_000)
        table = Counter((bucket(salt, first, f"{u}") // 2500, bucket(salt, second, f"{u}") // 2500) for u in units)
        assert chi2_contingency([[table[row, column] for column in range(4)] for row in range(4)]).pvalue > 0.001


def test_the_hold_out_is_the_same_people_in_every_experiment_and_a_larger_one_keeps_them() -> None:
    def held(share: str, salt: str, name: str) -> set[int]:
        one = experiment(hold_out=share, salt=name)
        return {unit for unit in range(5_000) if assign(one, unit, salt).group == "hold_out"}

    small = held("1/20", "shop", "s1")
    assert small == held("1/20", "shop", "s2")
    assert small < held("1/10", "shop", "s1")
    assert binomtest(len(small), 5_000, 0.05).pvalue > 0.001
    assert small != held("1/20", "another shop", "s1")


def test_the_highest_bucket_has_a_variant_for_three_thirds() -> None:
    thirds = experiment(variants={name: {"share": "1/3"} for name in ("a", "control", "b")})
    assert variant_of(thirds, BUCKETS - 1) == "b"
    counts = Counter(variant_of(thirds, number) for number in range(BUCKETS))
    assert counts == {"a": 3334, "control": 3333, "b": 3333}
    assert list(drawn({"a": Fraction(1, 3), "b": Fraction(2, 3)}).values()) == [
        Fraction(1667, 5000),
        Fraction(3333, 5000),
    ]


def test_a_hash_of_all_ones_has_a_variant(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ones:
        def digest(self) -> bytes:
            return b"\xff" * 32

    monkeypatch.setattr("octorec.evaluate.online.buckets.sha256", lambda _: Ones())
    thirds = experiment(variants={name: {"share": "1/3"} for name in ("control", "a", "b")})
    assert bucket("s", "variant", "u") == (2**48 - 1) % BUCKETS
    assert assign(thirds, "u") == Assignment("control", "experiment")


@pytest.mark.parametrize("parts", [[1, 1], [1, 1, 1], [1, 6], [1, 9998, 1], [3333, 3333, 3334], [7, 11, 13, 17, 19]])
def test_each_share_has_its_buckets_to_less_than_one(parts: list[int]) -> None:
    shares = [Fraction(part, sum(parts)) for part in parts]
    ends = borders(shares)
    assert ends[-1] == BUCKETS
    counts = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    assert all(count >= 1 and abs(count - share * BUCKETS) < 1 for count, share in zip(counts, shares, strict=True))


def test_buckets_are_integers_and_equally_likely() -> None:
    numbers = [bucket("s", "variant", f"{unit}") for unit in range(50_000)]
    assert {type(number) for number in numbers} == {int}
    tenths = Counter(number // 1000 for number in numbers)
    assert chi2_contingency([[tenths[part] for part in range(10)], [5_000] * 10]).pvalue > 0.001


def test_salt_and_unit_do_not_run_into_each_other() -> None:
    spread = [("ab", "c"), ("a", "bc"), ("abc", ""), ("", "abc")]
    assert len({bucket(salt, "ramp", unit) for salt, unit in spread}) == 4


def test_testers_get_their_variant_in_every_ramp_and_are_not_counted() -> None:
    one = experiment(ramp=0, overrides={"José": "b"})
    assert assign(one, "José") == Assignment("b", "tester")
    assert not assign(one, "José").counted
    assert assign(one, "Jose") == Assignment("control", "outside")


@pytest.mark.parametrize("unit", [None, ""])
def test_a_unit_without_an_id_gets_the_control_and_is_not_counted(unit: str | None) -> None:
    assert assign(experiment(), unit) == Assignment("control", "no_unit")


def test_integers_and_unicode_forms_are_one_unit() -> None:
    assert unit_id(42) == unit_id("42") == "42"
    assert unit_id("e\u0301") == unit_id("\u00e9") == "\u00e9"
    assert unit_id("\u1f82" * 85) == unit_id(unicodedata.normalize("NFD", "\u1f82" * 85))  # 85 characters, or 340
    assert unit_id("\uff21") == "\uff21"  # a wide A is another letter in NFC
    assert (unit_id("042"), unit_id(" 42"), unit_id("Anna")) == ("042", " 42", "Anna")
    assert (unit_id(-(2**64) + 1), unit_id(2**64 - 1)) == (str(-(2**64) + 1), str(2**64 - 1))


NO_IDS: list[Any] = [
    True, False, 1.0, float("nan"), b"anna", ["anna"], {"id": 1}, 2**64, -(2**64), 10**4000,
    "\ud800", "anna\udfff", "u" * 257, "é" * 129, "u" * 2**20, "\u0344" * 2**20,
]  # fmt: skip


@pytest.mark.parametrize("value", NO_IDS, ids=range(len(NO_IDS)))
def test_what_is_no_id_is_refused_and_never_assigned(value: Any) -> None:
    for refuse in (unit_id, lambda unit: assign(experiment(), unit)):
        with pytest.raises(InputError, match=r"^unit: ") as error:
            refuse(value)
        assert len(str(error.value)) < 1000


def test_the_longest_id_is_of_256_bytes() -> None:
    assert unit_id("é" * 128) == "é" * 128
    assert assign(experiment(), "u" * 256).group == "experiment"


def test_a_changed_copy_of_an_experiment_has_borders_of_its_own() -> None:
    one = experiment(ramp="1/2", hold_out=0)
    assert (one.ramp_border, one.hold_out_border, one.variant_borders) == (5000, 0, [5000, 10000])
    wider = dataclasses.replace(one, ramp=Fraction(2, 3), hold_out=Fraction(1, 3))
    assert (wider.ramp_border, wider.hold_out_border) == (6667, 3334)
    assert one == experiment(ramp="1/2", hold_out=0)


def test_borders_are_made_once_an_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    counted = lambda shares: made.append(1) or borders(shares)  # noqa: E731
    monkeypatch.setattr("octorec.evaluate.online.design.borders", counted)
    one = experiment()
    for unit in range(100):
        assign(one, unit)
    assert len(made) == 1
