"""One mechanism checks every numeric setting: a value is taken as it was meant, or refused by its name."""

import dataclasses
from types import NoneType
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest

from octorec.bench.config import BenchConfig
from octorec.engine.engine import EngineConfig
from octorec.errors import InputError
from octorec.numerics.intensity import Workload
from octorec.prove.config import ProveConfig
from octorec.serve.config import ServeConfig
from octorec.settings import check_types, parts_of
from octorec.training.config import TrainConfig

NEEDED: dict[type, dict[str, Any]] = {EngineConfig: {"max_context": 8}, BenchConfig: {"catalog": "folder"}}
CONFIGS = (*parts_of(ServeConfig).values(), BenchConfig, EngineConfig, ProveConfig, TrainConfig, Workload)
NAN, INF = float("nan"), float("inf")


def make(config: type, **settings: Any) -> Any:
    return config(**{**NEEDED.get(config, {}), **settings})


def fields(*wanted: object) -> list[Any]:
    """(config, name) of every setting that is one of the kinds, or one of them or None."""
    found = []
    for config in CONFIGS:
        hints = get_type_hints(config)
        for field in dataclasses.fields(config):
            kind = hints[field.name]
            optional = set(get_args(kind)) if NoneType in get_args(kind) else set()
            if kind in wanted or optional & set(wanted):
                found.append(pytest.param(config, field.name, id=f"{config.__name__}.{field.name}"))
    return found


def refused(config: type, name: str, value: Any) -> None:
    with pytest.raises(InputError) as caught:
        make(config, **{name: value})
    assert caught.value.field == name, caught.value


@pytest.mark.parametrize(("config", "name"), fields(int))
def test_an_integer_is_an_integer(config: type, name: str) -> None:
    for value in (1.5, 2.0, True, "3", "x", NAN, INF, [1], (1, 2), {}, b"1", np.float32(2), np.bool_(True), 10**40):
        refused(config, name, value)


@pytest.mark.parametrize(("config", "name"), fields(int))
def test_an_integer_below_zero_is_refused(config: type, name: str) -> None:
    refused(config, name, -1)
    refused(config, name, -(10**40))


@pytest.mark.parametrize(("config", "name"), fields(float))
def test_a_number_is_finite(config: type, name: str) -> None:
    for value in (NAN, INF, -INF, True, "3", [1.0], None, np.float64("nan"), 10**400):
        if not (value is None and getattr(make(config), name) is None):
            refused(config, name, value)


@pytest.mark.parametrize(("config", "name"), fields(float))
def test_a_number_below_zero_is_refused(config: type, name: str) -> None:
    if name != "margin":  # whose bounds are the verdict's
        refused(config, name, -1.0)


@pytest.mark.parametrize(("config", "name"), fields(tuple[int, ...]))
def test_sizes_are_ascending_integers(config: type, name: str) -> None:
    bad: list[Any] = [[1.9, 8.2], [True, 8], [8, 8], [8, 1], [0, 8], [-1, 8], [1, NAN], [1, INF], [1, 2**17], [10**40]]
    bad += [[], (), "", "1.9,8", "1_0,20", "x", "1,,2", 8, 8.0, {1, 8}, {1: 8}, ["1", 8], [[1]], [None], b"18"]
    bad += [np.array([1.0, 8.0]), np.array([[1]]), np.array([True])]
    for value in bad:
        refused(config, name, value)
    taken = [(1, 8), [1, 8], "1,8", " 1, 8 ", np.array([1, 8]), [np.int64(1), np.int32(8)]]
    for value in taken:
        more = {"default_beam_width": 8} if config is EngineConfig else {}
        found = getattr(make(config, **{name: value}, **more), name)
        assert found == (1, 8)
        assert [type(size) for size in found] == [int, int]


def test_rates_may_be_infinite_but_no_other_number() -> None:
    assert make(BenchConfig, request_rate="10,inf", max_concurrency=4).request_rate == (10.0, INF)
    for value in ([True], [NAN], "nan", [], "", "x", [0.0], [-1.0], "1_0", ["3"], [-INF], 3.0):
        refused(BenchConfig, "request_rate", value)
    for goodput in ("e2el:inf", "e2el:nan", "e2el:0", "e2el", "ttft:3"):
        refused(BenchConfig, "goodput", goodput)


def test_an_integer_stands_for_a_number_and_numpys_for_pythons() -> None:
    config = ServeConfig.of(default_deadline_ms=np.int64(500), max_list=np.int32(4), keep_alive_s=3)
    values = config.batch.default_deadline_ms, config.http.max_list, config.http.keep_alive_s
    assert values == (500.0, 4, 3.0)
    assert [type(value) for value in values] == [float, int, float]


@pytest.mark.parametrize(("config", "name"), fields(str))
def test_text_is_text(config: type, name: str) -> None:
    for value in (3, True, ["a"], b"a"):
        refused(config, name, value)


@pytest.mark.parametrize(("config", "name"), fields(bool))
def test_a_switch_is_true_or_false(config: type, name: str) -> None:
    for value in (1, 0, "yes", None):
        refused(config, name, value)


def test_words_are_one_of_those_allowed() -> None:
    for config, name in ((TrainConfig, "precision"), (Workload, "gpu"), (ProveConfig, "unknown_items")):
        for value in ("float16", "", 3, None):
            refused(config, name, value)


def test_what_is_no_plain_value_is_refused_in_one_line_too() -> None:
    @dataclasses.dataclass(frozen=True)
    class Odd:
        others: tuple[Workload, ...] = ()

        def __post_init__(self) -> None:
            check_types(self)

    assert Odd([Workload()]).others == (Workload(),)  # type: ignore[arg-type]
    for value in (5, "x", [1], [None]):
        refused(Odd, "others", value)


def test_widths_that_contradict_each_other_are_refused_before_anything_is_loaded() -> None:
    with pytest.raises(InputError, match="default_beam_width: got 131072; must be an integer from 1 to 65536"):
        ServeConfig.of(default_beam_width=2**17)
    with pytest.raises(InputError, match="default_beam_width: got 64; 1 to 32"):
        ServeConfig.of(beam_widths=(8, 32), default_beam_width=64)
    with pytest.raises(InputError, match="k: got 200; at most beam_width = 128"):
        ProveConfig(k=200)
