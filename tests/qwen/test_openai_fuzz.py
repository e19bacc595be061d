"""Whatever arrives at other servers' addresses, a model that reads tokens answers it or says which field is wrong."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import octorec
from octorec.engine.engine import Engine
from tests.qwen.made_models import Made
from tests.qwen.test_prompted_server import run, served
from tests.qwen.test_prompted_server_fuzz import TEXTS, scrap

FIELDS: dict[str, list[Any]] = {
    "n": [1, 3, 8, 9], "beam_width": [8, [8, 8, 8], "auto", 9], "best_of": [1, 8], "num_beams": [4, 8],
    "length_penalty": [0.0, 1.0, -8], "max_tokens": [1, 128], "max_new_tokens": [3], "stream": [True, False],
    "stream_options": [{"include_usage": True}, {"continuous_usage_stats": True}], "user": ["u1"],
    "exclude": [["m1"], ["gone"]], "allow": [["none"], []], "domain": ["", "video"], "deadline_ms": [0.01, 60000],
    "model": ["m"], "temperature": [0.5], "logit_bias": [{"3": 1}], "stop": ["\n"], "rid": ["r", ["r"]],
    "chat_template_kwargs": [{"enable_thinking": False}], "vllm_xargs": [{"begin_token": "<|sid_begin|>"}],
}  # fmt: skip
IDS = [[3, 5], [0], [10**6], [-1]]


def body(chance: random.Random, address: str) -> Any:
    if chance.random() < 0.05:
        return scrap(chance)
    text = chance.choice(TEXTS)
    prompts: dict[str, list[Any]] = {
        "/v1/completions": [{"prompt": one} for one in (text, [text, "a"], [3, 5], IDS, [[3, 5], [0]])],
        "/v1/chat/completions": [{"messages": [{"role": "user", "content": text}]}],
        "/generate": [{"text": text}, {"text": [text, "a"]}, {"input_ids": [3, 5]}, {"input_ids": IDS}],
    }
    fields = {name: chance.choice(FIELDS[name]) for name in chance.sample([*FIELDS], chance.randrange(4))}
    if chance.random() < 0.2:
        fields[chance.choice([*FIELDS, "prompt", "messages", "text"])] = scrap(chance)
    if address == "/generate" and chance.random() < 0.7:
        fields = {"sampling_params": chance.choice([fields, [fields], [fields, fields]])}
    return {**chance.choice(prompts[address]), **fields}


@pytest.fixture(scope="module")
def engine(made: Callable[[str], Made]) -> Engine:
    return octorec.load(made("openonerec").folder, batch_sizes=(1, 8), beam_widths=(8,), default_beam_width=8)


@pytest.mark.slow
@pytest.mark.parametrize("address", ["/v1/completions", "/v1/chat/completions", "/generate"])
def test_no_body_fails_the_server(address: str, engine: Engine) -> None:
    chance = random.Random(address)

    async def test() -> None:
        said: Counter[int] = Counter()
        async with served(engine) as (service, client):
            for _ in range(200):
                sent = body(chance, address)
                response = await client.post(address, json=sent)
                said[response.status_code] += 1
                assert response.status_code in (200, 400, 504), (sent, response.text)
                if response.status_code != 200:
                    assert response.json()["error"]["message"]
            assert said[200] > 40, said
            assert said[400] > 40, said
            assert (service.accepted, service.batcher.waiting, service.not_live) == (0, 0, None)

    run(test())


@pytest.fixture
def ports(engine: Engine) -> Iterator[Any]:
    from octorec.serve.app import create_app
    from octorec.serve.config import ServeConfig
    from octorec.serve.run import server_on
    from octorec.serve.service import Service
    from tests.serve.test_fuzz import in_a_thread

    config = ServeConfig.of(port=0, log_requests=False)
    service = Service(lambda: engine, "first", config)
    yield from in_a_thread(service, [server_on(create_app(service), "127.0.0.1", 0, config)])


@pytest.mark.slow
def test_no_request_that_openapi_allows_fails_the_server(ports: Any) -> None:
    import schemathesis

    from octorec.serve.problems import OTHERS
    from tests.serve.test_fuzz import fuzz

    service, (port,) = ports
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")
    found = [operation.ok() for operation in schema.get_all_operations()]
    for operation in [one for one in found if one.path in OTHERS]:
        print(fuzz(operation))
    assert service.metrics.registry.get_sample_value("octorec_requests_total", {"outcome": "failed"}) is None
    assert service.metrics.registry.get_sample_value("octorec_requests_total", {"outcome": "ok"}) > 0
