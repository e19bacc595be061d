"""OpenAI's addresses give the engine's own answer, and say what of a request they do not obey."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

import octorec
from octorec import Request
from octorec.engine.engine import Engine
from octorec.serve.beam_schemas import REFUSED
from octorec.serve.openai_schemas import ChatCompletion, Completion, OpenAIProblem
from tests.qwen.made_models import Made
from tests.qwen.sid2pid_files import sid2pid
from tests.qwen.test_prompted_server import run, served

SHAPES: dict[str, Any] = {"batch_sizes": (1, 8), "beam_widths": (8, 16), "default_beam_width": 8}
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What next?"}]
COMPLETIONS, CHATS = "/v1/completions", "/v1/chat/completions"


@pytest.fixture(scope="module")
def engine(made: Callable[[str], Made]) -> Engine:
    return octorec.load(made("openonerec").folder, **SHAPES)


def by_sid(engine: Engine, n: int, **request: Any) -> tuple[list[tuple[int, ...]], list[float], list[list[str]]]:
    """The n best semantic IDs that the engine finds, with scores and items: a list of all items is cut at the n-th."""
    answer = engine.recommend([Request(k=8, **request)])[0]
    codes = [*dict.fromkeys(answer.codes)][:n]
    assert len(codes) == n, "not enough items to see them"
    rows = [*zip(answer.codes, answer.scores, answer.items, strict=True)]
    scores = [next(score for of, score, _ in rows if of == one) for one in codes]
    return codes, scores, [[item for of, _, item in rows if of == one] for one in codes]


def check(choices: list[dict[str, Any]], engine: Engine, n: int, texts: list[str], **request: Any) -> None:
    codes, scores, items = by_sid(engine, n, **request)
    assert [tuple(one["octorec"]["codes"]) for one in choices] == codes
    assert texts == ["".join(f"<s_{'abc'[level]}_{code}>" for level, code in enumerate(row)) for row in codes]
    assert np.float32([one["octorec"]["log_probability"] for one in choices]).tolist() == scores
    assert [one["sglext"]["sequence_score"] * 3 for one in choices] == pytest.approx(scores, rel=1e-6)
    for one, known in zip(choices, items, strict=True):
        assert set(known) <= set(one["octorec"]["items"])
        of_code = [engine.catalog.codes[engine.catalog.index[item]].tolist() for item in one["octorec"]["items"]]
        assert of_code == [one["octorec"]["codes"]] * len(of_code)
        assert engine.prompts is not None
        assert engine.prompts.tokens.codes(one["octorec"]["token_ids"]).tolist() == [one["octorec"]["codes"]]


@pytest.mark.parametrize(
    "prompts", [["hello you"], [[3, 4, 5]], ["one", "two words", "<s_a_1><s_b_2> of no item"], [[1, 2], [3]]]
)
def test_completions_are_the_engines_answers(prompts: list[Any], engine: Engine) -> None:
    async def test() -> None:
        async with served(engine) as (_, client):
            body = {"prompt": prompts[0] if len(prompts) == 1 else prompts, "n": 3}
            answer = (await client.post(COMPLETIONS, json=body)).json()
            Completion.model_validate(answer, strict=True)
            assert [one["index"] for one in answer["choices"]] == [*range(3 * len(prompts))]
            tokens = 0
            for place, prompt in enumerate(prompts):
                request = {"text" if isinstance(prompt, str) else "input_ids": prompt}
                own = answer["choices"][3 * place : 3 * place + 3]
                check(own, engine, 3, [one["text"] for one in own], **request)
                parsed = engine.parse(Request(k=1, **request)).tokens
                assert parsed is not None
                tokens += len(parsed)
            of = 9 * len(prompts)
            assert answer["usage"] == {"prompt_tokens": tokens, "completion_tokens": of, "total_tokens": tokens + of}

    run(test())


def test_a_chat_is_the_engines_answer(engine: Engine) -> None:
    async def test() -> None:
        async with served(engine, model_name="mine") as (_, client):
            response = await client.post(CHATS, json={"messages": CHAT, "n": 4, "model": "mine"})
            answer = response.json()
            ChatCompletion.model_validate(answer, strict=True)
            assert "x-octorec-ignored" not in response.headers
            assert answer["id"] == f"chatcmpl-{response.headers['x-request-id']}"
            texts = [one["message"]["content"] for one in answer["choices"]]
            check(answer["choices"], engine, 4, texts, messages=CHAT)
            assert answer["model"] == "mine"
            (about,) = answer["octorec"]
            assert (about["model"], about["catalog"]) == ("first", engine.catalog.version)
            assert (about["complete"], about["beam_width"]) == (True, 8)

    run(test())


def test_semantic_ids_are_counted_and_not_items(engine: Engine) -> None:
    """Each of n choices is another semantic ID, where n items would be fewer of them."""

    async def test() -> None:
        async with served(engine) as (_, client):
            answer = (await client.post(COMPLETIONS, json={"prompt": "a", "n": 16})).json()
            codes = [tuple(one["octorec"]["codes"]) for one in answer["choices"]]
            assert len(set(codes)) == len(codes) == 16
            assert max(len(one["octorec"]["items"]) for one in answer["choices"]) > 1
            assert answer["octorec"][0]["complete"]
            few = {"prompt": "a", "n": 3, "exclude": engine.catalog.item_ids[2:]}
            answer = (await client.post(COMPLETIONS, json=few)).json()
            assert len(answer["choices"]) == 2
            assert answer["octorec"][0]["complete"] is False
            assert answer["octorec"][0]["notes"] == [
                "found 2 of k = 3 items with a beam 8 wide; the request may have 2"
            ]

    run(test())


WIDTHS: list[tuple[dict[str, Any], Any]] = [
    ({}, 8),
    ({"n": 9}, 9),
    ({"best_of": 1}, 8),
    ({"best_of": 16}, 16),
    ({"num_beams": 10, "best_of": 4}, 10),
    ({"beam_width": 12, "num_beams": 3}, 12),
    ({"beam_width": [8, 8, 16]}, [8, 8, 16]),
    ({"use_beam_search": True, "n": 2}, 8),
    ({"n": None, "best_of": None}, 8),
]


def test_a_beams_width_has_many_names(engine: Engine) -> None:
    async def test() -> None:
        async with served(engine) as (_, client):
            for asked, width in WIDTHS:
                response = await client.post(CHATS, json={"messages": CHAT, **asked})
                assert response.json()["octorec"][0]["beam_width"] == width, (asked, response.text)
                assert "x-octorec-ignored" not in response.headers

    run(test())


WRONG: list[tuple[str, Any, str, str]] = [
    (COMPLETIONS, {}, "prompt", "prompt: is required"),
    (COMPLETIONS, {"prompt": []}, "prompt", "must be a list of 1 to"),
    (COMPLETIONS, {"prompt": ""}, "prompt", "must be a text that is not empty"),
    (COMPLETIONS, {"prompt": ["a", 3]}, "prompt", "must be a text, token ids, or a list of such prompts"),
    (COMPLETIONS, {"prompt": [10**7]}, "prompt.0", "must be a token id from 0 to"),
    (COMPLETIONS, {"prompt": ["a"] * 65}, "prompt", "got 65 prompts; 1 to 64"),
    (COMPLETIONS, {"prompt": "a", "n": 0}, "n", "n: Input should be greater than or equal to 1"),
    (COMPLETIONS, {"prompt": "a", "n": 17}, "n", "n: got 17; at most 16 in this engine"),
    (COMPLETIONS, {"prompt": "a", "n": 5, "num_beams": 4}, "n", "n: got 5; at most beam_width = 4"),
    (COMPLETIONS, {"prompt": "a", "best_of": 99}, "best_of", "best_of: got 99; at most 16"),
    (COMPLETIONS, {"prompt": "a", "length_penalty": 9}, "length_penalty", "less than or equal to 8"),
    (COMPLETIONS, {"prompt": "a", "allow": ["no set"]}, "allow", "allow: got 'no set'"),
    (COMPLETIONS, {"prompt": "a", "stream": "yes"}, "stream", "boolean"),
    (COMPLETIONS, {"prompt": "a", "vllm_xargs": {"begin_token": "<x>"}}, "vllm_xargs.begin_token", "allowed: <|sid"),
    (CHATS, {"messages": []}, "messages", "must be a list of one message or more"),
    (CHATS, {"messages": [{"role": "x", "content": "hi"}]}, "messages.0.role", "allowed: system, user, assistant"),
    (CHATS, {"messages": CHAT, "enable_thinking": True}, "enable_thinking", "no stage of thoughts is run"),
    (CHATS, {"messages": CHAT, "chat_template_kwargs": {"enable_thinking": True}}, "enable_thinking", "no stage of"),
    (CHATS, {"messages": CHAT, "user": "x" * 513}, "user", "at most 512 characters"),
    (CHATS, {"messages": CHAT, "deadline_ms": -1}, "deadline_ms", "greater than 0"),
    (CHATS, [1], "body", "must be an object"),
]


def test_a_wrong_field_is_named_as_its_sender_spells_it(engine: Engine) -> None:
    async def test() -> None:
        async with served(engine) as (_, client):
            for address, body, param, said in WRONG:
                response = await client.post(address, json=body)
                error = OpenAIProblem.model_validate(response.json(), strict=True).error
                assert (response.status_code, error.type, error.code) == (400, "invalid_request_error", "invalid")
                assert error.param == param, error
                assert said in error.message, body

    run(test())


WANTED: dict[str, Any] = {"response_format": {"type": "json_object"}, "reasoning_effort": "high", "echo": True}


def test_what_would_change_the_answer_is_refused_and_what_asks_for_nothing_is_not(engine: Engine) -> None:
    nothing = {"logit_bias": {}, "response_format": {"type": "text"}, "tools": [], "echo": False, "logprobs": None}

    async def test() -> None:
        async with served(engine) as (_, client):
            for name, why in REFUSED.items():
                body = {"messages": CHAT, "n": 1, name: WANTED.get(name, ["something"])}
                response = await client.post(CHATS, json=body)
                error = response.json()["error"]
                assert (response.status_code, error["param"]) == (400, name)
                assert error["message"] == f"{name}: {why}"
            response = await client.post(CHATS, json={"messages": CHAT, **nothing, "reasoning_effort": "none"})
            assert response.status_code == 200
            assert "x-octorec-ignored" not in response.headers

    run(test())


def test_what_is_not_obeyed_is_named_in_a_header(engine: Engine) -> None:
    odd = {f"{'x' * number}\r\nSet-Cookie: a": 1 for number in range(3)} | {"y" * 65: 1}
    ignored = {"temperature": 0.7, "top_p": 0.9, "stop": ["\n"], "seed": 3, "model": "other", "max_tokens": 2}
    ignored |= {"vllm_xargs": {"end_token": "<|sid_end|>", "begin_token": "<|sid_begin|>"}}

    async def test() -> None:
        async with served(engine) as (_, client):
            plain = (await client.post(CHATS, json={"messages": CHAT, "n": 2})).json()
            response = await client.post(CHATS, json={"messages": CHAT, "n": 2, **ignored, **odd})
            said = "temperature, top_p, stop, seed, max_tokens, model, vllm_xargs.end_token, ..."
            assert response.headers["x-octorec-ignored"] == said
            assert "set-cookie" not in response.headers
            assert response.json()["choices"] == plain["choices"]
            body = {"messages": CHAT, "chat_template_kwargs": {"enable_thinking": False, "tone": "kind"}}
            response = await client.post(CHATS, json=body)
            assert response.headers["x-octorec-ignored"] == "chat_template_kwargs.tone"

    run(test())


def test_scores_are_divided_as_the_length_penalty_says(made: Callable[[str], Made]) -> None:
    """MiniOneRec writes two tokens after the codes, which count."""
    engine = octorec.load(made("minionerec").folder, **SHAPES)
    assert engine.prompts is not None
    end = [token.id for token in engine.prompts.sids.end]

    async def test() -> None:
        async with served(engine) as (_, client):
            for power in (None, 0.0, 1.0, 2.0):
                body = {"prompt": "### Response:\n", "n": 2, "length_penalty": power}
                answer = (await client.post(COMPLETIONS, json=body)).json()
                for one in answer["choices"]:
                    known = one["octorec"]
                    assert known["token_ids"][3:] == end
                    divided = known["log_probability"] / 5 ** (1.0 if power is None else power)
                    assert one["sglext"]["sequence_score"] == pytest.approx(divided)
                assert answer["usage"]["completion_tokens"] == 10

    run(test())


def test_a_domain_is_named_by_itself_or_by_its_begin_token(
    made: Callable[[str], Made], tmp_path_factory: pytest.TempPathFactory
) -> None:
    one, folder = made("onereason"), tmp_path_factory.mktemp("domains")
    files = {name: sid2pid(folder / f"{name}.json", one.catalog, range(100), first) for name, first in
             {"video": 1000, "product": 5000}.items()}  # fmt: skip
    engine = octorec.load(one.folder, files, **SHAPES)

    async def test() -> None:
        async with served(engine) as (_, client):
            for way in ({"domain": "product"}, {"vllm_xargs": {"begin_token": "<|prod_begin|>"}}):
                answer = (await client.post(CHATS, json={"messages": CHAT, "n": 2, **way})).json()
                assert {int(item) // 1000 for item in answer["choices"][0]["octorec"]["items"]} == {5}
                assert answer["octorec"][0]["catalog"] == engine.domains["product"].catalog.version
            response = await client.post(CHATS, json={"messages": CHAT})
            assert (response.status_code, response.json()["error"]["param"]) == (400, "domain")
            ends = {"prompt": "watch <|video_begin|>", "n": 2}
            answer = (await client.post(COMPLETIONS, json=ends)).json()
            assert {int(item) // 1000 for item in answer["choices"][0]["octorec"]["items"]} == {1}

    run(test())


def test_a_full_queue_and_a_passed_deadline_are_answered_in_openais_shape(engine: Engine) -> None:
    async def test() -> None:
        async with served(engine, max_queued_requests=2, max_queue_delay_ms=50) as (service, client):
            late = await client.post(CHATS, json={"messages": CHAT, "deadline_ms": 1e-3})
            assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline")
            answers = await asyncio.gather(*(client.post(CHATS, json={"messages": CHAT}) for _ in range(40)))
            statuses = {one.status_code for one in answers}
            assert statuses == {200, 503}
            full = next(one for one in answers if one.status_code == 503)
            assert full.headers["retry-after"] == "1"
            error = full.json()["error"]
            assert (error["type"], error["code"]) == ("server_error", "queue_full")
            counted = service.metrics.registry.get_sample_value
            ended = {name: counted("octorec_requests_total", {"outcome": name}) for name in ("ok", "queue_full")}
            assert ended["ok"] == sum(one.status_code == 200 for one in answers)
            assert ended["queue_full"] == sum(one.status_code == 503 for one in answers)

    run(test())


def test_one_refused_prompt_of_several_refuses_the_body(engine: Engine) -> None:
    async def test() -> None:
        async with served(engine) as (service, client):
            response: httpx.Response = await client.post(COMPLETIONS, json={"prompt": ["a", "x " * 900]})
            assert (response.status_code, response.json()["error"]["param"]) == (400, "prompt")
            assert "the model has no more positions" in response.json()["error"]["message"]
            assert (service.accepted, service.batcher.waiting) == (0, 0)

    run(test())
