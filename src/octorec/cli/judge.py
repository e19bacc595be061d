"""The verbs that give a verdict: of two checkpoints, and of FP8 for one."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from octorec.cli.flags import with_flags
from octorec.cli.inputs import check_hold_out, known_users, predicted, said_of_gpu, without_features
from octorec.cli.options import (
    A_CHECKPOINT,
    A_FILE,
    A_TABLE,
    BeamWidths,
    Checkpoint,
    ContextModule,
    Device,
    ExcludeSeen,
    Force,
    Interactions,
    Json,
    Ks,
    Limit,
    Margin,
    OtherCatalog,
    Predicted,
    RecipeName,
    UnknownItems,
    Users,
    claim,
    show,
)
from octorec.cli.tables import Columns, Sep, TimeFormat, table_format
from octorec.data.hold_out import HOLD_OUT
from octorec.engine.limits import DEFAULT_BEAM_WIDTH
from octorec.engine.model_folder import require_model
from octorec.engine.request import check_unknown_items, read_requests
from octorec.engine.widths import of_one, read_for
from octorec.errors import InputError
from octorec.evaluate.cutoffs import K, read_lengths
from octorec.evaluate.margin import MARGIN
from octorec.progress_bar import counting
from octorec.prove.config import ProveConfig
from octorec.quant.shipped import recipe_file
from octorec.settings import DEVICE, given
from octorec.terminal import console, say


def evaluate(
    baseline: Checkpoint,
    candidate: Checkpoint,
    data: Annotated[
        Path | None,
        typer.Option(help="Interactions (Parquet, CSV, JSON lines): user_id, item_id, timestamp.", callback=A_TABLE),
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
    users: Users = None,
    limit: Limit = None,
    sep: Sep = None,
    columns: Columns = None,
    time_format: TimeFormat = None,
    catalog: OtherCatalog = None,
    context_module: ContextModule = None,
    device: Device = DEVICE,
    as_json: Json = False,
) -> None:
    """Judge CANDIDATE against BASELINE on the same targets. Exit code 0 not inferior, 3 inferior, 4 inconclusive.

    An error ends with 2. With --requests answers are compared without a verdict: exit code 0."""
    asked = _asked(k)
    width = None if beam_width is None else read_for(asked[-1], "beam_width", beam_width)
    check_unknown_items(unknown_items)
    check_hold_out(hold_out)
    if (data is None) == (requests is None):
        raise InputError("data", data and str(data), "give either --data (with labels) or --requests (without)")
    require_model(baseline, catalog, "baseline")
    require_model(candidate, catalog, "candidate")

    from octorec.data.learned import read_learned
    from octorec.data.sampled import sampled_requests
    from octorec.data.splits import training_part
    from octorec.engine.engine import Engine
    from octorec.engine.load import load
    from octorec.evaluate.compare import compare
    from octorec.evaluate.origin import Side, origin_of
    from octorec.evaluate.shadow import shadow
    from octorec.report.verdict import render, render_shadow

    form = table_format(sep, columns, time_format)
    shadowed = [] if requests is None else read_requests(requests)

    def engines(**options: Any) -> tuple[Engine, Engine]:
        options |= {"exclude_seen": exclude_seen, "progress": said_of_gpu(device), "context_module": context_module}
        before, after = (load(path, catalog, device, **options) for path in (baseline, candidate))
        return before, after

    if requests is not None:
        shadowed, chosen = sampled_requests(shadowed, limit)
        say(f"{requests}: " + (chosen.line("requests", "line numbers") if chosen else f"{len(shadowed):,} requests"))
        say(f"ahead: {len(shadowed):,} requests to each of two checkpoints on {device}, which then score the answers")
        with counting("shadow", "requests") as progress:
            pair = engines(**({} if width is None else {"default_beam_width": width}))
            seen = shadow(*pair, shadowed, progress=progress, unknown_items=unknown_items)
        seen = dataclasses.replace(seen, sample=chosen)
        show(as_json, seen.to_dict(), render_shadow(seen))
        return
    assert data is not None
    interactions, examples, sample = predicted(data, hold_out, form, limit)
    say(f"ahead: {len(examples):,} requests to each of two checkpoints on {device}; then the floors and the verdict")
    pair = engines(**of_one(DEFAULT_BEAM_WIDTH if width is None else width))
    without_features(pair[0].features)
    for engine in pair:
        engine.policy.widths(width, asked[-1])
    names = {"baseline": baseline, "candidate": candidate}
    sides = {name: Side(e.catalog, read_learned(names[name])) for name, e in zip(names, pair, strict=True)}
    origin = warned(origin_of(interactions, hold_out, sides, sample))
    fields = [field for engine in pair for field in engine.user_fields]
    known = known_users(users, fields, (example.user_id for example in examples), form)
    train = training_part(interactions, hold_out)
    with counting("evaluating", "requests") as progress:
        result = compare(
            *pair,
            examples,
            asked,
            margin,
            width,
            users=known,
            progress=progress,
            unknown_items=unknown_items,
            train=train,
        )
    result = dataclasses.replace(result, origin=origin)
    show(as_json, result.to_dict(), render(result))
    raise typer.Exit(result.verdict.exit_code)


@with_flags(
    ProveConfig, recipe=RecipeName, margin=Margin, device=Device, unknown_items=UnknownItems, exclude_seen=ExcludeSeen,
    context_module=ContextModule,
)  # fmt: skip
def prove(
    command: typer.Context,
    checkpoint: Annotated[Path, typer.Argument(help="16-bit checkpoint folder.", callback=A_CHECKPOINT)],
    data: Interactions,
    hold_out: Predicted = HOLD_OUT,
    out: Annotated[Path | None, typer.Option(help="FP8 checkpoint folder to keep; removed if not given.")] = None,
    k: Ks = None,
    users: Users = None,
    limit: Limit = None,
    sep: Sep = None,
    columns: Columns = None,
    time_format: TimeFormat = None,
    force: Force = False,
    as_json: Json = False,
    **flags: Any,
) -> None:
    """Prove a model in FP8: layers, answers, on a GPU speed, and last the verdict as in `evaluate`.

    Exit code 0 not inferior, 3 inferior or a fault in the numbers, 4 inconclusive, 2 an error."""
    config = ProveConfig(k=_asked(k), **given(flags))
    require_model(checkpoint)
    check_hold_out(hold_out)
    if out is not None:
        claim(command, out, force, checkpoint, data, users, *recipe_file(config.recipe))

    from octorec.catalog.catalog import Catalog
    from octorec.data.learned import read_learned
    from octorec.data.splits import training_part
    from octorec.evaluate.origin import Side, origin_of
    from octorec.models.families import without_weights
    from octorec.models.features import features_of
    from octorec.models.hf_folder import Checkpoint as HfFolder
    from octorec.prove.run import prove
    from octorec.report.proof import render_proof

    form = table_format(sep, columns, time_format)
    interactions, examples, sample = predicted(data, hold_out, form, limit)
    asked = f"{len(examples):,} requests each in 16 bit and in FP8 on {config.device}"
    say(f"ahead: {asked}; then layers, floors and verdict")
    side = Side(Catalog.load(checkpoint / "catalog"), read_learned(checkpoint))
    origin = warned(origin_of(interactions, hold_out, {"checkpoint": side}, sample))
    model = without_weights(HfFolder(checkpoint), config.context_module)
    without_features(features_of(model))
    known = known_users(users, model.user_fields, (example.user_id for example in examples), form)
    train = training_part(interactions, hold_out)
    with counting("proving", "requests") as progress:
        proof = prove(checkpoint, examples, config, out, known, force, progress, train)
    proof = dataclasses.replace(proof, comparison=dataclasses.replace(proof.comparison, origin=origin))
    show(as_json, proof.to_dict(), render_proof(proof))
    raise typer.Exit(proof.exit_code)


def warned(origin: Any) -> Any:
    """Return `origin` after its warnings were said on stderr."""
    from octorec.report.verdict import warning

    for sentence in origin.warnings:
        console.print(warning(sentence), soft_wrap=True)
    return origin


def _asked(texts: list[str] | None) -> tuple[int, ...]:
    """Return what --k asks for, once or several times."""
    return read_lengths(",".join(texts or [str(K)]))
