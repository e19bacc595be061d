"""SGLang's /generate gives the same semantic IDs, in SGLang's shape."""

import json
from collections.abc import Callable
from typing import Any

import pytest

import octorec
from octorec.engine.engine import Engine
from octorec.serve.openai_schemas import OpenAIProblem
from octorec.serve.sglang_schemas import Generated
from tests.qwen.made_models import Made
from tests.qwen.test_openai_addresses import SHAPES
from tests.qwen.test_prompted_server import run, served


@pytest.fixture(scope="module")
def engine(made: Callable[[str], Made]) -> Engine:
    return octorec.load(made("openonerec").folder, **SHAPES)


def events(text: str) -> list[Any]:
    """The objects of server-sent events, which end with [DONE]."""
    *parts, done, rest = text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(part.removeprefix("data: ")) for part in parts]


def test_it_has_what_completions_have(engine: Engine) -> None:
    prompts = ["hello you", "<s_a_1><s_b_2><s_c_3> and"]
    params = {"beam_width": 12, "n": 4, "max_new_tokens": 3, "temperature": 0, "ignore_eos": True}

    async def test() -> None:
        async with served(engine) as (_, client):
            response = await client.post("/generate", json={"text": prompts, "sampling_params": params})
            assert response.headers["x-octorec-ignored"] == "sampling_params.ignore_eos"
            found = response.json()
            for prompt, one in zip(prompts, found, strict=True):
                Generated.model_validate(one, strict=True)
                body = {"prompt": prompt, "n": 4, "beam_width": 12}
                openai = (await client.post("/v1/completions", json=body)).json()
                results, meta = one["meta_info"]["beam_results"], one["meta_info"]
                assert [each["text"] for each in results] == [choice["text"] for choice in openai["choices"]]
                scores = [each["meta_info"]["sequence_score"] for each in results]
                assert scores == pytest.approx([choice["sglext"]["sequence_score"] for choice in openai["choices"]])
                assert scores == sorted(scores, reverse=True)
                assert [each["octorec"]["items"] for each in results] == [
                    choice["octorec"]["items"] for choice in openai["choices"]
                ]
                assert (one["text"], one["output_ids"]) == (results[0]["text"], results[0]["output_ids"])
                assert meta["sequence_score"] == scores[0]
                assert meta["finish_reason"] == {"type": "length", "length": 3}
                assert meta["prompt_tokens"] == openai["usage"]["prompt_tokens"]
                assert meta["completion_tokens"] == openai["usage"]["completion_tokens"] == 12
                assert (meta["cached_tokens"], one["octorec"]["beam_width"]) == (0, 12)
                assert 0 < meta["e2e_latency"] < 60

    run(test())


def test_one_prompt_a_list_of_one_and_params_for_each(engine: Engine) -> None:
    async def test() -> None:
        async with served(engine) as (_, client):
            one = (await client.post("/generate", json={"input_ids": [3, 4], "rid": "mine"})).json()
            assert len(one["meta_info"]["beam_results"]) == 1
            assert one["meta_info"]["id"] == "mine"
            (listed,) = (await client.post("/generate", json={"input_ids": [[3, 4]], "rid": "mine"})).json()
            assert listed["meta_info"]["id"] == "mine-0"
            assert listed["output_ids"] == one["output_ids"]
            each = {"text": ["a", "b"], "sampling_params": [{"n": 1}, {"n": 3}], "rid": ["r", "s"]}
            found = (await client.post("/generate", json=each)).json()
            assert [len(of["meta_info"]["beam_results"]) for of in found] == [1, 3]
            assert [of["meta_info"]["id"] for of in found] == ["r", "s"]

    run(test())


def test_a_stream_has_an_event_a_prompt(engine: Engine) -> None:
    async def test() -> None:
        async with served(engine) as (_, client):
            for text in ("a", ["a", "b"]):
                body = {"text": text, "sampling_params": {"n": 2}}
                whole = (await client.post("/generate", json=body)).json()
                response = await client.post("/generate", json={**body, "stream": True})
                assert response.headers["content-type"].startswith("text/event-stream")
                found = events(response.text)
                assert [of.get("index") for of in found] == ([0, 1] if isinstance(text, list) else [None])
                whole = whole if isinstance(text, list) else [whole]
                assert [of["output_ids"] for of in found] == [of["output_ids"] for of in whole]

    run(test())


def test_an_item_that_ends_with_a_token_is_finished_by_it(made: Callable[[str], Made]) -> None:
    engine = octorec.load(made("minionerec").folder, **SHAPES)
    assert engine.prompts is not None
    end = [token.id for token in engine.prompts.sids.end]

    async def test() -> None:
        async with served(engine) as (_, client):
            body = {"text": "### Response:\n", "sampling_params": {"n": 2}}
            answer = (await client.post("/generate", json=body)).json()
            assert answer["output_ids"][3:] == end
            assert answer["text"].endswith(">")
            assert "\n" not in answer["text"]
            assert answer["meta_info"]["finish_reason"] == {"type": "stop", "matched": end[-1]}

    run(test())


def test_where_no_item_may_be_returned_the_reason_says_so(engine: Engine) -> None:
    async def test() -> None:
        async with served(engine) as (_, client):
            body = {"text": "a", "exclude": engine.catalog.item_ids}
            answer = (await client.post("/generate", json=body)).json()
            Generated.model_validate(answer, strict=True)
            assert (answer["text"], answer["output_ids"], answer["meta_info"]["beam_results"]) == ("", [], [])
            reason = answer["meta_info"]["finish_reason"]
            assert reason == {
                "type": "abort",
                "message": "found 0 of k = 1 items with a beam 8 wide; the request may have 0",
            }

    run(test())


WRONG: list[tuple[Any, str, str]] = [
    ({}, "text", "give it or input_ids, and not both"),
    ({"text": "a", "input_ids": [1]}, "text", "not both"),
    ({"text": ""}, "text", "must not be empty"),
    ({"text": []}, "text", "must not be empty"),
    ({"input_ids": []}, "input_ids", "must not be empty"),
    ({"input_ids": [[]]}, "input_ids", "must be a list of 1 to"),
    ({"input_ids": [[1], ["a"]]}, "input_ids", "must be a text, token ids, or a list of such prompts"),
    ({"input_ids": [10**7]}, "input_ids.0", "must be a token id"),
    ({"text": ["a"] * 65}, "text", "got 65 prompts; 1 to 64"),
    ({"text": "a", "sampling_params": {"n": 99}}, "sampling_params.n", "at most 16"),
    ({"text": "a", "sampling_params": {"n": 3, "beam_width": 2}}, "sampling_params.n", "at most beam_width = 2"),
    ({"text": "a", "sampling_params": {"beam_width": 99}}, "sampling_params.beam_width", "got 99"),
    ({"text": "a", "sampling_params": {"regex": "a+"}}, "sampling_params.regex", "in no other form"),
    ({"text": "a", "sampling_params": [{}, {}]}, "sampling_params", "got 2 for 1 prompts"),
    ({"text": ["a"], "rid": ["a", "b"]}, "rid", "got 2 for 1 prompts"),
    ({"text": "a", "rid": "a b"}, "rid", "pattern"),
    ({"text": "a", "lora_path": "mine"}, "lora_path", "one model"),
    ({"text": "x " * 900}, "prompt", "the model has no more positions"),
    ([], "body", "must be an object"),
]


def test_a_wrong_field_is_named(engine: Engine) -> None:
    async def test() -> None:
        async with served(engine) as (_, client):
            for body, param, said in WRONG:
                response = await client.post("/generate", json=body)
                error = OpenAIProblem.model_validate(response.json(), strict=True).error
                assert (response.status_code, error.param) == (400, param), (body, error)
                assert said in error.message, body

    run(test())
