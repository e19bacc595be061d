"""The experiment on the admin port: how it is, and what only a person does to it."""

import asyncio
from concurrent.futures import Future
from typing import Annotated, Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.routing import Route

from octorec.serve.experiment import HOLD_OUT, Running
from octorec.serve.outcomes import NONE_RUNS
from octorec.serve.problems import problems
from octorec.serve.refusal import Refusal
from octorec.serve.service import Service

PATH = "/v1/experiment"
REFUSED = 400, 401, 403, 408, 409, 413, 415, 422, 500


class Why(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    why: Annotated[str, StringConstraints(min_length=1, max_length=500)] = Field(
        description="For the record, in a person's words."
    )
    variant: str = Field("", description="The variant at fault, if one is.")


class RunningVariant(BaseModel):
    share: str = Field(description="Of the units in the ramp, as a fraction.")
    model: str = Field(description="Version of the checkpoint, by content, as rows state it.")
    catalog: str = Field(description="Version of the catalog, by content.")
    beam_width: int | list[int] | str = Field(description="Of requests that state none.")
    requests: dict[str, int] = Field(description="Of this process, by what became of them.")


class Stopped(BaseModel):
    time: float = Field(description="Seconds since 1970.")
    variant: str = Field(description="The variant at fault; empty where a person stopped it and named none.")
    why: str


class ExperimentState(BaseModel):
    name: str
    stage: int = Field(description="Counted from 0; other shares, checkpoints or catalogs open a new one.")
    ramp: str = Field(description="Share of all units that are in the experiment, as a fraction.")
    variants: dict[str, RunningVariant]
    hold_out: dict[str, int] = Field(description="Requests of units that are in no experiment, by their ends.")
    stop: Stopped | None = Field(description="Why the control answers everybody; null while the variants answer.")
    ended: float | None = Field(description="When the experiment was ended, in seconds since 1970.")
    exposures_lost: int = Field(description="Rows of this process that could not be written.")
    outcomes_lost: int


def experiment_routes(app: FastAPI, service: Service, token: list[Any]) -> None:
    """Add the routes to the admin application; without an experiment they only say that there is none."""
    if service.variants is None:
        for path in (PATH, PATH + "/{verb}"):
            app.router.routes.append(Route(path, _none_runs, methods=["GET", "POST"]))
        return
    changing: Any = {"tags": ["experiment"], "dependencies": token, "responses": problems(*REFUSED)}

    @app.get(PATH, tags=["experiment"], dependencies=token, responses=problems(401, 403, 409, 500))
    async def get_experiment() -> ExperimentState:
        """Return the experiment that this server runs."""
        return state_of(_running(service))

    @app.post(PATH + "/stop", **changing)
    async def stop_experiment(body: Why) -> ExperimentState:
        """Let the control answer everybody, at once here and within seconds on other servers. Units stay assigned, and
        their rows say so."""
        running = _running(service)
        if body.variant not in ("", *running.answering):
            raise Refusal("invalid", f"variant: one of {', '.join(running.answering)}, or empty", "variant")
        return await _done(running, running.stop(body.variant, body.why))

    @app.post(PATH + "/resume", **changing)
    async def resume_experiment() -> ExperimentState:
        """Let the variants answer again after a stop. No program does this."""
        running = _running(service)
        return await _done(running, running.switch.resume())

    @app.post(PATH + "/reload", **changing)
    async def reload_experiment() -> ExperimentState:
        """Read the experiment's file again: a higher ramp, or other shares, which open a new stage. All else needs a
        restart, or a new experiment, and is refused."""
        running = _running(service)
        return await _done(running, running.switch.reload())


def _running(service: Service) -> Running:
    if service.running is None:
        raise Refusal("busy", "the server is not ready")
    return service.running


async def _done(running: Running, change: "Future[None]") -> ExperimentState:
    await asyncio.wrap_future(change)
    return state_of(running)


def state_of(running: Running) -> ExperimentState:
    """Return how an experiment is, as far as this process knows."""
    state = running.state
    return ExperimentState(
        name=state.record.name,
        stage=state.stage,
        ramp=str(state.assigns.ramp),
        variants={name: _variant(running, name) for name in state.assigns.variants},
        hold_out=_counts(running, HOLD_OUT),
        stop=None if state.stop is None else Stopped(**vars(state.stop)),
        ended=state.record.ended,
        exposures_lost=running.exposures.lost,
        outcomes_lost=running.outcomes.lost,
    )


def _variant(running: Running, name: str) -> RunningVariant:
    one = running.answering[name]
    model, catalog = one.versions
    width: Any = one.serving.engine.config.default_beam_width if one.beam_width is None else one.beam_width
    return RunningVariant(
        share=str(running.state.assigns.variants[name].share),
        model=model,
        catalog=catalog,
        beam_width=list(width) if isinstance(width, tuple) else width,
        requests=_counts(running, name),
    )


def _counts(running: Running, label: str) -> dict[str, int]:
    return {ended: count for (name, ended), count in sorted(running.counts.items()) if name == label}


def _none_runs(_: Request) -> Response:
    raise Refusal("not_found", NONE_RUNS)
