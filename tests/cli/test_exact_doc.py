"""What docs/exact.md tells a reader to type is typed, after what it names was made of small size."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from octorec.cli.widths import _lines
from octorec.engine.policy import START
from octorec.engine.starts_file import read_starts
from octorec.evaluate.beam_starts import MeasuredWidth, MeasuredWidths
from octorec.serve.config import ServeConfig
from tests.cli.test_cli import octorec
from tests.serve.served import make_catalog, make_engine, run, save_checkpoint, served

PAGE = (Path(__file__).parents[2] / "docs" / "exact.md").read_text()
IDS = [str(number) for number in range(190)]


def lines(verb: str) -> list[list[str]]:
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE, re.S | re.M)
    return [shlex.split(line) for block in blocks for line in block.splitlines() if line.startswith(verb + " ")]


@pytest.fixture(scope="module")
def after_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with checkpoints and interactions where `make demo` puts its own."""
    folder = tmp_path_factory.mktemp("exact")
    for seed, name in enumerate(("bf16", "fp8")):
        save_checkpoint(folder / "runs/demo" / name, make_catalog(190, ids=IDS), seed)
    rows = [f"u{user},{(7 * user + 3 * time) % 190},{time}\n" for user in range(30) for time in range(14)]
    (folder / "runs/demo/interactions.csv").write_text("user_id,item_id,timestamp\n" + "".join(rows))
    return folder


@pytest.mark.slow
def test_every_line_runs(after_demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(after_demo)
    recommended = [octorec(*line[1:]).stdout.splitlines()[-1] for line in lines("octorec recommend")]
    assert len(recommended) == 3
    assert all(re.match("(exact|not exact): ", last) for last in recommended)
    (widths,) = lines("octorec widths")
    assert octorec(*widths[1:]).stdout.splitlines()[-1].endswith("runs/demo/fp8.widths.json")
    assert list(read_starts("runs/demo/fp8").widths) == [5, 10]
    (evaluate,) = lines("octorec evaluate")
    assert octorec(*evaluate[1:], expect=None).code in (0, 3, 4)


def test_the_server_takes_the_flags_and_the_body() -> None:
    (serve,) = lines("octorec serve")
    flags = dict(zip(serve[3::2], serve[4::2], strict=True))
    given: dict[str, Any] = {name.removeprefix("--").replace("-", "_"): value for name, value in flags.items()}
    config = ServeConfig.of(**given).engine
    (sent,) = lines("curl")
    body = json.loads(sent[sent.index("-d") + 1])

    async def test() -> None:
        engine = make_engine(make_catalog(190, ids=IDS), **{**config.of_engine(), "batch_sizes": (1,)})
        async with served(engine) as (_, client):
            answer = (await client.post("/v1/recommend", json=body)).json()
            assert answer["exact"] is True
            assert answer["beam_width"] in (32, 128, 512)

    run(test())


def test_the_table_of_the_page_begins_where_it_says() -> None:
    """The rows of the page, read and printed again, are the page's; its last lines come from nothing else."""
    (table,) = re.findall(r"^```\n(share of .*?)^```", PAGE, re.S | re.M)
    head, _, *rows = table.splitlines()
    found = re.match(r"share of (\d+) answers .* batches of (\d+) on (\w+)$", head)
    assert found is not None
    ks, measured = (1, 10, 50), []
    for row in rows[:6]:
        width, ms, *shares = row.split()
        certified = {k: float(s.rstrip("%")) / 100 for k, s in zip(ks, shares, strict=True) if s != "-"}
        widest = 35684.7  # what a repeat takes where the k-th item is as improbable as it is here
        repeats = {k: (1 - share) * widest for k, share in certified.items()}
        measured.append(MeasuredWidth(int(width), float(ms), certified, repeats))
    printed = _lines(MeasuredWidths(tuple(measured), int(found[1]), int(found[2])), ks, found[3])
    assert printed == table.splitlines()


def test_the_start_without_a_table_is_what_the_page_says() -> None:
    assert f"Without a table `auto` begins with {START} k beams." in PAGE
