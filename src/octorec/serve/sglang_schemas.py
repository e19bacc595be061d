"""Requests and answers of SGLang's /generate, as OpenAPI documents them. Answers are encoded from columns."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictStr

from octorec.serve.beam_schemas import AboutAnswer, BeamFields, Count, ItemsOfBeam, OwnFields
from octorec.serve.schemas import FIRST, Few, Numbers, RequestId

EXAMPLE: dict[str, Any] = {"text": "What next? ", "sampling_params": {"beam_width": 16, "n": 5, "max_new_tokens": 3}}


class SamplingParams(BeamFields):
    """SamplingParams are those of a beam search; others are ignored: X-OctoRec-Ignored names them."""

    max_new_tokens: Count | None = Field(
        None, description="Changes nothing: a semantic ID is never cut. Fewer than it has are ignored."
    )


Params = Annotated[SamplingParams, Few]
MOST_PARAMS = 10_000  # in a list; a server takes max_list


class GenerateRequest(OwnFields):
    """A GenerateRequest has one prompt or a list of them, as text or as token ids."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    text: Annotated[
        StrictStr | Annotated[list[StrictStr], FIRST] | None, Field(description="A prompt, or a list of them.")
    ] = None
    input_ids: Annotated[
        Numbers | Annotated[list[Numbers], FIRST] | None,
        Field(union_mode="left_to_right", description="In the place of `text`: token ids, or a list of such prompts."),
    ] = None
    sampling_params: Params | Annotated[list[Params], FIRST, Field(max_length=MOST_PARAMS)] | None = Field(
        None, description="How many items and beams; for several prompts there may be a list."
    )
    stream: bool | None = Field(None, description="Whether answers are sent as server-sent events, one a prompt.")
    rid: RequestId | Annotated[list[RequestId], FIRST] | None = Field(
        None, description="Id of the request; for several prompts a list."
    )


class BeamMeta(BaseModel):
    """A BeamMeta is about one answer; that of the best one also has what GenerateMeta has."""

    model_config = ConfigDict(extra="allow")

    finish_reason: dict[str, Any] = Field(description="`stop` with the last token where one ends items, else `length`.")
    sequence_score: float = Field(description="Log-probability of the answer's tokens over tokens ** length_penalty.")


class BeamResult(BaseModel):
    """A BeamResult is one semantic ID."""

    text: str
    output_ids: list[int]
    meta_info: BeamMeta
    octorec: ItemsOfBeam


class GenerateMeta(BaseModel):
    """A GenerateMeta is about one prompt's answers. The score is the best one's."""

    id: str
    prompt_tokens: int
    completion_tokens: int = Field(description="The tokens of all answers.")
    cached_tokens: int
    e2e_latency: float = Field(description="Seconds.")
    finish_reason: dict[str, Any]
    sequence_score: float | None
    beam_results: list[BeamResult] = Field(description="The best n semantic IDs, fewer where the catalog has no more.")


class Generated(BaseModel):
    """A Generated is the answer to one prompt: the best semantic ID, and all of them in `meta_info.beam_results`."""

    text: str
    output_ids: list[int]
    meta_info: GenerateMeta
    octorec: AboutAnswer
    index: int | None = Field(None, description="In a stream of several prompts: which one it is.")
