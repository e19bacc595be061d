"""GET /v1/about and GET /v1/items: what this server can be asked, and its items by words of their titles."""

from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request
from pydantic import BaseModel, Field

from octorec.catalog.catalog import Catalog
from octorec.engine.widths import as_width
from octorec.serve.asking import Asking
from octorec.serve.documented import token_scheme
from octorec.serve.examples import Example, read_examples
from octorec.serve.experiment_admin import ExperimentState, state_of
from octorec.serve.pending import Serving
from octorec.serve.problems import problems
from octorec.serve.refusal import Refusal
from octorec.serve.schemas import UserValue
from octorec.serve.service import Service
from octorec.serve.titles import LONGEST, MOST_FOUND, TitleSearch

MOST_SETS = 500  # that are named
MOST_VALUES = 200  # of a user field


class TitledItem(BaseModel):
    item_id: str
    title: str = Field(description="Empty where it has none.")


class FoundTitles(BaseModel):
    """FoundTitles are the best of the items that match."""

    items: list[TitledItem]
    total: int = Field(description="How many items match.")
    catalog: str = Field(description="Version of the catalog.")


class AskedField(BaseModel):
    """An AskedField is a user field of the model."""

    name: str
    kind: Literal["category", "number"]
    values: list[str] = Field(description="Of a category: what it may be, the first of them.")


class ExampleHistory(BaseModel):
    """An ExampleHistory is a history that somebody may try."""

    name: str
    history: list[TitledItem]
    user: dict[str, UserValue]
    domain: str


class About(BaseModel):
    """About says what requests to this server may ask."""

    model: str = Field(description="Version of the checkpoint.")
    compared: str | None = Field(description="The second checkpoint, which /v1/compare asks; null without one.")
    catalog: str = Field(description="Version of the catalog.")
    items: int = Field(description="Of the catalog.")
    titled: int = Field(description="Items that have a title.")
    sets: list[str] = Field(description="Named sets of items, for `allow`; the first of them.")
    domains: list[str] = Field(description="Of a model with several: those that have a catalog.")
    domain: str = Field(description="The domain of requests that name none.")
    user_fields: list[AskedField]
    features: list[str] = Field(description="Features that a request may give; /v2/models/NAME describes them.")
    levels: int = Field(description="Codes of a semantic ID.")
    beam_widths: list[int | list[int]]
    default_beam_width: int | list[int] | str
    most_k: int = Field(description="The largest k that some beam width can have.")
    max_exclude: int
    exclude_seen: bool = Field(description="Whether requests that do not say get no item of their history.")
    reads_tokens: bool = Field(description="Whether the model reads a prompt of tokens.")
    explains: bool = Field(description="Whether /v1/explain shows searches; not with http_workers.")
    examples: list[ExampleHistory]
    experiment: ExperimentState | None


def about_routes(app: FastAPI, asking: Asking) -> None:
    """Add both routes to the public application."""
    service, config = asking.service, asking.config
    titles = TitleSearch()
    documented: Any = {"tags": ["page"], "dependencies": token_scheme(config.http.token_file)}

    @app.get("/v1/about", **documented, responses=problems(401, 422, 500, 503))
    async def about(http: Request, domain: str = "") -> About:
        """Say what requests to this server may ask, with histories to try."""
        await asking.door.client_of(http)
        serving = asked_of(service.serving, domain, config.engine.domain)
        return await _about(asking, titles, serving, domain)

    @app.get("/v1/items", **documented, responses=problems(401, 422, 500, 503))
    async def search_items(
        http: Request,
        title: Annotated[str, Query(min_length=1, max_length=LONGEST, description="Words of a title, or an id.")],
        limit: Annotated[int, Query(ge=1, le=MOST_FOUND)] = 20,
        domain: str = "",
    ) -> FoundTitles:
        """Find items whose titles have all of some words, whatever their case and accents, popular ones first."""
        await asking.door.client_of(http)
        catalog = asked_of(service.serving, domain, config.engine.domain).engine.catalog
        found = await titles.find(catalog, title, limit)
        items = [_item(catalog, place) for place in found.places.tolist()]
        return FoundTitles(items=items, total=found.total, catalog=catalog.version)


def asked_of(serving: Serving, domain: str, default: str | None) -> Serving:
    """Return what answers a domain, the default where none is named; a Refusal where it has no catalog."""
    domains = serving.engine.domains
    if not domains:
        if domain and serving.engine.prompts is None:
            raise Refusal("invalid", "domain: this model has none: leave it out", "domain")
        return serving
    name = domain or default or next(iter(domains))
    if name not in domains:
        raise Refusal("invalid", f"domain: one of {', '.join(domains)}", "domain")
    return Serving(domains[name], serving.model)


async def _about(asking: Asking, titles: TitleSearch, serving: Serving, domain: str) -> About:
    service, config, engine = asking.service, asking.config, serving.engine
    catalog, buckets, running = engine.catalog, engine.policy.buckets, service.running
    widths: list[Any] = [as_width(beams) for beams in buckets.beams]
    given = () if config.http.examples is None else read_examples(config.http.examples)
    default = config.engine.domain or next(iter(engine.domains), "")
    return About(
        model=serving.model,
        compared=None if service.compared is None else service.compared.model,
        catalog=catalog.version,
        items=len(catalog),
        titled=await titles.titled(catalog),
        sets=list(catalog.set_names[:MOST_SETS]),
        domains=list(engine.domains),
        domain=domain or default,
        user_fields=[_field(one) for one in engine.user_fields],
        features=list(engine.features),
        levels=buckets.levels,
        beam_widths=[list(one) if isinstance(one, tuple) else one for one in widths],
        default_beam_width=_plain(engine.policy.default),
        most_k=max(beams[-1] for beams in buckets.beams),
        max_exclude=config.engine.max_exclude,
        exclude_seen=config.engine.exclude_seen,
        reads_tokens=engine.prompts is not None,
        explains=isinstance(service, Service) and not config.http.http_workers,
        examples=[_example(catalog, one) for one in given if one.domain in ("", domain or default)],
        experiment=None if running is None else state_of(running),
    )


def _example(catalog: Catalog, one: Example) -> ExampleHistory:
    places = [place for place in catalog.places(one.history).tolist() if place >= 0] if one.history else []
    history = [_item(catalog, place) for place in places]
    return ExampleHistory(name=one.name, history=history, user=one.user, domain=one.domain)


def _item(catalog: Catalog, place: int) -> TitledItem:
    return TitledItem(item_id=catalog.item_ids[place], title=catalog.titles[place])


def _field(field: Any) -> AskedField:
    return AskedField(name=field.name, kind=field.kind, values=list(field.values[:MOST_VALUES]))


def _plain(width: Any) -> Any:
    return list(width) if isinstance(width, tuple) else width
