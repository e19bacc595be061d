"""An experiment's YAML file is read strictly: what is written is what is meant, or an error that names the field."""

import copy
import dataclasses
import math
import re
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml

from octorec.errors import InputError
from octorec.evaluate.online.experiment import (
    Experiment,
    Guard,
    Metric,
    Plan,
    Variant,
    parse_experiment,
    read_experiment,
    seconds,
)

FILE = """
name: fp8-spring
salt: spring-2026
unit: user_id
variants:
  control: {share: 0.45}
  fp8: {share: 0.45, checkpoint: models/fp8, beam_width: 64}
  fresh: {share: 0.1, catalog: catalogs/fresh}
ramp: 0.2
hold_out: 1/20
overrides: {"007": fp8, anna: control}
metrics:
  clicks: {kind: mean, event: click, window: 7d, role: guardrail, margin: 0.01, covariate: 28d}
  bought: {kind: proportion, event: buy, window: 36h, role: guardrail, margin: {absolute: 0.002}}
  complaints: {kind: mean, event: complaint, window: 7d, role: goal, direction: down}
plan: {units: 40000, days: 30, looks: [0.25, 0.5, 1], alpha: 0.05, power: 0.8}
guard: {window: 1m, requests: 500, latency_ms: 80, error_rate: 0.02}
"""


def changed(place: str, value: Any) -> dict[str, Any]:
    """The values of FILE with the one at `place`, such as `plan.units`, changed."""
    raw: dict[str, Any] = copy.deepcopy(yaml.safe_load(FILE))
    *above, last = place.split(".")
    node: Any = raw
    for key in above:
        node = node[key]
    node[last] = value
    return raw


def refused(raw: Any) -> InputError:
    with pytest.raises(InputError) as error:
        parse_experiment(raw)
    return error.value


def read(tmp_path: Path, text: str) -> Experiment:
    (tmp_path / "experiment.yaml").write_text(text, encoding="utf-8")
    return read_experiment(tmp_path / "experiment.yaml")


def test_a_file_is_read_as_it_is_written(tmp_path: Path) -> None:
    found = read(tmp_path, FILE)
    assert {name: variant.share for name, variant in found.variants.items()} == {
        "control": Fraction(9, 20),
        "fp8": Fraction(9, 20),
        "fresh": Fraction(1, 10),
    }
    assert (found.variants["fp8"].checkpoint, found.variants["fp8"].beam_width) == ("models/fp8", 64)
    assert (found.ramp, found.hold_out, found.treatments) == (Fraction(1, 5), Fraction(1, 20), ("fp8", "fresh"))
    assert found.overrides == {"007": "fp8", "anna": "control"}
    assert found.metrics["clicks"] == Metric(
        "clicks", "mean", "click", 7 * 86400.0, "guardrail", margin=0.01, covariate_s=28 * 86400.0
    )
    assert (found.metrics["bought"].margin, found.metrics["bought"].margin_kind) == (0.002, "absolute")
    assert (found.metrics["complaints"].margin, found.metrics["complaints"].direction) == (0.0, "down")
    assert (found.plan.looks, found.longest_window_s) == ((0.25, 0.5, 1.0), 7 * 86400.0)
    assert (found.guard.window_s, found.guard.latency_ms) == (60.0, 80.0)


def test_an_error_names_file_field_value_and_what_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        read(tmp_path, FILE.replace("window: 7d, role: goal", "window: a week, role: goal"))
    file = tmp_path / "experiment.yaml"
    expected = f"experiment {file}: metrics.complaints.window: got 'a week'; must be a duration above 0, such as 90s"
    assert str(error.value).startswith(expected)


@pytest.mark.parametrize(
    ("written", "place"),
    [
        ("name: 2026-01-01", "name"),
        ("name: on", "name"),
        ("salt: 2026", "salt"),
        ("salt: 2026-01-01 12:00:00", "salt"),
        ("salt: 1e3", None),  # YAML takes it for text
        ("salt: !!set {a, b}", "salt"),
        ("salt: !!binary YWJj", "salt"),
        ("salt: ''", "salt"),
        ('salt: "a\\0b"', "salt"),
        ('salt: "\\ud800"', "salt"),
        ("salt: null", "salt"),
        ("unit: [user_id]", "unit"),
        ("ramp: yes", "ramp"),
        ("ramp: 2026-01-01", "ramp"),
        ("ramp: 1:30", "ramp"),
        ("overrides: {123: fp8}", "overrides: unit"),
        ("overrides: {0123: fp8}", "overrides: unit"),
        ("overrides: {true: fp8}", "overrides: unit"),
        ("overrides: {1.5: fp8}", "overrides: unit"),
        ("overrides: {2026-01-01: fp8}", "overrides: unit"),
        ("overrides: {null: fp8}", "overrides: unit"),
        ("overrides: {'': fp8}", "overrides: unit"),
        ('overrides: {"\\ud800": fp8}', "overrides: unit"),
        ('overrides: {"\\u00e9": fp8, "e\\u0301": fp8}', "overrides: unit"),
        ("overrides: {anna: int4}", "overrides.anna"),
        ("overrides: [anna]", "overrides"),
        ("overrides: 0", "overrides"),
        ("overrides: ''", "overrides"),
        ("overrides: null", None),
        ("guard: null", None),
        ("guard: []", "guard"),
        ("guard: false", "guard"),
    ],
)
def test_what_yaml_makes_of_a_value_is_refused_where_it_is_not_meant(
    tmp_path: Path, written: str, place: str | None
) -> None:
    key = written.split(":")[0]
    text = "\n".join(line for line in FILE.splitlines() if not line.startswith(f"{key}:")) + f"\n{written}\n"
    if key == "guard":
        text = text.replace("guard: {window: 1m, requests: 500, latency_ms: 80, error_rate: 0.02}", "")
    if place is None:
        read(tmp_path, text)
        return
    with pytest.raises(InputError) as error:
        read(tmp_path, text)
    assert error.value.field == f"experiment {tmp_path / 'experiment.yaml'}: {place}"


@pytest.mark.parametrize("key", ["name", "salt", "unit", "variants", "metrics", "plan"])
def test_a_missing_field_is_named(key: str) -> None:
    raw = yaml.safe_load(FILE)
    del raw[key]
    assert refused(raw).field == f"experiment: {key}"


@pytest.mark.parametrize("raw", [None, [], "experiment", 3, {True: 1}, {1: 2}])
def test_what_is_no_experiment_at_all_is_refused(raw: Any) -> None:
    assert refused(raw).field.startswith("experiment")


@pytest.mark.parametrize(
    ("value", "share"),
    [
        (0.1, Fraction(1, 10)),
        (1, Fraction(1)),
        (1.0, Fraction(1)),
        (0, Fraction(0)),
        ("0.5", Fraction(1, 2)),
        ("1/3", Fraction(1, 3)),
        ("2/6", Fraction(1, 3)),
        (0.0001, Fraction(1, 10_000)),
        (0.123456789012, Fraction(123456789012, 10**12)),
    ],
)
def test_a_share_is_exactly_what_is_written(value: Any, share: Fraction) -> None:
    assert parse_experiment(changed("ramp", value)).ramp == share


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -0.1,
        1.0001,
        2,
        True,
        10**400,
        1e-30,
        0.00009,
        5e-324,
        1 / 3,
        "0.5 ",
        " 0.5",
        "50 %",
        "50%",
        "1/0",
        "0/0",
        "1/3/3",
        "1e-2",
        "1e-999999999",
        "1_0/2_0",
        "½",
        "٠.٥",
        "nan",
        "-1/3",
        "1 / 3",
        "0.5\n",
        "",
        None,
        [0.5],
        {"share": 0.5},
    ],
)
@pytest.mark.parametrize("place", ["ramp", "hold_out", "variants.control.share"])
def test_what_is_no_share_is_refused_by_its_name(place: str, value: Any) -> None:
    start = time.process_time()
    error = refused(changed(place, value))
    assert error.field == place
    assert "a fraction such as 1/3" in error.allowed
    assert time.process_time() - start < 5  # 1e-999999999 as an exact fraction would take all memory


def test_shares_add_up_exactly() -> None:
    raw = changed("variants", {"control": {"share": "1/3"}, "fp8": {"share": "1/3"}, "c": {"share": "1/3"}})
    assert sum(variant.share for variant in parse_experiment(raw).variants.values()) == 1
    raw = changed("variants", {"control": {"share": 0.1}, "fp8": {"share": 0.2}, "c": {"share": 0.7}})
    parse_experiment(raw)
    raw = changed("variants", {"control": {"share": 0.5}, "fp8": {"share": 0.4999}})
    error = refused(raw)
    assert error.field == "variants: share"
    assert "must add up to 1, and are 9999/10000" in error.allowed


def test_a_variant_that_nobody_gets_is_refused() -> None:
    error = refused(changed("variants.control.share", 0))
    assert (error.field, error.value) == ("variants.control.share", 0)


REFUSED: list[tuple[str, Any, str]] = [
    ("name", "a/b", "name"),
    ("name", "..", "name"),
    ("name", "a" * 65, "name"),
    ("name", "a\n", "name"),
    ("name", "é", "name"),
    ("salt", "s" * 129, "salt"),
    ("unit", "", "unit"),
    ("unit", "u" * 65, "unit"),
    ("variants", {}, "variants"),
    ("variants", {"control": {"share": 1}}, "variants"),
    ("variants", {"a": {"share": 0.5}, "b": {"share": 0.5}}, "variants"),
    ("variants", {True: {"share": 0.5}, "control": {"share": 0.5}}, "variants"),
    ("variants", {1: {"share": 0.5}, "control": {"share": 0.5}}, "variants"),
    ("variants", {"control": {"share": 0.5}, **{f"v{n}": {"share": 0.1} for n in range(5)}}, "variants"),
    ("variants.fp8", None, "variants.fp8"),
    ("variants.fp8.weight", 1, "variants.fp8"),
    ("variants.fp8.checkpoint", "", "variants.fp8.checkpoint"),
    ("variants.fp8.checkpoint", 7, "variants.fp8.checkpoint"),
    ("variants.fp8.checkpoint", "a\0b", "variants.fp8.checkpoint"),
    ("variants.fp8.beam_width", 64.0, "variants.fp8.beam_width"),
    ("variants.fp8.beam_width", True, "variants.fp8.beam_width"),
    ("variants.fp8.beam_width", 0, "variants.fp8.beam_width"),
    ("variants.fp8.beam_width", 10**30, "variants.fp8.beam_width"),
    ("metrics", {}, "metrics"),
    ("metrics", {f"m{n}": None for n in range(21)}, "metrics"),
    ("metrics.clicks.kind", "median", "metrics.clicks.kind"),
    ("metrics.clicks.kind", ["mean"], "metrics.clicks.kind"),
    ("metrics.clicks.event", "add to cart", "metrics.clicks.event"),
    ("metrics.clicks.event", True, "metrics.clicks.event"),
    ("metrics.clicks.role", "secondary", "metrics.clicks.role"),
    ("metrics.clicks.direction", "higher", "metrics.clicks.direction"),
    ("metrics.clicks.direction", None, "metrics.clicks.direction"),
    ("metrics.clicks.per", "view", "metrics.clicks.per"),
    ("metrics.clicks.margin", None, "metrics.clicks.margin"),
    ("metrics.clicks.margin", 0, "metrics.clicks.margin"),
    ("metrics.clicks.margin", 1, "metrics.clicks.margin"),
    ("metrics.clicks.margin", 1e-320, "metrics.clicks.margin"),
    ("metrics.clicks.margin", math.nan, "metrics.clicks.margin"),
    ("metrics.clicks.margin", 10**400, "metrics.clicks.margin"),
    ("metrics.clicks.margin", "1 %", "metrics.clicks.margin"),
    ("metrics.clicks.margin", True, "metrics.clicks.margin"),
    ("metrics.clicks.margin", {"absolute": 0}, "metrics.clicks.margin.absolute"),
    ("metrics.clicks.margin", {"absolute": 10**400}, "metrics.clicks.margin.absolute"),
    ("metrics.clicks.margin", {"absolute": math.inf}, "metrics.clicks.margin.absolute"),
    ("metrics.clicks.margin", {"absolute": False}, "metrics.clicks.margin.absolute"),
    ("metrics.clicks.margin", {"absolute": 1, "more": 2}, "metrics.clicks.margin"),
    ("metrics.bought.margin", {"absolute": 1}, "metrics.bought.margin.absolute"),
    ("metrics.complaints.margin", 0.01, "metrics.complaints.margin"),
    ("metrics.clicks.window", "30d", "metrics.clicks.window"),
    ("metrics.clicks.covariate", 28, "metrics.clicks.covariate"),
    ("plan", None, "plan"),
    ("plan", {}, "plan"),
    ("plan.size", 1, "plan"),
    ("plan.units", 19, "plan.units"),
    ("plan.units", 1e6, "plan.units"),
    ("plan.units", "many", "plan.units"),
    ("plan.units", 10**30, "plan.units"),
    ("plan.days", 0, "plan.days"),
    ("plan.days", math.nan, "plan.days"),
    ("plan.days", 10**400, "plan.days"),
    ("plan.looks", [], "plan.looks"),
    ("plan.looks", [0.5], "plan.looks"),
    ("plan.looks", [0.5, 0.5, 1], "plan.looks"),
    ("plan.looks", [0, 1], "plan.looks"),
    ("plan.looks", [1, 0.5], "plan.looks"),
    ("plan.looks", [math.nan, 1], "plan.looks"),
    ("plan.looks", [True], "plan.looks"),
    ("plan.looks", 1, "plan.looks"),
    ("plan.looks", [n / 21 for n in range(1, 22)], "plan.looks"),
    ("plan.alpha", 0, "plan.alpha"),
    ("plan.alpha", 0.6, "plan.alpha"),
    ("plan.alpha", "5 %", "plan.alpha"),
    ("plan.power", 1, "plan.power"),
    ("guard.window", 60, "guard.window"),
    ("guard.window", "2d", "guard.window"),
    ("guard.requests", 9, "guard.requests"),
    ("guard.latency_ms", 0, "guard.latency_ms"),
    ("guard.error_rate", 1.1, "guard.error_rate"),
    ("guard.p99", 1, "guard"),
]


@pytest.mark.parametrize(("place", "value", "field"), REFUSED)
def test_what_is_not_allowed_is_refused_by_its_field(place: str, value: Any, field: str) -> None:
    error = refused(changed(place, value))
    assert error.field == field
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("text", "length"), [("90s", 90), ("1.5m", 90), ("12 h", 43200), ("7d", 604800), ("0.000001s", 1e-6)]
)
def test_a_duration_is_exact(text: str, length: float) -> None:
    assert seconds("window", text) == length


@pytest.mark.parametrize(
    "value",
    [
        "0s",
        "0.0d",
        "7",
        7,
        "7 days",
        "-1d",
        "1e3s",
        "٧d",
        "7d ",
        "7  d",
        "7d12h",
        "3651d",
        "999999999d",
        "",
        None,
        True,
    ],
)
def test_what_is_no_duration_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match=r"^window: .* such as 90s, 30m, 12h or 7d"):
        seconds("window", value)


RATIO = {"kind": "ratio", "event": "revenue", "per": "order", "window": "7d", "role": "goal"}


def test_a_ratio_is_taken_with_one_look_and_no_covariate() -> None:
    raw = changed("metrics", {"basket": RATIO})
    raw["plan"] = {"units": 1000}
    assert parse_experiment(raw).metrics["basket"].per == "order"
    assert refused({**raw, "plan": {"units": 1000, "looks": [0.5, 1]}}).field == "metrics.basket.kind"
    for more, field in (({"covariate": "7d"}, "covariate"), ({"per": "revenue"}, "per"), ({"per": None}, "per")):
        assert refused({**raw, "metrics": {"basket": {**RATIO, **more}}}).field == f"metrics.basket.{field}"


def test_two_names_for_one_metric_are_refused() -> None:
    clicks = yaml.safe_load(FILE)["metrics"]["clicks"]
    error = refused(changed("metrics.taps", {**clicks, "margin": 0.02}))
    assert (error.field, error.allowed) == ("metrics.taps", "is the same as clicks: leave one out")
    goal = {key: value for key, value in clicks.items() if key != "margin"}
    parse_experiment(changed("metrics.more_clicks", {**goal, "role": "goal"}))  # not worse, and better: two questions
    parse_experiment(changed("metrics.soon", {**clicks, "window": "1d"}))


def test_a_window_that_nobody_finishes_in_the_plans_time_is_refused() -> None:
    raw = changed("plan", {"days": 7})
    error = refused(raw)
    assert error.field == "metrics.clicks.window"
    assert "nobody's window would have passed" in error.allowed
    parse_experiment({**raw, "plan": {"days": 7.5}})
    parse_experiment({**raw, "plan": {"units": 1000}})


def test_thousand_testers_are_the_most() -> None:
    parse_experiment(changed("overrides", {f"u{number}": "fp8" for number in range(1000)}))
    assert refused(changed("overrides", {f"u{number}": "fp8" for number in range(1001)})).field == "overrides"


def test_the_documented_file_is_read_and_names_every_field(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs/online-experiment.md").read_text(encoding="utf-8")
    file = text.split("```yaml\n")[1].split("```")[0]
    found = read(tmp_path, file)
    assert (found.metrics["clicks"].covariate_s, found.guard.error_rate) == (28 * 86400.0, 0.02)
    for kind in (Experiment, Variant, Metric, Plan, Guard):
        for field in dataclasses.fields(kind):
            name = field.name.removesuffix("_s")
            assert name in ("margin_kind",) or re.search(rf"\b{name}\b", text), name


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="stands twice"):
        read(tmp_path, FILE + "ramp: 1\n")
