"""SGLang's POST /generate, for models that read tokens."""

import time
from typing import Any

from fastapi import FastAPI

from octorec.engine.engine import Engine
from octorec.serve.asking import Asking
from octorec.serve.beam_schemas import ignored_fields, read_fields
from octorec.serve.beams import Beams, request_of, too_few, width_field
from octorec.serve.compatible import Asked, Compatible
from octorec.serve.direct import Answer
from octorec.serve.documented import token_scheme
from octorec.serve.problems import others_answers
from octorec.serve.refusal import Refusal
from octorec.serve.sglang_schemas import Generated, GenerateRequest, SamplingParams

PATH = "/generate"
SAMPLING = "sampling_params"


def sglang_routes(app: FastAPI, asking: Asking) -> dict[str, Answer]:
    """Add the address to what the public application documents, and return what answers there."""

    @app.post(
        PATH,
        tags=["sglang"],
        dependencies=token_scheme(asking.config.http.token_file),
        responses=others_answers(500, 503, 504),
    )
    async def generate(body: GenerateRequest) -> Generated | list[Generated]:
        """Return the best semantic IDs for one prompt, or for each of a list.

        A stream has one event a prompt. Fields that are not obeyed are named in the header X-OctoRec-Ignored.
        """
        raise AssertionError("answered before; this route is for OpenAPI")

    return {PATH: Compatible(asking, read_generate)}


def read_generate(raw: object, engine: Engine) -> Asked:
    """Read a body of /generate."""
    asked = read_fields(GenerateRequest, raw)
    prompts, listed = _prompts(asked)
    given = asked.sampling_params
    params = given if isinstance(given, list) else [given or SamplingParams.model_validate({})] * len(prompts)
    _require_one_each(SAMPLING, params, prompts)
    ids = [asked.rid] if isinstance(asked.rid, str) and not listed else asked.rid
    if isinstance(ids, str):
        ids = [f"{ids}-{number}" for number in range(len(prompts))]
    if ids is not None:
        _require_one_each("rid", ids, prompts)
    ignored = ignored_fields(asked)
    for one in params[:1] if not isinstance(given, list) else params:
        ignored += too_few({f"{SAMPLING}.max_new_tokens": one.max_new_tokens}, engine)
        ignored += ignored_fields(one, f"{SAMPLING}.")
    requests = [request_of(prompt, one, asked, engine, {}) for prompt, one in zip(prompts, params, strict=True)]
    spelt = "input_ids" if asked.text is None else "text"
    names = {"text": spelt, "k": f"{SAMPLING}.n", "beam_width": f"{SAMPLING}.{width_field(params[0])}"}
    answers = SGLangAnswers(listed, bool(asked.stream), params, [token.id for token in _end(engine)])
    return Asked(requests, answers, bool(asked.stream), ignored, names, ids)


def _prompts(asked: GenerateRequest) -> tuple[list[dict[str, Any]], bool]:
    """Return the prompts, and whether the body has a list of them."""
    if (asked.text is None) == (asked.input_ids is None):
        raise Refusal("invalid", "text: give it or input_ids, and not both", "text")
    name, value = ("input_ids", asked.input_ids) if asked.text is None else ("text", asked.text)
    if not value:
        raise Refusal("invalid", f"{name}: must not be empty", name)
    listed = isinstance(value, list) and (name == "text" or isinstance(value[0], list))
    return [{name: one} for one in (value if listed else [value])], listed  # type: ignore[union-attr]


def _require_one_each(name: str, found: list[Any], prompts: list[Any]) -> None:
    if len(found) != len(prompts):
        raise Refusal("invalid", f"{name}: got {len(found)} for {len(prompts)} prompts; give one for each", name)


def _end(engine: Engine) -> Any:
    assert engine.prompts is not None
    return engine.prompts.sids.end


class SGLangAnswers:
    """SGLangAnswers make SGLang's objects of beams.

    listed: whether the body has a list of prompts. params: of each. end: tokens that the model writes after an item.
    """

    def __init__(self, listed: bool, stream: bool, params: list[SamplingParams], end: list[int]):
        self.listed, self.stream, self.params, self.end = listed, stream, params, end
        self._start = time.monotonic()

    def __call__(self, beams: list[Beams], request_id: str) -> list[Any]:
        """Return one answer, or the chunks of a stream."""
        found = [self._generated(one, params) for one, params in zip(beams, self.params, strict=True)]
        if self.stream:
            return [{**one, "index": place} for place, one in enumerate(found)] if self.listed else found
        return [found if self.listed else found[0]]

    def _generated(self, beams: Beams, params: SamplingParams) -> dict[str, Any]:
        scores = beams.sequence_scores(params.length_penalty)
        meta: dict[str, Any] = {
            "id": beams.request_id,
            "prompt_tokens": beams.prompt_tokens,
            "completion_tokens": beams.completion_tokens,
            "cached_tokens": beams.cached_tokens or 0,
            "e2e_latency": time.monotonic() - self._start,
        }
        results: list[dict[str, Any]] = [
            {
                "text": beams.texts[number],
                "output_ids": beams.ids[number],
                "meta_info": {
                    **({} if number else meta),
                    "finish_reason": self._why_ended(beams.ids[number]),
                    "sequence_score": score,
                },
                "octorec": beams.row(number),
            }
            for number, score in enumerate(scores)
        ]
        none: dict[str, Any] = {
            "finish_reason": {"type": "abort", "message": "; ".join(beams.about["notes"])},
            "sequence_score": None,
        }
        best: dict[str, Any] = results[0] if results else {"text": "", "output_ids": [], "meta_info": {**meta, **none}}
        about = {**best["meta_info"], "beam_results": results}
        return {"text": best["text"], "output_ids": best["output_ids"], "meta_info": about, "octorec": beams.about}

    def _why_ended(self, ids: list[int]) -> dict[str, Any]:
        """Say what ended an answer: its last token, where the model writes one after each item, or its length."""
        return {"type": "stop", "matched": self.end[-1]} if self.end else {"type": "length", "length": len(ids)}
