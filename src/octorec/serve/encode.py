"""Answers as JSON, straight from their columns."""

from typing import Any

import orjson

from octorec.engine.rank import Ranked


def encode_answer(ranked: Ranked, model: str, titles: bool, request_id: str) -> bytes:
    """Return an answer as JSON without its timings: `with_timings` adds them, as encoding is one of them."""
    columns: dict[str, Any] = {"items": ranked.items(), "scores": ranked.scores, "codes": ranked.codes}
    if titles:
        columns["titles"] = ranked.titles()
    about: dict[str, Any] = {"complete": ranked.complete, "exact": ranked.exact, "bound": ranked.bound}
    about |= {
        "near_tie": ranked.near_tie,
        "beam_width": ranked.width,
        "source": ranked.request.source,
        "notes": ranked.notes,
    }
    if ranked.request.caps is not None:
        about["left_out"] = ranked.left_out
    if ranked.request.tokens is not None:
        about |= {"prompt_tokens": len(ranked.request.tokens), "cached_tokens": ranked.cached_tokens}
    about |= {"model": model, "catalog": ranked.catalog.version}
    return orjson.dumps({**columns, **about, "request_id": request_id}, option=orjson.OPT_SERIALIZE_NUMPY)


def with_timings(answer: bytes, milliseconds: dict[str, float]) -> bytes:
    rounded = {name: round(value, 3) for name, value in milliseconds.items()}
    return answer[:-1] + b',"timings":' + orjson.dumps(rounded) + b"}"


def encode_list(answers: list[bytes]) -> bytes:
    return b'{"answers":[' + b",".join(answers) + b"]}"
