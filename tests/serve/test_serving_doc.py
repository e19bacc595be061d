"""What docs/serving.md tells an operator to send and to type, sent and typed."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

from octorec.catalog.build import build_catalog
from octorec.catalog.catalog import Catalog
from octorec.cli import app as cli
from octorec.engine.buckets import Buckets
from octorec.engine.engine import EngineConfig
from octorec.serve.metrics import Metrics
from octorec.serve.refusal import STATUS
from tests.serve.served import SIZES, administered, make_catalog, make_engine, run, save_checkpoint, served

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()
IDS = [str(number) for number in range(190)]
UNSEEN = {"ok", "cancelled"}  # no errors that a client reads


def lines(program: str) -> list[list[str]]:
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE, re.S | re.M)
    return [shlex.split(line) for block in blocks for line in block.splitlines() if line.startswith(program + " ")]


async def send(client: httpx.AsyncClient, arguments: list[str]) -> dict[str, Any]:
    """Send as curl would: POST where there is a body."""
    options = dict(zip(arguments[2::2], arguments[3::2], strict=True))
    headers = dict([options["-H"].split(": ")]) if "-H" in options else {}
    headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
    address = "/" + arguments[1].split("/", 1)[1]
    response = await client.post(address, content=options.get("-d", ""), headers=headers)
    assert response.status_code == 200, (arguments, response.text)
    return response.json()


def test_every_curl_line_is_answered(tmp_path: Path) -> None:
    catalog = make_catalog(190, ids=IDS)
    make_catalog(190, seed=1, ids=IDS).save(tmp_path / "catalogs" / "2026-11-24")
    save_checkpoint(tmp_path / "models" / "fp8-2", catalog)
    roots: dict[str, Any] = {"catalog_root": str(tmp_path / "catalogs"), "model_root": str(tmp_path / "models")}
    roots |= {"batch_sizes": (1,), "beam_widths": (16,), "default_beam_width": 16}  # of the second model
    roots["refresh_requests"] = 1

    async def test() -> None:
        async with served(make_engine(catalog), **roots) as (service, client), administered(service) as admin:
            answers = [await send(admin if "8081" in line[1] else client, line) for line in lines("curl")]
            assert len(answers) >= 6
            assert len(answers[0]["items"]) == 5
            assert [answer["changed"]["withdrawn"] for answer in answers if "changed" in answer] == [1, 0]

    run(test())


def test_every_catalog_line_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    vectors = np.random.default_rng(0).normal(size=(190, 3)).astype(np.float32)
    built = build_catalog(None, pa.table({"item_id": IDS, "vector": list(vectors)}), SIZES)
    built.save("runs/demo/fp8/catalog")
    Path("items.csv").write_text("item_id,title\n50,Star Wars\n")
    Path("gone.csv").write_text("item_id\n172\n")
    typed = lines("octorec catalog")
    assert [line[2] for line in typed] == ["upsert", "withdraw", "restore"]
    for line in typed:
        with pytest.raises(SystemExit) as ended:
            cli.main(line[1:])
        assert ended.value.code == 0, line
    made = Catalog.load("runs/catalogs/next")
    assert made.titles[made.index["50"]] == "Star Wars"
    assert made.live.all()


def test_every_error_is_in_the_table() -> None:
    rows = re.findall(r"^\| (\d{3}) \| (.*?) \|", PAGE, re.M)
    told = {outcome: int(status) for status, outcomes in rows for outcome in re.findall(r"`(\w+)`", outcomes)}
    assert told == {outcome: status for outcome, status in STATUS.items() if outcome not in UNSEEN}
    (example,) = re.findall(r"^```json\n(.*?)^```", PAGE, re.S | re.M)
    assert set(json.loads(example)) == {"error", "request_id"}


def test_what_an_engine_has_where_nothing_is_set_is_what_the_page_says() -> None:
    sizes, widths = (",".join(map(str, found)) for found in (EngineConfig.batch_sizes, EngineConfig.beam_widths))
    said = " ".join(PAGE.split())
    assert f"batch sizes {sizes} and beam widths {widths}, and a request that states no width gets" in said
    assert f"states no width gets {EngineConfig.default_beam_width}." in said


def test_the_buckets_of_the_page_are_those_that_its_flags_make() -> None:
    said = " ".join(PAGE.split())
    found = re.search(r"`--batch-sizes (\S+) --beam-widths (\S+) --max-rows (\d+)` there are batches of (.*?)\. ", said)
    assert found is not None
    sizes, widths = (tuple(map(int, part.split(","))) for part in found.groups()[:2])
    buckets = Buckets.of(sizes, widths, 3, int(found[3]))
    largest = {beams[0]: buckets.most(beams) for beams in buckets.beams}
    assert largest == {64: 128, 512: 32}
    assert found[4] == "128 for 64 beams and of 32 for 512"
    assert {buckets.sizes_of(beams)[0] for beams in Buckets.of(sizes, widths, 3, max_rows=1).beams} == {sizes[0]}


def test_every_metric_of_exact_answers_is_shown_with_its_label() -> None:
    rows = re.findall(r"^- `(\w+_total)` \(`(\w+)`: (.*?)\) ", PAGE, re.M)
    told = {name: (label, re.findall(r"`(\w+)`", values)) for name, label, values in rows}
    assert "- `beam_width` is a histogram" in PAGE
    metrics = Metrics()
    kinds = {"exact_total": metrics.exact, "repeats_total": metrics.repeats, "audits_total": metrics.audits}
    for name, metric in kinds.items():
        label, values = told[name]
        for value in values:
            metric.labels(**{label: value}).inc()
            assert f'octorec_{name}{{{label}="{value}"}} 1.0' in metrics.text().decode()
        assert values
    assert "octorec_beam_width_bucket" in metrics.text().decode()
