"""The verb that evaluates a checkpoint, or gives a verdict of two."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from octorec.cli.inputs import check_hold_out, known_users, said_of_gpu, to_predict, warned, without_features
from octorec.cli.options import (
    A_CHECKPOINT,
    A_FILE,
    A_TABLE,
    Base,
    BeamWidths,
    Capped,
    Catalogs,
    Checkpoint,
    ContextModule,
    Device,
    DistinctCodes,
    Domain,
    ExcludeSeen,
    Json,
    Ks,
    Limit,
    Margin,
    MaxCosine,
    Predicted,
    UnknownItems,
    Users,
    asked_lengths,
    caps_asked,
    one_or_several,
    show,
)
from octorec.cli.tables import Columns, Sep, TimeFormat, table_format
from octorec.data.hold_out import HOLD_OUT
from octorec.engine.limits import DEFAULT_BEAM_WIDTH
from octorec.engine.model_folder import require_model
from octorec.engine.request import Request, check_unknown_items, read_requests
from octorec.engine.widths import of_one, read_for
from octorec.errors import InputError
from octorec.evaluate.margin import MARGIN
from octorec.progress_bar import counting
from octorec.prove.config import ProveConfig
from octorec.settings import DEVICE, given
from octorec.terminal import say


def evaluate(
    baseline: Checkpoint,
    candidate: Annotated[
        Path | None,
        typer.Argument(help="Checkpoint to judge; without one BASELINE's metrics alone.", callback=A_CHECKPOINT),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Interactions (Parquet, CSV, JSON lines): user_id, item_id, timestamp; or test rows of RecIF or "
            "MiniOneRec as they lie.",
            callback=A_TABLE,
        ),
    ] = None,
    hold_out: Predicted = HOLD_OUT,
    requests: Annotated[
        Path | None, typer.Option(help="Shadow: requests without labels, JSON lines.", callback=A_FILE)
    ] = None,
    k: Ks = None,
    margin: Margin = MARGIN,
    beam_width: BeamWidths = None,
    exclude_seen: ExcludeSeen = ProveConfig.exclude_seen,
    unknown_items: UnknownItems = ProveConfig.unknown_items,
    caps: Capped = None,
    distinct_codes: DistinctCodes = None,
    max_cosine: MaxCosine = None,
    users: Users = None,
    limit: Limit = None,
    sep: Sep = None,
    columns: Columns = None,
    time_format: TimeFormat = None,
    catalog: Catalogs = None,
    domain: Domain = "",
    task: Annotated[str | None, typer.Option(help="Language models: which of the family's prompts.")] = None,
    base: Base = None,
    context_module: ContextModule = None,
    device: Device = DEVICE,
    as_json: Json = False,
) -> None:
    """Judge CANDIDATE against BASELINE on the same targets. Exit code 0 not inferior, 3 inferior, 4 inconclusive.

    An error ends with 2. With BASELINE alone, or with --requests, there is no verdict: exit code 0."""
    asked = asked_lengths(k)
    width = None if beam_width is None else read_for(asked[-1], "beam_width", beam_width)
    capped = given({"caps": caps_asked(caps), "distinct_codes": distinct_codes, "max_cosine": max_cosine})
    Request(**capped)
    check_unknown_items(unknown_items)
    check_hold_out(hold_out)
    if (data is None) == (requests is None):
        raise InputError("data", data and str(data), "give either --data (with labels) or --requests (without)")
    if requests is not None and capped:
        name, value = next(iter(capped.items()))
        raise InputError(name, value, "goes with --data; a line of --requests says its own")
    if candidate is None and requests is not None:
        raise InputError("candidate", None, "--requests compares the answers of two checkpoints: give both")
    folders = {"checkpoint": baseline} if candidate is None else {"baseline": baseline, "candidate": candidate}
    named = one_or_several(catalog)
    for name, folder in folders.items():
        require_model(folder, named, name)

    from octorec.data.learned import read_learned
    from octorec.engine.engine import Engine
    from octorec.engine.load import load
    from octorec.evaluate.asked import engine_of
    from octorec.evaluate.compare import compare
    from octorec.evaluate.origin import Side
    from octorec.evaluate.single import evaluate as evaluated
    from octorec.report.evaluation import render_evaluation
    from octorec.report.verdict import render

    form = table_format(sep, columns, time_format)

    def engines(**options: Any) -> list[Engine]:
        options |= {"exclude_seen": exclude_seen, "progress": said_of_gpu(device), "context_module": context_module}
        return [load(path, named, device, base=base, **options) for path in folders.values()]

    if requests is not None:
        wide = {} if width is None else {"default_beam_width": width}
        _shadow(requests, limit, device, unknown_items, lambda: engines(**wide), as_json)
        return
    assert data is not None
    found = to_predict(data, hold_out, form, limit, floors=True)
    whom = "each of two checkpoints" if candidate else "the checkpoint"
    then = "the floors and the verdict" if candidate else "the floors"
    say(f"ahead: {len(found.examples):,} requests to {whom} on {device}; then {then}")
    sides = engines(**of_one(DEFAULT_BEAM_WIDTH if width is None else width))
    without_features(sides[0].features)
    for engine in sides:
        engine.policy.widths(width, asked[-1])
    known_to = {
        name: Side(engine_of(engine, domain).catalog, read_learned(folder))
        for (name, folder), engine in zip(folders.items(), sides, strict=True)
    }
    origin = warned(found.origin(hold_out, known_to))
    fields = [field for engine in sides for field in engine.user_fields]
    known = known_users(users, fields, (example.user_id for example in found.examples), form)
    how: dict[str, Any] = {"users": known, "unknown_items": unknown_items, "domain": domain, "task": task}
    how |= {"beam_width": width, "train": found.train, "caps": capped}
    with counting("evaluating", "requests") as progress:
        if candidate is None:
            alone = evaluated(sides[0], found.examples, asked, progress=progress, **how)
        else:
            result = compare(sides[0], sides[1], found.examples, asked, margin, progress=progress, **how)
    if candidate is None:
        alone = dataclasses.replace(alone, origin=origin)
        show(as_json, alone.to_dict(), render_evaluation(alone))
        return
    result = dataclasses.replace(result, origin=origin)
    show(as_json, result.to_dict(), render(result))
    raise typer.Exit(result.verdict.exit_code)


def _shadow(path: Path, limit: int | None, device: str, unknown_items: str, engines: Any, as_json: bool) -> None:
    """Compare two checkpoints' answers to requests without labels."""
    from octorec.data.sampled import sampled_requests
    from octorec.evaluate.shadow import shadow
    from octorec.report.verdict import render_shadow

    requests, chosen = sampled_requests(read_requests(path), limit)
    say(f"{path}: " + (chosen.line("requests", "line numbers") if chosen else f"{len(requests):,} requests"))
    say(f"ahead: {len(requests):,} requests to each of two checkpoints on {device}, which then score the answers")
    with counting("shadow", "requests") as progress:
        before, after = engines()
        seen = shadow(before, after, requests, progress=progress, unknown_items=unknown_items)
    seen = dataclasses.replace(seen, sample=chosen)
    show(as_json, seen.to_dict(), render_shadow(seen))
