"""Addresses of other servers' clients are bounded as /v1/recommend is: wrong bodies, a full queue, turns, deadlines."""

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import octorec
from octorec.serve.beam_schemas import read_fields
from octorec.serve.openai_schemas import ChatRequest, CompletionRequest
from octorec.serve.refusal import Refusal
from octorec.serve.sglang_schemas import GenerateRequest
from tests.qwen.made_models import Made
from tests.qwen.test_openai_addresses import CHAT, SHAPES
from tests.qwen.test_prompted_server import run, served

MANY = 200_000
AT_MOST_S = 0.3  # on a busy machine
WRONG: dict[str, tuple[type, dict[str, Any], str]] = {
    "texts": (CompletionRequest, {"prompt": [*["a"] * 9, *[None] * MANY]}, "prompt"),
    "ids": (CompletionRequest, {"prompt": [[None] * 9] * (MANY // 10)}, "prompt"),
    "exclude": (CompletionRequest, {"prompt": "a", "exclude": [None] * MANY}, "exclude.0: ids are text"),
    "beam_width": (CompletionRequest, {"prompt": "a", "beam_width": [None] * MANY}, "beam_width: "),
    "keys": (CompletionRequest, {"prompt": "a", **{f"x{number}": 1 for number in range(MANY)}}, "body: has at most"),
    "arguments": (CompletionRequest, {"prompt": "a", "vllm_xargs": dict.fromkeys(map(str, range(MANY)))}, "vllm_xargs"),
    "messages": (ChatRequest, {"messages": [None] * MANY}, "messages.0: must be an object"),
    "sglang texts": (GenerateRequest, {"text": [None] * MANY}, "text"),
    "sglang ids": (GenerateRequest, {"input_ids": [None] * MANY}, "input_ids"),
    "parameters": (GenerateRequest, {"text": "a", "sampling_params": [{}] * MANY}, "sampling_params"),
    "rids": (GenerateRequest, {"text": "a", "rid": [None] * MANY}, "rid"),
}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "a"},
    "/v1/chat/completions": {"messages": CHAT},
    "/generate": {"text": "a"},
}


@pytest.mark.parametrize("name", WRONG)
def test_a_large_wrong_body_costs_little(name: str) -> None:
    schema, raw, said = WRONG[name]
    start = time.perf_counter()
    with pytest.raises(Refusal) as caught:
        read_fields(schema, raw)
    assert time.perf_counter() - start < AT_MOST_S
    assert caught.value.message.startswith(said)


@pytest.mark.parametrize("address", BODIES)
def test_clients_take_turns_and_who_has_most_gives_way(
    address: str, made: Callable[[str], Made], tmp_path: Path
) -> None:
    engine = octorec.load(made("openonerec").folder, **SHAPES)
    (tmp_path / "tokens").write_text("greedy\npolite\n")

    async def test() -> None:
        tokens = str(tmp_path / "tokens")
        async with served(engine, max_queued_requests=2, token_file=tokens) as (service, client):

            async def ask(token: str, **more: Any) -> Any:
                headers = {"Authorization": f"Bearer {token}"}
                return await client.post(address, json={**BODIES[address], **more}, headers=headers)

            release = threading.Event()
            held = asyncio.create_task(service.batcher.between_batches(release.wait))
            greedy = [asyncio.create_task(ask("greedy")) for _ in range(2)]
            while service.batcher.waiting < 2:
                await asyncio.sleep(0.01)
            refused = await ask("greedy")
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "queue_full")
            assert int(refused.headers["retry-after"]) >= 1
            late = await ask("polite", deadline_ms=0.01)
            assert (late.status_code, late.json()["error"]["code"]) == (503, "overloaded")
            polite = asyncio.create_task(ask("polite"))
            assert (await greedy[1]).status_code == 503
            release.set()
            await held
            assert (await polite).status_code == (await greedy[0]).status_code == 200

    run(test())
