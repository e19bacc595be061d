"""Turn what other servers' clients ask into requests to /v1/recommend, and answers into beams, each one semantic ID."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from octorec.engine.engine import Engine
from octorec.engine.rank import Ranked
from octorec.engine.widths import AUTO
from octorec.serve.beam_schemas import BeamFields, OwnFields
from octorec.serve.pending import Serving
from octorec.serve.refusal import Refusal
from octorec.serve.schemas import RecommendRequest

NO_PROMPTS = "this model reads items' codes, and no prompts: ask /v1/recommend"
WIDTHS = ("beam_width", "num_beams", "best_of")


@dataclass(frozen=True)
class Beams:
    """Beams are the answer to one prompt, the best first; all columns have a row for each semantic ID.

    texts: of the tokens of the codes. ids: those tokens, and what the model writes after them. scores: sums of
    log-probabilities. items: ids of all items that have the semantic ID. about: what OpenAPI calls AboutAnswer.
    cached_tokens: of the prompt, those whose keys and values were there already; None where none are kept.
    """

    request_id: str
    texts: list[str]
    ids: list[list[int]]
    scores: list[float]
    items: list[list[str]]
    codes: list[list[int]]
    about: dict[str, Any]
    prompt_tokens: int
    cached_tokens: int | None = None

    @property
    def completion_tokens(self) -> int:
        return sum(map(len, self.ids))

    def row(self, number: int) -> dict[str, Any]:
        """Return what OpenAPI calls ItemsOfBeam, about one semantic ID."""
        about = {"items": self.items[number], "codes": self.codes[number], "token_ids": self.ids[number]}
        return {**about, "log_probability": self.scores[number]}

    def sequence_scores(self, length_penalty: float | None) -> list[float]:
        """Return each score over its tokens ** length_penalty, 1.0 where none is given, as SGLang and vLLM do."""
        power = 1.0 if length_penalty is None else length_penalty
        return [score / len(ids) ** power for score, ids in zip(self.scores, self.ids, strict=True)]


def beams_of(asked: RecommendRequest, request_id: str, ranked: Ranked, serving: Serving) -> Beams:
    """Return the k best semantic IDs of an answer, for a model that reads tokens."""
    prompts, tokens = serving.engine.prompts, ranked.request.tokens
    assert prompts is not None
    assert tokens is not None
    best, groups = ranked.by_sid()
    ids, texts = prompts.answers(best.codes)
    names = ranked.catalog.item_ids
    items = [[*map(names.__getitem__, group)] for group in groups]
    about = {"model": serving.model, "catalog": ranked.catalog.version, "complete": best.complete}
    about |= {"exact": best.exact, "beam_width": best.width, "notes": best.notes}
    cached = ranked.cached_tokens if serving.engine.config.prefix_cache_bytes else None
    return Beams(request_id, texts, ids, best.scores.tolist(), items, best.codes.tolist(), about, len(tokens), cached)


def request_of(
    prompt: Mapping[str, Any], beam: BeamFields, own: OwnFields, engine: Engine, user: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the body of a request to /v1/recommend, not checked yet, that asks for the best n semantic IDs.

    prompt: one of `messages`, `text` and `input_ids`. user: whom it is for.
    """
    n = wanted(beam)
    body = {"k": n, "caps": {}, "beam_width": _beam_width(beam, n, engine), "user": user, **prompt}
    return body | own.model_dump(include=set(OwnFields.model_fields), exclude_none=True)


def wanted(beam: BeamFields) -> int:
    """Return how many semantic IDs are wanted."""
    return 1 if beam.n is None else beam.n


def too_few(limits: Mapping[str, int | None], engine: Engine) -> list[str]:
    """Return the names of those limits that are fewer tokens than a semantic ID has: none is ever cut."""
    levels = engine.catalog.codes.shape[1]
    return [name for name, most in limits.items() if most is not None and most < levels]


def domain_of_token(token: Any, field: str, engine: Engine) -> str:
    """Return the domain whose prompts end with a begin token, which a client names by its text."""
    assert engine.prompts is not None
    begin = {engine.prompts.tokens.text([id]): domain for domain, id in engine.prompts.sids.begin.items()}
    if not isinstance(token, str) or token not in begin:
        known = ", ".join(begin) or "the model has none: leave it out"
        raise Refusal("invalid", f"{field}: got {str(token)[:100]!r}; allowed: {known}", field)
    return begin[token]


def width_field(beam: BeamFields) -> str:
    """Return the name of the field that says how wide the beam is: the first that is given, else n."""
    given = (name for name in WIDTHS if getattr(beam, name) is not None)
    return next((name for name in given if name != "best_of" or beam.best_of != 1), "n")  # load tools always say 1


def _beam_width(beam: BeamFields, n: int, engine: Engine) -> Any:
    """Return the width asked for; None for the server's default, unless that is too narrow for n."""
    if (name := width_field(beam)) != "n":
        return getattr(beam, name)
    default = engine.policy.default
    last = default if isinstance(default, int) else default[-1]
    return n if default != AUTO and isinstance(last, int) and last < n else None
