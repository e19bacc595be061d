"""OpenAI's requests and answers, as OpenAPI documents them. Answers are encoded from columns, not through them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictStr

from octorec.serve.beam_schemas import AboutAnswer, BeamFields, Count, ItemsOfBeam, OwnFields
from octorec.serve.schemas import FIRST, Few, Numbers

Prompt = Annotated[
    Numbers | StrictStr | Annotated[list[StrictStr], FIRST] | Annotated[list[Numbers], FIRST],
    Field(union_mode="left_to_right"),
]
EXAMPLE: dict[str, Any] = {"prompt": "<|im_start|>user\nWhat next?<|im_end|>\n<|im_start|>assistant\n", "n": 5}
QUESTION = {"role": "user", "content": "What shall I watch next?"}
CHAT_EXAMPLE: dict[str, Any] = {"model": "octorec", "messages": [QUESTION], "n": 5}


class StreamOptions(BaseModel):
    """StreamOptions say what a stream has beside its one chunk."""

    model_config = ConfigDict(strict=True, extra="allow")

    include_usage: bool | None = Field(None, description="Whether a last chunk without choices has the usage.")
    continuous_usage_stats: bool | None = Field(None, description="Whether the chunk with the choices has it.")


class OpenAIFields(BeamFields, OwnFields):
    """OpenAIFields are those of both addresses. Fields that are not known are ignored: X-OctoRec-Ignored names them."""

    model: Annotated[str, Field(max_length=1024)] | None = Field(
        None, description="May be any name: the server has one model, whose name stands in the answer."
    )
    max_tokens: Count | None = Field(
        None, description="Changes nothing: a semantic ID is never cut. Fewer than it has are ignored."
    )
    max_completion_tokens: Count | None = Field(None, description="The same.")
    stream: bool | None = Field(None, description="Whether the answer is sent as server-sent events, in one chunk.")
    stream_options: Annotated[StreamOptions, Few] | None = None
    user: Annotated[str, Field(max_length=512)] | None = Field(
        None, description="Whom it is for: the unit of an experiment."
    )
    vllm_xargs: Annotated[dict[str, Any], Few] | None = Field(
        None, description="begin_token says the domain; what else is there is ignored."
    )


class CompletionRequest(OpenAIFields):
    """A CompletionRequest has whole prompts: one or several, as text or as token ids."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    prompt: Prompt = Field(description="A text, a list of texts, token ids, or a list of these.")


class ChatRequest(OpenAIFields):
    """A ChatRequest has a chat, which the folder's template makes a prompt."""

    model_config = ConfigDict(json_schema_extra={"example": CHAT_EXAMPLE})

    messages: Annotated[list[dict[str, Any]], FIRST] = Field(
        description="Of role and content, a text or a list of text parts."
    )
    chat_template_kwargs: Annotated[dict[str, Any], Few] | None = Field(
        None, description="enable_thinking is read, and true is refused; what else is there is ignored."
    )


class Scored(BaseModel):
    sequence_score: float = Field(description="Log-probability of the answer's tokens over tokens ** length_penalty.")


class CachedTokens(BaseModel):
    cached_tokens: int


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int = Field(description="The tokens of all choices.")
    total_tokens: int
    prompt_tokens_details: CachedTokens | None = Field(None, description="Where prefixes of prompts are kept.")


class Choice(BaseModel):
    index: int
    finish_reason: Literal["stop"] = "stop"
    logprobs: None = None
    sglext: Scored
    octorec: ItemsOfBeam


class CompletionChoice(Choice):
    """A CompletionChoice is one semantic ID. index: of the p-th prompt's i-th best, p * n + i."""

    text: str


class ChatMessage(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str


class ChatChoice(Choice):
    """A ChatChoice is one semantic ID, the best first."""

    message: ChatMessage


class Answered(BaseModel):
    id: str
    created: int = Field(description="Seconds since 1970.")
    model: str
    usage: Usage
    octorec: list[AboutAnswer] = Field(description="One for each prompt.")


class Completion(Answered):
    """A Completion has n choices for each prompt, fewer where the catalog has no more."""

    object: Literal["text_completion"] = "text_completion"
    choices: list[CompletionChoice]


class ChatCompletion(Answered):
    """A ChatCompletion has n choices, fewer where the catalog has no more."""

    object: Literal["chat.completion"] = "chat.completion"
    choices: list[ChatChoice]


class ModelCard(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["octorec"] = "octorec"
    root: str = Field(description="Version of the checkpoint.")
    max_model_len: int | None = Field(None, description="Of models that read tokens: prompt and answer at most.")


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelCard]


class OpenAIError(BaseModel):
    message: str
    type: str = Field(description="invalid_request_error, authentication_error, not_found_error or server_error.")
    param: str | None = Field(description="What was wrong, such as `messages.0.role`.")
    code: str = Field(description="How the request ended, as octorec_requests_total counts it.")


class OpenAIProblem(BaseModel):
    """An OpenAIProblem ends a request without an answer. Status 503 has the header Retry-After."""

    error: OpenAIError
