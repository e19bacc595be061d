"""Whatever stands in a body's prompt, the server answers it or says which field is wrong."""

import random
from collections.abc import Callable
from typing import Any

import octorec
from tests.qwen.made_models import Made
from tests.serve.served import run, served

TEXTS = ["", "hi", "<s_a_1><s_b_2><s_c_3>", "<|sid_begin|>", "</think>", "\0", "推荐" * 40, "{{ 7 * 7 }}", "a" * 3000]
SCRAPS: list[Any] = [None, True, -1, 0, 3, 10**30, 0.5, *TEXTS, [], {}, ["m1"], {"role": "user", "content": "hi"}]
FIELDS = ("history", "messages", "text", "input_ids", "domain", "task", "histories", "user", "enable_thinking")


def scrap(chance: random.Random, depth: int = 0) -> Any:
    kind = chance.randrange(6 if depth < 3 else 4)
    if kind == 4:
        return [scrap(chance, depth + 1) for _ in range(chance.randrange(3))]
    if kind == 5:
        return {chance.choice(["role", "content", "type", "text", "x"]): scrap(chance, depth + 1) for _ in range(2)}
    return chance.choice(SCRAPS)


def near(chance: random.Random, name: str) -> Any:
    """A value that is nearly right."""
    text = chance.choice(TEXTS)
    return {
        "messages": [{"role": chance.choice(["user", "assistant", "system", "x"]), "content": text} for _ in range(2)],
        "text": text, "input_ids": [chance.choice([0, 5, 10**5, -2]) for _ in range(chance.randrange(4))],
        "domain": chance.choice(["", "video", text]), "task": chance.choice(["interactive", "label_cond", text]),
        "histories": {chance.choice(["like", "longview", ""]): chance.choice([["m1"], ["gone"], []])},
        "user": {chance.choice(["profile", "keyword", "action"]): chance.choice([text, 3])},
        "enable_thinking": chance.choice([True, False]), "history": ["m1"],
    }[name]  # fmt: skip


def test_no_body_fails_the_server(made: Callable[[str], Made]) -> None:
    chance = random.Random(0)
    engine = octorec.load(made("openonerec").folder, batch_sizes=(1, 8), beam_widths=(8,), default_beam_width=8)

    async def test() -> None:
        seen = set()
        async with served(engine) as (service, client):
            for _ in range(400):
                names = chance.sample(FIELDS, chance.randrange(1, 4))
                body = {name: near(chance, name) if chance.random() < 0.7 else scrap(chance) for name in names}
                response = await client.post("/v1/recommend", json=body | {"k": 3})
                seen.add(response.status_code)
                assert response.status_code in (200, 422), (body, response.text)
            assert seen == {200, 422}
            assert service.not_live is None

    run(test())
