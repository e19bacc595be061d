"""Clients of other servers run unchanged: the openai package, and what load tools are documented to send and read."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import httpx
import openai
import pytest

import octorec
from octorec.engine.engine import Engine
from tests.qwen.made_models import Made
from tests.qwen.test_openai_addresses import CHAT, SHAPES
from tests.qwen.test_prompted_server import run
from tests.serve.served import listening

WORDS = "correct horse battery staple over the lazy quick brown fox 31 ## residing honours " * 3


@pytest.fixture(scope="module")
def engine(made: Callable[[str], Made]) -> Engine:
    return octorec.load(made("openonerec").folder, **SHAPES)


def test_the_openai_package_asks_and_reads(engine: Engine, tmp_path: Any) -> None:
    (tmp_path / "tokens").write_text("a secret\n")

    async def test() -> None:
        async with listening(engine, token_file=str(tmp_path / "tokens")) as (_, port):
            url = f"http://127.0.0.1:{port}/v1"
            async with openai.AsyncOpenAI(base_url=url, api_key="a secret", max_retries=0) as client:
                (model,) = [one.id async for one in client.models.list()]
                messages: Any = CHAT
                chat = await client.chat.completions.create(
                    model=model, messages=messages, n=5, max_completion_tokens=3, extra_body={"num_beams": 16}
                )
                texts = [choice.message.content for choice in chat.choices]
                assert len(set(texts)) == 5
                extra = chat.choices[0].model_extra
                assert extra is not None
                assert extra["sglext"]["sequence_score"] < 0
                assert extra["octorec"]["items"]
                assert chat.usage is not None
                assert chat.usage.completion_tokens == 15
                chunks = [
                    chunk
                    async for chunk in await client.chat.completions.create(
                        model=model, messages=messages, n=5, stream=True, stream_options={"include_usage": True},
                        extra_body={"num_beams": 16},
                    )
                ]  # fmt: skip
                assert [choice.delta.content for choice in chunks[0].choices] == texts
                assert chunks[0].usage is None
                assert (chunks[1].choices, chunks[1].usage) == ([], chat.usage)
                completion = await client.completions.create(model=model, prompt=[[1, 2], [3]], n=2)
                assert [choice.index for choice in completion.choices] == [0, 1, 2, 3]
                streamed = [
                    one async for one in await client.completions.create(model=model, prompt=[1, 2], n=2, stream=True)
                ]
                assert [choice.text for choice in streamed[0].choices] == [
                    choice.text for choice in completion.choices[:2]
                ]
                assert len(streamed) == 1
                with pytest.raises(openai.BadRequestError, match="n: got 99; at most 16 in this engine") as raised:
                    await client.chat.completions.create(model=model, messages=messages, n=99)
                assert (raised.value.param, raised.value.code) == ("n", "invalid")
            async with openai.AsyncOpenAI(base_url=url, api_key="another", max_retries=0) as client:
                with pytest.raises(openai.AuthenticationError):
                    await client.models.list()

    run(test())


@pytest.mark.slow
def test_the_openai_package_asks_again_where_the_queue_is_full(engine: Engine) -> None:
    async def test() -> None:
        settings = {"max_queued_requests": 1, "max_queue_delay_ms": 50}
        async with listening(engine, **settings) as (service, port):
            messages: Any = CHAT
            async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="-", max_retries=8) as client:
                asked = (client.chat.completions.create(model="m", messages=messages) for _ in range(6))
                found = await asyncio.gather(*asked)
            assert len({one.choices[0].message.content for one in found}) == 1
            counted = service.metrics.registry.get_sample_value
            assert counted("octorec_requests_total", {"outcome": "queue_full"})

    run(test())


async def chunks(session: aiohttp.ClientSession, url: str, body: Any) -> AsyncIterator[Any]:
    """The objects that a load tool reads: a line each, behind `data: `, up to [DONE]; of no stream the one body."""
    async with session.post(url, json=body) as response:
        assert response.status == 200, await response.text()
        done = False
        async for line in response.content:
            if not (stripped := line.strip()):
                continue
            assert not done
            text = stripped.decode().removeprefix("data: ")
            done = text == "[DONE]"
            if not done:
                yield json.loads(text)
        assert done == bool(body.get("stream"))


USAGE = {"stream": True, "stream_options": {"include_usage": True}}
VLLM = {  # of `vllm bench serve`, by backend: the address and the documented body
    "openai": (
        "/v1/completions",
        {"model": "some/model", "prompt": WORDS, "repetition_penalty": 1.0, "max_tokens": 128, "logprobs": None,
         "temperature": 0.0, "ignore_eos": True, **USAGE},
    ),
    "openai-chat": (
        "/v1/chat/completions",
        {"model": "some/model", "messages": [{"role": "user", "content": [{"type": "text", "text": WORDS}]}],
         "max_completion_tokens": 128, "temperature": 0.0, **USAGE},
    ),
}  # fmt: skip


@pytest.mark.parametrize("backend", VLLM)
def test_vllm_bench_serve_is_answered(backend: str, engine: Engine) -> None:
    """It reads text of the first choice of chunks that have choices, and the usage of the chunk that has none."""
    path, body = VLLM[backend]

    async def test() -> None:
        async with listening(engine) as (_, port), aiohttp.ClientSession() as session:
            for n, extra in {1: {}, 16: {"use_beam_search": True, "n": 16}}.items():
                found = [one async for one in chunks(session, f"http://127.0.0.1:{port}{path}", body | extra)]
                content, usage = found
                choice = content["choices"][0]
                assert (choice["delta"]["content"] if "delta" in choice else choice["text"]).startswith("<s_a_")
                assert len(content["choices"]) == n
                assert usage["choices"] == []
                assert usage["usage"]["completion_tokens"] == 3 * n
                assert usage["usage"]["prompt_tokens"] > 20

    run(test())


SGLANG = {  # of `sglang.bench_serving`, by backend
    "sglang": (
        "/generate",
        {"text": WORDS, "sampling_params": {"temperature": 0.0, "max_new_tokens": 128, "ignore_eos": True},
         "lora_path": None, "return_logprob": False, "return_routed_experts": False, "logprob_start_len": -1},
    ),
    "sglang --tokenize-prompt": (
        "/generate",
        {"input_ids": [5, 6, 7] * 40, "sampling_params": {"n": 16, "max_new_tokens": 4, "ignore_eos": True},
         "lora_path": "", "return_logprob": False, "return_routed_experts": False, "logprob_start_len": -1},
    ),
    "vllm": (
        "/v1/completions",
        {"model": "some/model", "prompt": WORDS, "best_of": 1, "max_tokens": 128, "temperature": 0.0,
         "ignore_eos": True},
    ),
    "sglang-oai-chat": (
        "/v1/chat/completions",
        {"model": "some/model", "messages": [{"role": "user", "content": WORDS}], "max_completion_tokens": 128,
         "temperature": 0.0, "ignore_eos": True, "n": 4},
    ),
}  # fmt: skip


@pytest.mark.parametrize("backend", SGLANG)
def test_sglang_bench_serving_is_answered(backend: str, engine: Engine) -> None:
    """It waits for /v1/models, and reads the first choice of each chunk, or text and meta_info."""
    path, body = SGLANG[backend]

    async def test() -> None:
        async with listening(engine) as (_, port), aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{port}"
            async with session.get(f"{url}/v1/models") as response:
                assert (await response.json())["data"][0]["id"] == "octorec"
            for stream in (True, False):
                (data,) = [one async for one in chunks(session, url + path, {**body, "stream": stream})]
                if path == "/generate":
                    n = body["sampling_params"].get("n", 1)
                    assert data["text"].startswith("<s_a_")
                    assert data["meta_info"]["completion_tokens"] == 3 * n
                    assert data["meta_info"]["prompt_tokens"] > 20
                    continue
                choice = data["choices"][0]
                said = choice["text"] if "text" in choice else choice["delta" if stream else "message"]["content"]
                assert said.startswith("<s_a_")
                assert ("usage" in data) is not stream

    run(test())


AIPERF = {  # of aiperf, by endpoint type
    "completions": ("/v1/completions", {"prompt": WORDS, "model": "m", "max_tokens": 3, "n": 4}),
    "completions of a list": ("/v1/completions", {"prompt": [WORDS, "more"], "model": "m"}),
    "chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": WORDS}], "model": "m",
                                      "max_completion_tokens": 3}),
    "readiness": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}], "model": "m",
                                           "max_tokens": 1}),
}  # fmt: skip


@pytest.mark.parametrize("kind", AIPERF)
def test_aiperf_is_answered(kind: str, engine: Engine) -> None:
    """It goes by `object`, then reads the first choice; a chunk for each usage may be asked for."""
    path, body = AIPERF[kind]
    options = {"include_usage": True, "continuous_usage_stats": True}

    async def test() -> None:
        async with listening(engine) as (_, port), aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{port}{path}"
            for stream in (True, False):
                asked = {**body, "stream": stream, **({"stream_options": options} if stream else {})}
                found = [one async for one in chunks(session, url, asked)]
                chat = "chat.completion.chunk" if stream else "chat.completion"
                assert {one["object"] for one in found} == {chat if "chat" in path else "text_completion"}
                assert len(found) == 1 + stream
                assert [one["usage"] for one in found] == [found[0]["usage"]] * len(found)
                assert found[0]["choices"]

    run(test())


def test_a_chunk_has_no_usage_unless_it_is_asked_for(engine: Engine) -> None:
    async def test() -> None:
        async with listening(engine) as (_, port), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            for options, usages in [
                (None, [...]),
                ({"include_usage": False}, [...]),
                ({"include_usage": True}, [None, 3]),
            ]:
                body = {"messages": CHAT, "stream": True, "stream_options": options}
                text = (await client.post("/v1/chat/completions", json=body)).text
                found = [json.loads(part.removeprefix("data: ")) for part in text.split("\n\n")[:-2]]
                said = [one.get("usage", ...) for one in found]
                assert [one["completion_tokens"] if isinstance(one, dict) else one for one in said] == usages

    run(test())
