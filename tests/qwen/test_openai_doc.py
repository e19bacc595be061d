"""What docs/openai.md tells a reader to send and run is sent and run; its tables are those of the code."""

import asyncio
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

import octorec
from octorec.engine.engine import Engine
from octorec.serve.beam_schemas import REFUSED, BeamFields, OwnFields
from octorec.serve.openai_schemas import ChatRequest, CompletionRequest
from octorec.serve.sglang_schemas import GenerateRequest, SamplingParams
from tests.qwen.made_models import Made
from tests.qwen.sid2pid_files import sid2pid
from tests.qwen.test_openai_addresses import SHAPES
from tests.qwen.test_prompted_server import run
from tests.serve.served import listening

PAGE = (Path(__file__).parents[2] / "docs" / "openai.md").read_text()
CURLS = [shlex.split(line) for line in re.findall(r"^curl .*$", PAGE, re.M)]
(PROGRAM,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.S | re.M)


@pytest.fixture(scope="module")
def engine(made: Callable[[str], Made], tmp_path_factory: pytest.TempPathFactory) -> Engine:
    one = made("openonerec")
    catalog = sid2pid(tmp_path_factory.mktemp("catalog") / "sid2pid.json", one.catalog, range(100), 1000)
    return octorec.load(one.folder, catalog, **SHAPES)


def test_every_request_of_the_page_is_answered(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    async def test() -> None:
        async with listening(engine) as (_, port), httpx.AsyncClient() as client:
            for line in CURLS:
                url = f"http://{line[2]}".replace("8080", str(port))
                if "-d" not in line:
                    assert (await client.get(url)).json()["object"] == "list"
                    continue
                body = line[line.index("-d") + 1]
                response = await client.post(url, content=body)
                assert response.status_code == 200, response.text
                answer, asked = response.json(), json.loads(body)
                found = answer["choices"] if "choices" in answer else answer["meta_info"]["beam_results"]
                prompts = len(asked["prompt"]) if isinstance(asked.get("prompt"), list) else 1
                assert len(found) == 3 * prompts
            await asyncio.to_thread(exec, PROGRAM.replace("8080", str(port)), {})

    run(test())
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 3
    assert all(re.fullmatch(r"<s_a_\d+><s_b_\d+><s_c_\d+> -\d+\.\d+ \['1\d\d\d'.*\]", line) for line in said)
    assert "'1003'" not in str(said)
    assert len(CURLS) == 4


def named(rows: str) -> set[str]:
    """The fields in the first column of a table."""
    return {name for cell in re.findall(r"^\| (.*?) \|", rows, re.M) for name in re.findall(r"`(\w+)`", cell)}


def test_every_field_is_in_a_table() -> None:
    refused = PAGE[PAGE.index("<!-- refused -->") : PAGE.index("<!-- end -->")]
    assert named(refused) == set(REFUSED)
    section = PAGE[PAGE.index("## Fields") : PAGE.index("**Ignored**")]
    schemas: list[Any] = [BeamFields, OwnFields, CompletionRequest, ChatRequest, SamplingParams, GenerateRequest]
    fields = {name for schema in schemas for name in schema.model_fields}
    prompts = {"prompt", "messages", "text", "input_ids", "sampling_params"}
    assert named(section) == fields - prompts
