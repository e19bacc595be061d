"""The `user` of an OpenAI request is the unit of an experiment, as `user` of /v1/recommend is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import octorec
from tests.qwen.made_models import Made
from tests.qwen.test_openai_addresses import CHAT
from tests.qwen.test_prompted_server import run
from tests.serve.tried import FILE, tried

NARROW: dict[str, Any] = {"control": {"share": "1/2"}, "fp8": {"share": "1/2", "beam_width": 4}}


def test_a_user_is_assigned_and_its_request_recorded(made: Callable[[str], Made], tmp_path: Path) -> None:
    engine = octorec.load(made("openonerec").folder, batch_sizes=(1, 8), beam_widths=(8,), default_beam_width=8)

    async def test() -> None:
        async with tried(tmp_path, engine, file={**FILE, "variants": NARROW}) as server:
            widths = {"control": 8, "fp8": 4}
            for variant, width in widths.items():
                (unit,) = server.units(variant)
                body = {"messages": CHAT, "n": 2, "user": unit}
                answer = (await server.client.post("/v1/chat/completions", json=body)).json()
                assert answer["octorec"][0]["beam_width"] == width, answer
            await server.client.post("/v1/chat/completions", json={"messages": CHAT, "user": ""})
            assert [(row["variant"], row["ended"]) for row in server.rows] == [(name, "answered") for name in widths]
            wrong = await server.client.post("/v1/chat/completions", json={"messages": CHAT, "user": "x" * 300})
            assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "user")

    run(test())
