"""OpenAPI documents by these classes what the page asks for besides recommendations."""

from pydantic import BaseModel, Field

from octorec.serve.page.examples import Example
from octorec.serve.schemas import Problem, Recommendations

Prefix = tuple[list[int], float]


class FoundItem(BaseModel):
    item: str
    title: str


class FoundItems(BaseModel):
    """FoundItems are the best matches, the best first."""

    items: list[FoundItem]


class ShownVariant(BaseModel):
    share: str = Field(description="Of the units in the ramp, as a fraction.")
    requests: dict[str, int] = Field(description="Requests that this process counted, by how they ended.")


class ShownExperiment(BaseModel):
    """A ShownExperiment says how the experiment of this server is."""

    name: str
    stage: int = Field(description="Counted from 0.")
    ramp: str = Field(description="Share of all units that take part, as a fraction.")
    variants: dict[str, ShownVariant]
    stopped: str | None = Field(description="Why the control answers everybody; null while the variants answer.")
    ended: bool


class ShownExample(Example):
    """A ShownExample has the titles of its history too, "" where the catalog has none."""

    titles: list[str]


class About(BaseModel):
    """An About says what may be asked here."""

    model: str = Field(description="Version of the checkpoint.")
    compared: str | None = Field(description="Version of the checkpoint that /v1/compare asks too; null without one.")
    catalog: str = Field(description="Version of the catalog.")
    items: int = Field(description="Items of the catalog.")
    titles: bool = Field(description="Whether any item has a title.")
    sets: list[str] = Field(description="Named sets for `allow`, the first 200.")
    levels: int = Field(description="Codes of an item.")
    beam_widths: list[int | list[int]] = Field(description="Widths that were made ready.")
    default_beam_width: int | str | list[int]
    auto: bool = Field(description="Whether a request may ask for `auto`.")
    max_exclude: int
    reads_tokens: bool = Field(description="Whether the model reads prompts of tokens.")
    domains: list[str] = Field(description="Domains that a request may name.")
    traces: bool = Field(description="Whether /v1/trace is answered by this server.")
    examples: list[ShownExample]
    experiment: ShownExperiment | None


class Side(BaseModel):
    """A Side is one checkpoint's answer."""

    model: str
    answer: Recommendations | Problem


class Comparison(BaseModel):
    """A Comparison has the answers of both checkpoints to one request."""

    served: Side
    compared: Side


class Level(BaseModel):
    """A Level says what the search kept of prefixes, each with its codes and its score, the best first."""

    width: int = Field(description="Prefixes that it may keep.")
    kept: list[Prefix]
    dropped: list[Prefix] = Field(description="The best of those that it could have kept and did not, at most 8.")
    highest_dropped: float | None = Field(description="The best score of all of these; null where it kept every one.")


class Traced(BaseModel):
    """A Traced is a search of one request, as it went, with what it found."""

    levels: list[Level]
    items: list[str]
    titles: list[str]
    codes: list[list[int]]
    scores: list[float]
    exact: bool
    bound: float | None
    model: str
    catalog: str
