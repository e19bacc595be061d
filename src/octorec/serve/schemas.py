"""OpenAPI documents requests and answers by these classes. Answers are encoded from columns, not through them."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    StrictInt,
    StrictStr,
    StringConstraints,
    ValidationError,
)

from octorec.engine.limits import MOST_ROWS
from octorec.engine.request import PROMPTS, Request
from octorec.serve.config import ServeConfig
from octorec.serve.refusal import Refusal

RequestId = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,128}$")]  # printable, so that it may be a header
ItemId = Annotated[StrictStr | StrictInt, Field(union_mode="left_to_right")]  # integers are read as text
FeatureValue = int | Annotated[float, Field(allow_inf_nan=False)] | list[Any] | None


class _First(FailFast):
    """A _First stops a list at its first wrong member. It can be hashed, as members of a union must be."""

    __hash__ = object.__hash__


FIRST = _First()
Ids = Annotated[list[ItemId], FIRST]
Numbers = Annotated[list[StrictInt], FIRST]
UserValue = str | int | Annotated[float, Field(allow_inf_nan=False)] | None

MOST_KEYS = 256  # of an object whose keys are the client's


def few_keys(raw: Any) -> Any:
    """Return what was given, unless it has more keys than are looked at."""
    if isinstance(raw, dict) and len(raw) > MOST_KEYS:
        raise ValueError(f"has at most {MOST_KEYS} keys")
    return raw


Few = BeforeValidator(few_keys)
PROMPTED = ("messages", "text", "input_ids", "domain", "task", "histories", "enable_thinking")
CAPPED = ("caps", "distinct_codes", "max_cosine")
ID_LISTS = ("history", "exclude", "allow", "items", "withdraw", "restore")  # of both ports


class RecommendRequest(BaseModel):
    """A RecommendRequest says what one user is to be recommended."""

    model_config = ConfigDict(strict=True, extra="forbid")

    history: Ids = Field(
        [],
        description="Item ids, oldest first, as many as the body holds; integers are read as text, and an item may "
        "occur again. Of more than the model's context the newest are used, and `notes` says so. Where it is empty or "
        "none of it is known, and neither user fields nor features are given, popularity answers, as `source` and "
        "`notes` say.",
    )
    k: int = Field(Request.k, ge=1, description="Items to return, at most beam_width.")
    beam_width: StrictInt | Numbers | StrictStr | None = Field(
        None,
        description="Beams kept at each level: an integer; a list of one a level; or `auto`, as few as make the answer "
        "exact. The server's default if not given.",
        examples=[128, [128, 256, 512], "auto"],
    )
    exclude: Ids = Field([], description="Item ids never to return, at most the server's max_exclude.")
    allow: Ids = Field([], description="Named item sets to return from, their union; empty for every item.")
    user: Annotated[dict[str, UserValue], Few] = Field(
        {}, description="Values of the model's user fields, and in the server's unit_field whom it is for."
    )
    features: Annotated[dict[str, FeatureValue], Few] = Field(
        {},
        description="Values of the features that the model's context module declares, as /v2/models/NAME lists them: "
        "a number, a list of numbers, or lists in lists; null is as good as absent.",
    )
    exclude_seen: bool | None = Field(
        None, description="Whether no item of the whole history is returned; the server's default if not given."
    )
    messages: Annotated[list[dict[str, Any]], FIRST] | None = Field(
        None, description="In the place of a history, for models that read tokens: a chat of role and content."
    )
    text: str | None = Field(None, description="In the place of a history: a whole prompt as text.")
    input_ids: Numbers | None = Field(None, description="In the place of a history: a whole prompt.")
    domain: str = Field("", description="Whose catalog answers, of a model that has several.")
    task: str | None = Field(None, description="Which of the prompts a history gets, of a model that has several.")
    histories: Annotated[dict[str, Ids], Few] = Field({}, description="Further histories that the task's prompt holds.")
    enable_thinking: bool | None = Field(None, description="true is refused: no stage of thoughts is run.")
    caps: Annotated[dict[str, Annotated[StrictInt, Field(ge=1, le=MOST_ROWS)]], Few] | None = Field(
        None,
        description="Most items of a named set in the list, by name; `*` stands for each other set. Without caps, "
        "distinct_codes and max_cosine the server's defaults hold; {} alone: no cap at all.",
        examples=[{"Sci-Fi": 3}, {"*": 2}],
    )
    distinct_codes: StrictInt | None = Field(
        None, ge=1, description="No two items share their first so many codes, at most the catalog's levels."
    )
    max_cosine: float | None = Field(
        None, gt=0, le=1, description="No two items' codebook vectors have a larger cosine than this."
    )
    deadline_ms: float | None = Field(
        None, gt=0, le=3_600_000, description="Answer 504 after so long; the server's default if not given."
    )
    titles: bool = Field(False, description="Whether to return titles too.")
    request_id: RequestId | None = Field(
        None, description="Comes back in the answer and stands in the log; else header X-Request-ID, else a new one."
    )

    def request(self, width: Any, user: Mapping[str, Any]) -> Request:
        """Return it for an engine, with the beam width and the user fields that are given; an InputError as Request."""
        names = ("k", "exclude", "allow", "exclude_seen", "features", *CAPPED, *PROMPTED)
        given = {name: getattr(self, name) for name in names}
        lists: Any = self.history  # of text or integers, which Request reads as text
        return Request(lists, beam_width=width, user=user, **given)


class Timings(BaseModel):
    """Timings are in milliseconds."""

    queue_ms: float = Field(description="Waiting for a batch.")
    device_ms: float = Field(description="The batch, from its forming to its beams on the host.")
    encode_ms: float = Field(description="From beams to encoded items.")
    total_ms: float = Field(description="From the parsed body to the encoded items.")


class LeftOut(BaseModel):
    """A LeftOut is an item that a cap left out of a list."""

    item: str
    score: float
    rule: str = Field(description="The cap, such as `caps Sci-Fi = 3`.")


class Recommendations(BaseModel):
    """Recommendations are columns of the same length, best item first."""

    items: list[str]
    scores: list[float] = Field(
        description="Log-probability of each item's codes; by popularity, log of its share of all interactions."
    )
    codes: list[list[int]] = Field(description="Each item's semantic ID.")
    titles: list[str] | None = Field(None, description="Only when asked for.")
    complete: bool = Field(description="Whether all k were found; if not, a note says why.")
    exact: bool = Field(
        description="Whether it is certain that no item which the request may have scores better than these, by this "
        "checkpoint in this precision. Always true by popularity."
    )
    bound: float | None = Field(
        description="No item that the search left out scores above it; null where it left none out."
    )
    near_tie: bool = Field(
        description="Not called exact only because scores differ between beam widths on this device, as measured when "
        "the server warmed up, by more than what certifies the answer."
    )
    beam_width: int | list[int] | None = Field(
        description="Beams of the search that found the items, at each level or by level; null by popularity."
    )
    prompt_tokens: int | None = Field(None, description="Of models that read tokens: how many the prompt had.")
    cached_tokens: int | None = Field(
        None, description="Of models that read tokens: how many of the prompt's the device had already."
    )
    source: Literal["model", "popularity"] = Field(
        description="What answered: popularity where the request tells nothing of its user."
    )
    left_out: list[LeftOut] | None = Field(
        None,
        description="Only under caps: the first items that they left out of the list, best first; the list is then "
        "not called exact.",
    )
    notes: list[str] = Field(description="What was done to the request that its sender may not expect.")
    model: str = Field(description="Version of the checkpoint that gave all of this answer.")
    catalog: str = Field(description="Version of the catalog that gave all of this answer.")
    timings: Timings
    request_id: str


class ErrorDetail(BaseModel):
    status: int
    type: str = Field(description="The outcome, as octorec_requests_total counts it.")
    field: str | None = Field(description="What was wrong, such as `history.3` or `user.age`.")
    message: str


class Problem(BaseModel):
    """A Problem ends a request without an answer. Status 503 has the header Retry-After."""

    error: ErrorDetail
    request_id: str | None


class Answers(BaseModel):
    """Answers are of a list of requests, in its order; the status is 200 also where some of them failed."""

    answers: list[Recommendations | Problem]


SAID = {  # by pydantic's type of error: what a sender, who knows no Python, can act on
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dict_type": "must be an object",
    "list_type": "must be a list",
    "extra_forbidden": "there is no such field",
    "missing": "is required",
}


def in_words(kind: str, message: str, field: str) -> str:
    """Say what is wrong with `field`, of an error that pydantic calls `kind` and words as `message`."""
    names = field.split(".")
    if len(names) > 1 and names[0] == "user":
        return "values are text, numbers or null"
    if len(names) > 1 and names[0] == "features":
        return "values are numbers, lists of numbers or null"
    if len(names) == 3 and names[0] == "histories":
        return "ids are text, or integers, which are read as text"
    if (len(names) == 2 and names[0] in ID_LISTS) or (names[-1] == "item_id" and kind != "missing"):
        return "ids are text, or integers, which are read as text"
    if names[0] == "beam_width":
        return "must be an integer, a list of one a level, or auto"
    return SAID.get(kind, message.removeprefix("Value error, "))


def refuse_unknown(raw: Any, kind: type[BaseModel], where: str = "") -> None:
    """Refuse the first key that the body of a `kind` does not have, before anything else is looked at."""
    unknown = next((key for key in raw if key not in kind.model_fields), None) if isinstance(raw, dict) else None
    if unknown is not None:
        field = ".".join(filter(None, (where, unknown[:100])))
        raise Refusal("invalid", f"{field}: {SAID['extra_forbidden']}", field)


def checked(raw: Any, config: ServeConfig) -> RecommendRequest:
    """Check a decoded request's types, ranges and sizes; a Refusal names the first field that is wrong."""
    refuse_unknown(raw, RecommendRequest)
    try:
        request = RecommendRequest.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join(str(part)[:100] for part in first["loc"] if part not in ("str", "int")) or "body"
        raise Refusal("invalid", f"{field}: {in_words(first['type'], first['msg'], field)}", field) from None
    if not {"history", *PROMPTS} & request.model_fields_set:
        raise Refusal("invalid", "history: is required", "history")
    if len(request.exclude) > config.engine.max_exclude:
        said = f"exclude: got {len(request.exclude)} ids; at most max_exclude = {config.engine.max_exclude}"
        raise Refusal("invalid", said, "exclude")
    return request
