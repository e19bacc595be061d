"""These routes answer what the page asks for besides recommendations; they need the token of /v1/recommend."""

import asyncio
from functools import partial
from typing import Annotated, Any

import orjson
from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse

from octorec.catalog.catalog import Catalog
from octorec.engine.trace import Trace
from octorec.engine.widths import as_width
from octorec.serve.access import unless_hung_up
from octorec.serve.asking import Asking, request_id_of
from octorec.serve.direct import Answer
from octorec.serve.documented import token_scheme
from octorec.serve.experiment import Running
from octorec.serve.page.examples import Example, read_examples
from octorec.serve.page.html import HEADERS, PAGE
from octorec.serve.page.schemas import (
    About,
    Comparison,
    FoundItem,
    FoundItems,
    ShownExample,
    ShownExperiment,
    ShownVariant,
    Traced,
)
from octorec.serve.page.titles import Titles
from octorec.serve.pending import Serving
from octorec.serve.problems import problems
from octorec.serve.recommend import answer_body, as_json, encoded
from octorec.serve.refusal import Refusal
from octorec.serve.schemas import RecommendRequest, checked

MOST_SETS = 200
MOST_SEARCHES = 16  # of titles that may wait for the one that runs
ASKS = 400, 401, 408, 413, 415, 422, 500, 503, 504


def page_routes(app: FastAPI, asking: Asking) -> dict[str, Answer]:
    """Add the page and what it asks for; return what answers POST at its addresses, see `Direct`."""
    config, own = asking.config, Looking(asking)
    about: dict[str, Any] = {"tags": ["page"], "dependencies": token_scheme(config.http.token_file)}

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(PAGE, headers=HEADERS)

    @app.get("/v1/about", **about, responses=problems(401, 500, 503))
    async def get_about(request: Request) -> About:
        """Say what may be asked here."""
        await asking.door.holder_of(request)
        asking.service.refuse_unless_ready()
        return own.about()

    @app.get("/v1/items", **about, responses=problems(401, 422, 500, 503))
    async def find_items(
        request: Request,
        title: Annotated[str, Query(max_length=200)] = "",
        limit: Annotated[int, Query(ge=1, le=50)] = 20,
    ) -> FoundItems:
        """Find live items whose titles have all words of a text, whatever their case and accents."""
        await asking.door.holder_of(request)
        asking.service.refuse_unless_ready()
        return await own.find(title, limit)

    @app.post("/v1/trace", **about, responses=problems(*ASKS, 404))
    async def trace(body: RecommendRequest) -> Traced:
        """Search for one request, and tell what each level of the search kept and dropped.

        It takes the device for itself, a tenth of the time at most; `auto` is traced as it begins.
        """
        raise AssertionError("answered before; this route is for OpenAPI")

    answers: dict[str, Answer] = {"/v1/trace": own.traced}
    if config.look.compare is not None:

        @app.post("/v1/compare", **about, responses=problems(*ASKS))
        async def compare(body: RecommendRequest) -> Comparison:
            """Answer one request by both checkpoints of this server. Each answer may be a problem of its own."""
            raise AssertionError("answered before; this route is for OpenAPI")

        answers["/v1/compare"] = own.compared
    return answers


class Looking:
    """Looking answers what the page asks."""

    def __init__(self, asking: Asking):
        self.asking, self.service, self.config = asking, asking.service, asking.config
        path = self.config.look.examples
        self.examples: list[Example] = [] if path is None else read_examples(path)
        self._titles: Titles | None = None
        self._searching, self._waiting = asyncio.Lock(), 0

    def about(self) -> About:
        """Return what may be asked of what answers now."""
        serving, engine = self.service.serving, self.service.serving.engine
        catalog, buckets = engine.catalog, engine.policy.buckets
        default: Any = engine.policy.default
        return About(
            model=serving.model,
            compared=None if self.service.compared is None else self.service.compared.model,
            catalog=catalog.version,
            items=len(catalog),
            titles=any(catalog.titles),
            sets=list(catalog.set_names[:MOST_SETS]),
            levels=buckets.levels,
            beam_widths=[_shown(as_width(beams)) for beams in buckets.beams],
            default_beam_width=_shown(default),
            auto=bool(buckets.fixed),
            max_exclude=self.config.engine.max_exclude,
            reads_tokens=engine.prompts is not None,
            domains=list(engine.domains),
            traces=self.config.http.http_workers == 0,
            examples=[one for one in (_with_titles(each, catalog) for each in self.examples) if one.history],
            experiment=None if self.service.running is None else _experiment(self.service.running),
        )

    async def find(self, text: str, limit: int) -> FoundItems:
        """Return the items whose titles match, found on a thread, one search at a time."""
        if self._waiting >= MOST_SEARCHES:
            raise Refusal("queue_full", "too many searches for titles wait: try again")
        self._waiting += 1
        try:
            async with self._searching:
                catalog = self.service.serving.engine.catalog
                places = await asyncio.to_thread(self._places, catalog, text, limit)
        finally:
            self._waiting -= 1
        return FoundItems(items=[FoundItem(item=catalog.item_ids[at], title=catalog.titles[at]) for at in places])

    def _places(self, catalog: Catalog, text: str, limit: int) -> list[int]:
        if self._titles is None or self._titles.catalog is not catalog:
            self._titles = Titles.of(catalog)
        return self._titles.find(text, limit)

    async def traced(self, http: Request) -> Response:
        """Answer POST /v1/trace."""
        return await self._answered(http, self._trace)

    async def compared(self, http: Request) -> Response:
        """Answer POST /v1/compare."""
        return await self._answered(http, self._compare)

    async def _answered(self, http: Request, answer: Any) -> Response:
        """Answer a body of one request; a refusal of it as a whole is counted and logged as those of /v1/recommend."""
        request_id = request_id_of(http)
        headers = {"X-Request-ID": request_id}
        try:
            client, raw = await self.asking.door.enter(http)
            asked = checked(raw, self.config)
            async with unless_hung_up(http):
                return as_json(await answer(raw, asked, request_id, client), 200, headers)
        except Refusal as refusal:
            self.asking.refused(refusal, request_id)
            return as_json(orjson.dumps(refusal.body(request_id)), refusal.status, {**headers, **refusal.headers})

    async def _trace(self, raw: object, asked: RecommendRequest, request_id: str, client: str) -> bytes:
        return _as_traced(*await self.service.trace(asked, client))

    async def _compare(self, raw: object, asked: RecommendRequest, request_id: str, client: str) -> bytes:
        check = partial(checked, raw, self.config)
        each = {"served": self.service.serving, "compared": self.service.compared}
        ended = await asyncio.gather(
            *(
                self.asking.one(raw, check, encoded, f"{request_id}-{name}", client, by)
                for name, by in zip(each, (None, self.service.compared), strict=True)
            )
        )
        sides = {
            name: {"model": serving.model, "answer": orjson.Fragment(answer_body(one))}
            for (name, serving), one in zip(each.items(), ended, strict=True)
            if serving is not None
        }
        return orjson.dumps(sides)


def _as_traced(trace: Trace, serving: Serving) -> bytes:
    ranked = trace.ranked
    found = {"items": ranked.items(), "titles": ranked.titles(), "codes": ranked.codes, "scores": ranked.scores}
    about = {"exact": ranked.exact, "bound": ranked.bound, "model": serving.model, "catalog": ranked.catalog.version}
    levels = {"levels": [vars(level) for level in trace.levels]}
    return orjson.dumps(levels | found | about, option=orjson.OPT_SERIALIZE_NUMPY)


def _with_titles(example: Example, catalog: Catalog) -> ShownExample:
    """Return an example with the items that the catalog has, and their titles."""
    known = [item for item in example.history if item in catalog.index]
    titles = [catalog.titles[catalog.index[item]] for item in known]
    return ShownExample(name=example.name, history=known, user=example.user, titles=titles)


def _experiment(running: Running) -> ShownExperiment:
    state = running.state
    variants = {
        name: ShownVariant(share=str(one.share), requests=_requests(running, name))
        for name, one in state.assigns.variants.items()
    }
    return ShownExperiment(
        name=state.record.name,
        stage=state.stage,
        ramp=str(state.assigns.ramp),
        variants=variants,
        stopped=None if state.stop is None else state.stop.why,
        ended=state.over,
    )


def _requests(running: Running, variant: str) -> dict[str, int]:
    return {ended: count for (name, ended), count in sorted(running.counts.items()) if name == variant}


def _shown(width: Any) -> Any:
    return list(width) if isinstance(width, tuple) else width
