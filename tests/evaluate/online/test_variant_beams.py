"""A variant's beams are a number, one a level, or auto, from the file through the record to the sentence about it."""

from pathlib import Path
from typing import Any

import pytest

from octorec.engine.widths import BeamWidth
from octorec.errors import InputError
from octorec.evaluate.online.describe import described
from octorec.evaluate.online.experiment import parse_experiment
from octorec.evaluate.online.record import read_record, start
from octorec.evaluate.online.written import experiment_values
from tests.evaluate.online.recorded import NOON, SMALL


def with_beams(width: Any) -> dict[str, Any]:
    return {**SMALL, "variants": {"control": {"share": 0.5}, "b": {"share": 0.5, "beam_width": width}}}


@pytest.mark.parametrize(
    ("written", "read", "shown"),
    [
        (64, 64, "64"),
        ("auto", "auto", "auto"),
        ([128, 256, 512], (128, 256, 512), "128-256-512"),
        ("128-256-512", (128, 256, 512), "128-256-512"),
    ],
)
def test_a_width_is_kept_and_shown_as_a_person_writes_it(
    written: Any, read: BeamWidth, shown: str, tmp_path: Path
) -> None:
    experiment = parse_experiment(with_beams(written))
    assert experiment.variants["b"].beam_width == read
    assert parse_experiment(experiment_values(experiment)) == experiment
    (sentence,) = [said for head, said in described(experiment) if head == "variant" and said.startswith("b:")]
    assert sentence.endswith(f"beam width {shown}")
    versions = {"control": ("m", "c"), "b": ("m", "c")}
    start(tmp_path, experiment, versions, NOON)
    assert read_record(tmp_path / "one").experiment == experiment
    again = start(tmp_path, parse_experiment(with_beams(written)), versions, NOON + 60)
    assert again.experiment == experiment, "the same file goes on with the same experiment"


@pytest.mark.parametrize("width", [0, True, "wide", [], [1, "2"], {"k": 1}, 1.5, "1--2"])
def test_a_width_that_there_is_not_is_refused_by_the_name_of_its_field(width: Any) -> None:
    with pytest.raises(InputError, match="or auto") as refused:
        parse_experiment(with_beams(width))
    assert refused.value.field == "variants.b.beam_width"
