"""Requests of other servers' clients: the fields that they share, and what becomes of those that are not known here."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from octorec.serve.refusal import Refusal
from octorec.serve.schemas import MOST_KEYS, Ids, Numbers, in_words

A_PROMPT = "must be a text, token ids, or a list of such prompts"
SAYS = dict.fromkeys(("prompt", "text", "input_ids"), A_PROMPT)
Name = Annotated[str, Field(max_length=128)]
Count = Annotated[int, Field(ge=1)]
SHOWN = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")  # names that a header may hold
MOST_SHOWN = 40
IGNORED = "X-OctoRec-Ignored"
OWN_ORDER = "items are ranked by the model's own log-probabilities: leave it out"
NO_FORM = "an answer is always a semantic ID of the catalog, in no other form: leave it out"
NO_THOUGHTS = "no stage of thoughts is run: leave it out"
NO_PICTURES = "the model reads text alone: leave it out"
REFUSED = {  # fields that would change the answer if they were obeyed -> why they are not
    "logit_bias": OWN_ORDER,
    "bad_words": f"{OWN_ORDER}; exclude takes item ids",
    "allowed_token_ids": f"{OWN_ORDER}; allow takes names of item sets",
    "guided_json": NO_FORM,
    "guided_regex": NO_FORM,
    "guided_choice": NO_FORM,
    "guided_grammar": NO_FORM,
    "structured_outputs": NO_FORM,
    "response_format": NO_FORM,
    "json_schema": NO_FORM,
    "regex": NO_FORM,
    "ebnf": NO_FORM,
    "structural_tag": NO_FORM,
    "tools": "the model calls no tools: leave it out",
    "functions": "the model calls no functions: leave it out",
    "echo": "the prompt is not returned: leave it out",
    "suffix": "nothing comes after an answer: leave it out",
    "thinking": NO_THOUGHTS,
    "reasoning_effort": NO_THOUGHTS,
    "chat_template": "the template is the folder's own: leave it out, or send the whole prompt as text",
    "documents": "the template is given messages alone: put documents into them",
    "continue_final_message": "the template always begins a new message: leave it out",
    "lora_path": "the server answers with the one model that it has loaded: leave it out",
    "input_embeds": "prompts are text, messages or token ids",
    "prompt_embeds": "prompts are text, messages or token ids",
    "image_data": NO_PICTURES,
    "audio_data": NO_PICTURES,
    "video_data": NO_PICTURES,
}
HARMLESS: dict[str, list[Any]] = {  # values that ask for nothing
    "response_format": [{"type": "text"}],
    "reasoning_effort": ["none"],
    "thinking": [{"type": "disabled"}],
}


class OwnFields(BaseModel):
    """OwnFields are of OctoRec alone; they mean what they mean in /v1/recommend."""

    model_config = ConfigDict(strict=True, extra="allow")

    enable_thinking: bool | None = Field(None, description="true is refused: no stage of thoughts is run.")
    domain: Name | None = Field(None, description="Whose catalog answers, of a model that has several.")
    exclude: Ids | None = Field(None, description="Item ids never to return.")
    allow: Ids | None = Field(None, description="Named item sets to return from, their union.")
    exclude_seen: bool | None = Field(None, description="Whether no item whose semantic ID the prompt has is returned.")
    deadline_ms: float | None = Field(None, description="Answer 504 after so long; the server's default if not given.")


class BeamFields(BaseModel):
    """BeamFields say how many items are wanted and how wide the beam is, as each server's clients spell it."""

    model_config = ConfigDict(strict=True, extra="allow")

    n: Count | None = Field(None, description="Semantic IDs to return, at most the beam's width; 1 if not given.")
    beam_width: StrictInt | Numbers | StrictStr | None = Field(
        None,
        description="Beams kept at each level, as of /v1/recommend. If neither it nor a synonym is given: the server's "
        "default, or n where that is more.",
    )
    num_beams: Count | None = Field(None, description="The same as beam_width, which goes first.")
    best_of: Count | None = Field(None, description="The same as beam_width, which goes first; 1 says nothing.")
    use_beam_search: bool | None = Field(None, description="May be given: every answer is of a beam search.")
    length_penalty: Annotated[float, Field(ge=-8, le=8)] | None = Field(
        None,
        description="sequence_score is the log-probability over tokens ** length_penalty; 1.0 if not given. The order "
        "does not depend on it, as all answers are of one length.",
    )


class ItemsOfBeam(BaseModel):
    """ItemsOfBeam are what OctoRec knows of one answer beside its text."""

    items: list[str] = Field(description="Ids of all items that have this semantic ID and may be returned.")
    codes: list[int] = Field(description="The semantic ID.")
    token_ids: list[int] = Field(description="The tokens of the codes, and those that the model writes after them.")
    log_probability: float = Field(description="Of the tokens, their sum; what /v1/recommend calls the score.")


class AboutAnswer(BaseModel):
    """An AboutAnswer has what /v1/recommend says of an answer, about one prompt's answers."""

    model: str
    catalog: str
    complete: bool = Field(description="Whether all n were found.")
    exact: bool = Field(description="Whether it is certain that no semantic ID scores better than these.")
    beam_width: int | list[int] | None
    notes: list[str]


Fields = TypeVar("Fields", bound=BaseModel)


def read_fields(schema: type[Fields], raw: object) -> Fields:
    """Return a decoded body as `schema` has it; a Refusal names the first field that is wrong."""
    if isinstance(raw, dict) and len(raw) > MOST_KEYS:
        raise Refusal("invalid", f"body: has at most {MOST_KEYS} keys", "body")
    try:
        return schema.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join(str(part)[:100] for part in _names(first["loc"])) or "body"
        said = SAYS.get(field) if first["type"] != "missing" else None
        raise Refusal("invalid", f"{field}: {said or in_words(first['type'], first['msg'], field)}", field) from None


def ignored_fields(fields: BaseModel, where: str = "") -> list[str]:
    """Return the names of fields that are not obeyed; a Refusal where obeying one would change the answer."""
    return [f"{where}{name}" for name in _given(fields.model_extra or {}, where)]


def ignored_header(names: list[str]) -> dict[str, str]:
    """Return the header that says which fields of a request were ignored; none where none was."""
    shown = [name for name in dict.fromkeys(names) if SHOWN.fullmatch(name)][:MOST_SHOWN]
    more = ["..."] if len(shown) < len(set(names)) else []
    return {IGNORED: ", ".join(shown + more)} if names else {}


def _given(extra: Mapping[str, Any], where: str) -> Iterator[str]:
    for name, value in extra.items():
        if value in (None, False, "", [], {}) or value in HARMLESS.get(name, []):
            continue
        if name in REFUSED:
            field = f"{where}{name}"
            raise Refusal("invalid", f"{field}: {REFUSED[name]}", field)
        yield name


def _names(location: tuple[int | str, ...]) -> Iterator[int | str]:
    """Yield the parts of an error's place that a sender knows, without those that name a type."""
    for part in location:
        if isinstance(part, str) and not re.fullmatch(r"\w+", part):
            return
        if part not in ("str", "int"):
            yield part
