"""POST /v1/outcomes: what units did, written beside the exposures of the experiment that runs."""

import re
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any

import orjson
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StringConstraints, ValidationError
from starlette.routing import Route

from octorec.errors import InputError
from octorec.evaluate.online.experiment import NAME
from octorec.evaluate.online.outcome_table import LARGEST
from octorec.evaluate.online.unit import unit_id
from octorec.serve.access import decoded
from octorec.serve.documented import token_scheme
from octorec.serve.experiment import Running
from octorec.serve.front import Front
from octorec.serve.guarded import beside, guarded_body
from octorec.serve.problems import problems
from octorec.serve.refusal import Refusal, invalid
from octorec.serve.schemas import ItemId, RequestId, in_words, refuse_unknown
from octorec.serve.tokens import Tokens

PATH = "/v1/outcomes"
MOST = 10_000  # outcomes in one body
NONE_RUNS = "no experiment is configured: start the server with --experiment and --experiment-root"
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST_S = 253_402_300_800  # the first second of the year 10000
Number = StrictInt | Annotated[StrictFloat, Field(allow_inf_nan=False)]


class Outcome(BaseModel):
    """An Outcome is one thing that a unit did. Of `unit` and `request_id` one is given."""

    model_config = ConfigDict(strict=True, extra="forbid")

    event: Annotated[str, StringConstraints(pattern=f"^{NAME.pattern}$")] = Field(
        description="Its name, as the experiment's metrics have it; letters, digits, . _ -."
    )
    unit: ItemId | None = Field(None, description="Whose it is, as requests name the unit; integers are read as text.")
    request_id: RequestId | None = Field(None, description="The request that it came from, for that request's unit.")
    value: Number = Field(1, description="What is summed, such as a price or seconds.")
    time: str | Number | None = Field(
        None, description="When, as RFC 3339 with an offset, or seconds since 1970; now if not given."
    )
    item: ItemId | None = Field(None, description="What it was done to; for a person to read.")
    id: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = Field(
        None, description="Two outcomes of one id are counted once; without ids, equal ones are."
    )


class Taken(BaseModel):
    """Taken says that the outcomes are in the server's hands; the disk has them within seconds."""

    taken: int


def outcome_routes(app: FastAPI, service: Front) -> None:
    """Add the route to the public application; without an experiment it only says that there is none."""
    config = service.config
    tokens = Tokens(config.http.token_file)
    if service.variants is None:
        app.router.routes.append(Route(PATH, _none_runs, methods=["POST"]))
        return

    async def answer(request: Request) -> Response:
        body = await guarded_body(request, tokens, config.http.max_body_bytes, config.http.body_timeout_s)
        running = service.running
        if running is None:
            raise Refusal("not_ready", "the server is still loading")
        if service.state == "draining":
            raise Refusal("draining", "the server is shutting down")
        taken = await beside(body, partial(_take, running, time.time()))
        return Response(orjson.dumps({"taken": taken}), 202, media_type="application/json")

    Several = Annotated[list[Outcome], Field(min_length=1, max_length=MOST)]

    @app.post(
        PATH,
        status_code=202,
        tags=["experiment"],
        dependencies=token_scheme(config.http.token_file),
        responses=problems(400, 401, 408, 413, 415, 422, 500, 503),
    )
    async def add_outcomes(body: Outcome | Several) -> Taken:  # type: ignore[valid-type]
        """Say what a unit did, or a list of such things: all of a list is taken, or where one is wrong, none."""
        raise AssertionError("the route below answers")

    # comes before the route above, which is for OpenAPI: so an error names the field of one of the two kinds of bodies
    app.router.routes.insert(0, Route(PATH, answer, methods=["POST"]))


def _take(running: Running, now: float, body: bytes) -> int:
    """Hand a body's outcomes to the log; returns how many they are."""
    rows = rows_of(decoded(body), now)
    for row in rows:
        running.outcomes.add(row)
    running.metrics.outcomes.inc(len(rows))
    return len(rows)


def rows_of(raw: object, now: float) -> list[dict[str, Any]]:
    """Make the rows of `rows.OUTCOMES` of a decoded body; a Refusal names the first field that is wrong."""
    if not isinstance(raw, list):
        return [_row(raw, now, "")]
    if not 1 <= len(raw) <= MOST:
        raise Refusal("invalid", f"outcomes: got {len(raw)}; 1 to {MOST}", "outcomes")
    return [_row(one, now, f"outcomes.{number}") for number, one in enumerate(raw)]


def _row(raw: Any, now: float, where: str) -> dict[str, Any]:
    refuse_unknown(raw, Outcome, where)
    try:
        outcome = Outcome.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        parts = [str(part)[:100] for part in first["loc"][:1]]
        field = ".".join(filter(None, (where, *parts))) or "body"
        raise Refusal("invalid", f"{field}: {_said(first, parts)}", field) from None
    try:
        unit = unit_id(outcome.unit, _field(where, "unit"))
        if (unit is None) == (outcome.request_id is None):
            found = "neither" if unit is None else "both"
            raise InputError(_field(where, "unit"), found, "give one of unit and request_id")
        seconds = now if outcome.time is None else seconds_of(outcome.time, _field(where, "time"))
        value = _value(outcome.value, _field(where, "value"))
    except InputError as error:
        raise invalid(error) from None
    item = None if outcome.item is None else str(outcome.item)
    about = {"unit": unit, "request_id": outcome.request_id, "event": outcome.event, "value": value}
    return {"time": seconds, **about, "item": item, "id": outcome.id}


def _value(value: float, field: str) -> float:
    if not -LARGEST <= value <= LARGEST:
        raise InputError(field, value, f"must be from -{LARGEST:g} to {LARGEST:g}")
    return float(value)


def seconds_of(value: str | float, field: str) -> float:
    """Return seconds since 1970 of a time as RFC 3339 writes it, or of such seconds."""
    if isinstance(value, str):
        try:
            if not RFC_3339.fullmatch(value):
                raise ValueError
            seconds = (datetime.fromisoformat(value.upper()) - EPOCH) / timedelta(seconds=1)
        except (ValueError, OverflowError):
            raise InputError(field, value, "must be such as 2026-11-30T12:00:00Z, or seconds since 1970") from None
    else:
        seconds = float(value)
    if not 0 <= seconds < LAST_S:
        raise InputError(field, value, "must be from 1970 to 9999; a number is of seconds, not of milliseconds")
    return seconds


def _said(error: Any, parts: list[str]) -> str:
    """Say what is wrong, for a sender who knows no Python."""
    if parts in (["unit"], ["item"]) and error["type"] != "missing":
        return "ids are text, or integers, which are read as text"
    if parts == ["value"]:
        return "must be a finite number"
    if parts == ["time"]:
        return "must be text such as 2026-11-30T12:00:00Z, or seconds since 1970"
    return in_words(error["type"], error["msg"], ".".join(parts))


def _field(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _none_runs(_: Request) -> Response:
    raise Refusal("not_found", NONE_RUNS)
