"""OpenAI's /v1/completions, /v1/chat/completions and /v1/models, for models that read tokens."""

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from fastapi import FastAPI, Request

from octorec.engine.engine import Engine
from octorec.serve.asking import Asking
from octorec.serve.beam_schemas import ignored_fields, read_fields
from octorec.serve.beams import Beams, domain_of_token, request_of, too_few, wanted, width_field
from octorec.serve.compatible import Asked, Compatible
from octorec.serve.direct import Answer
from octorec.serve.documented import token_scheme
from octorec.serve.openai_schemas import (
    ChatCompletion,
    ChatRequest,
    Completion,
    CompletionRequest,
    ModelCard,
    ModelList,
    OpenAIFields,
)
from octorec.serve.problems import others_answers, others_problems

NAMES = {"k": "n", "text": "prompt", "input_ids": "prompt"}


def openai_routes(app: FastAPI, asking: Asking) -> dict[str, Answer]:
    """Add the addresses to what the public application documents, and return what answers there."""
    config = asking.config.http
    about: dict[str, Any] = {"tags": ["openai"], "dependencies": token_scheme(config.token_file)}
    asks = {**about, "responses": others_answers(500, 503, 504)}
    started = int(time.time())

    @app.post("/v1/completions", **asks)
    async def create_completion(body: CompletionRequest) -> Completion:
        """Return the best semantic IDs for whole prompts, each as a choice.

        A stream has one chunk with all choices, then one with the usage where `stream_options` asks for it. Fields
        that are not obeyed are named in the header X-OctoRec-Ignored.
        """
        raise AssertionError("answered before; this route is for OpenAPI")

    @app.post("/v1/chat/completions", **asks)
    async def create_chat_completion(body: ChatRequest) -> ChatCompletion:
        """Return the best semantic IDs for a chat, each as a choice.

        A stream has one chunk with all choices, then one with the usage where `stream_options` asks for it. Fields
        that are not obeyed are named in the header X-OctoRec-Ignored.
        """
        raise AssertionError("answered before; this route is for OpenAPI")

    @app.get("/v1/models", **about, responses=others_problems(500, 503))
    async def list_models(request: Request) -> ModelList:
        """Name the model that is served."""
        await asking.door.holder_of(request)
        asking.service.refuse_unless_ready()
        serving = asking.service.serving
        longest = None if serving.engine.prompts is None else serving.engine.longest
        card = ModelCard(id=config.model_name, created=started, root=serving.model, max_model_len=longest)
        return ModelList(data=[card])

    reads = {"/v1/completions": read_completion, "/v1/chat/completions": read_chat}
    given = config.model_name, asking.config.ab.unit_field
    return {path: Compatible(asking, partial(read, *given)) for path, read in reads.items()}


def read_completion(model: str, unit_field: str, raw: object, engine: Engine) -> Asked:
    """Read a body of /v1/completions."""
    asked = read_fields(CompletionRequest, raw)
    prompt: Any = asked.prompt
    several = isinstance(prompt, list) and bool(prompt) and not isinstance(prompt[0], int)
    prompts = [{"text" if isinstance(one, str) else "input_ids": one} for one in (prompt if several else [prompt])]
    return _asked(asked, prompts, [], OpenAIAnswers("text_completion", "cmpl", model, asked), unit_field, engine)


def read_chat(model: str, unit_field: str, raw: object, engine: Engine) -> Asked:
    """Read a body of /v1/chat/completions."""
    asked = read_fields(ChatRequest, raw)
    prompt: dict[str, Any] = {"messages": asked.messages}
    ignored = []
    for name, value in (asked.chat_template_kwargs or {}).items():
        if name == "enable_thinking":
            prompt[name] = value
        else:
            ignored.append(f"chat_template_kwargs.{name}")
    return _asked(
        asked, [prompt], ignored, OpenAIAnswers("chat.completion", "chatcmpl", model, asked), unit_field, engine
    )


def _asked(
    asked: OpenAIFields,
    prompts: list[dict[str, Any]],
    ignored: list[str],
    answers: "OpenAIAnswers",
    unit_field: str,
    engine: Engine,
) -> Asked:
    limits = {"max_tokens": asked.max_tokens, "max_completion_tokens": asked.max_completion_tokens}
    ignored = [*ignored_fields(asked), *ignored, *too_few(limits, engine)]
    ignored += [] if asked.model in (None, answers.model) else ["model"]
    user = {unit_field: asked.user} if asked.user else {}
    requests = [request_of(prompt, asked, asked, engine, user) for prompt in prompts]
    for name, value in (asked.vllm_xargs or {}).items():
        if name == "begin_token":
            domain = domain_of_token(value, "vllm_xargs.begin_token", engine)
            requests = [{"domain": domain, **request} for request in requests]
        else:
            ignored.append(f"vllm_xargs.{name}")
    names = {**NAMES, "beam_width": width_field(asked), f"user.{unit_field}": "user"}
    return Asked(requests, answers, bool(asked.stream), ignored, names)


class OpenAIAnswers:
    """OpenAIAnswers make OpenAI's objects of beams.

    kind: `text_completion` or `chat.completion`. id: what ids begin with. model: the name that stands in the answers.
    """

    def __init__(self, kind: str, id: str, model: str, asked: OpenAIFields):
        self.kind, self.id, self.model, self.asked = kind, id, model, asked

    def __call__(self, beams: list[Beams], request_id: str) -> list[Any]:
        """Return one answer, or the chunks of a stream."""
        chat, stream = self.kind == "chat.completion", bool(self.asked.stream)
        kind = f"{self.kind}.chunk" if chat and stream else self.kind
        head = {"id": f"{self.id}-{request_id}", "object": kind, "created": int(time.time()), "model": self.model}
        choices, usage = [*self._choices(beams)], _usage(beams)
        answer = {**head, "choices": choices, "octorec": [one.about for one in beams]}
        if not stream:
            return [{**answer, "usage": usage}]
        options = self.asked.stream_options
        if options is not None and (options.include_usage or options.continuous_usage_stats):
            answer["usage"] = usage if options.continuous_usage_stats else None
        last = [{**head, "choices": [], "usage": usage}] if options is not None and options.include_usage else []
        return [answer, *last]

    def _choices(self, beams: list[Beams]) -> Iterator[dict[str, Any]]:
        """Yield all choices: of the p-th prompt the i-th best has the index p * n + i."""
        for place, one in enumerate(beams):
            scores = one.sequence_scores(self.asked.length_penalty)
            for number, text in enumerate(one.texts):
                yield {
                    "index": place * wanted(self.asked) + number,
                    **self._said(text),
                    "logprobs": None,
                    "finish_reason": "stop",
                    "sglext": {"sequence_score": scores[number]},
                    "octorec": one.row(number),
                }

    def _said(self, text: str) -> dict[str, Any]:
        if self.kind == "text_completion":
            return {"text": text}
        return {"delta" if self.asked.stream else "message": {"role": "assistant", "content": text}}


def _usage(beams: list[Beams]) -> dict[str, Any]:
    prompt, completion = (sum(getattr(one, name) for one in beams) for name in ("prompt_tokens", "completion_tokens"))
    usage: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": completion}
    usage["total_tokens"] = prompt + completion
    cached = [one.cached_tokens for one in beams if one.cached_tokens is not None]
    return usage | ({"prompt_tokens_details": {"cached_tokens": sum(cached)}} if cached else {})
