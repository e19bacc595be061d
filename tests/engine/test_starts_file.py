"""The table beside a checkpoint says how wide `auto` begins, and what is no table is told by file and key."""

import json
from pathlib import Path

import pytest

from octorec.engine.policy import BeamStarts
from octorec.engine.starts_file import read_starts, starts_file, write_starts
from octorec.errors import InputError


def test_what_is_written_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    assert read_starts(folder) == BeamStarts()
    path = write_starts(folder, BeamStarts({50: 128, 10: 64}), {"requests": 7})
    assert path == tmp_path / "model.widths.json"
    assert json.loads(path.read_text()) == {"format": 1, "requests": 7, "starts": {"10": 64, "50": 128}}
    assert read_starts(folder).widths == {10: 64, 50: 128}
    assert list(folder.iterdir()) == [], "what lies in the folder makes the checkpoint's version"
    write_starts(folder, BeamStarts({10: 32}), {})
    assert read_starts(f"{folder}/").widths == {10: 32}


def test_the_next_larger_k_says_where_to_begin() -> None:
    starts = BeamStarts({10: 64, 50: 100})
    widths = (32, 64, 128, 512)
    assert [starts.of(k, widths) for k in (1, 10, 11, 50, 51)] == [64, 64, 128, 128, 512]
    assert [BeamStarts().of(k, widths) for k in (1, 8, 9, 100, 500)] == [32, 32, 64, 512, 512]
    assert BeamStarts({10: 4}).of(10, (4, 16)) == 16, "never narrower than k"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "starts: got None; must be an object"),
        ('{"starts": [1]}', "must be an object of k and beam width"),
        ('{"starts": {"ten": 64}}', "starts: got 'ten'; its keys are numbers of items"),
        ('{"starts": {"0": 64}}', "its keys are numbers of items"),
        ('{"starts": {"10": "64"}}', "starts.10: got '64'; must be an integer"),
        ('{"starts": {"10": [1, 2]}}', "starts.10: got .*; must be an integer"),
        ('{"starts": {"10": 0}}', "starts.10: got 0"),
        ('{"starts": {"10": 64}, "format": 2}', "written by a newer OctoRec"),
        ("[", "widths: got"),
        ('{"starts": {"10": 64}, "starts": {}}', "widths: got"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, text: str, said: str) -> None:
    starts_file(tmp_path / "model").write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        read_starts(tmp_path / "model")
    assert "model.widths.json" in str(caught.value)
