"""The verb that proves FP8 for a checkpoint."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from octorec.cli.flags import with_flags
from octorec.cli.inputs import check_hold_out, known_users, to_predict, warned, without_features
from octorec.cli.options import (
    A_CHECKPOINT,
    ContextModule,
    Device,
    Domain,
    ExcludeSeen,
    Force,
    Interactions,
    Json,
    Ks,
    Limit,
    Margin,
    Predicted,
    RecipeName,
    UnknownItems,
    Users,
    asked_lengths,
    claim,
    show,
)
from octorec.cli.tables import Columns, Sep, TimeFormat, table_format
from octorec.data.hold_out import HOLD_OUT
from octorec.engine.model_folder import require_model
from octorec.errors import InputError
from octorec.progress_bar import counting
from octorec.prove.config import ProveConfig
from octorec.quant.shipped import recipe_file
from octorec.settings import given
from octorec.terminal import say


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
    domain: Domain = "",
    force: Force = False,
    as_json: Json = False,
    **flags: Any,
) -> None:
    """Prove a model in FP8: layers, answers, on a GPU speed, and last the verdict as in `evaluate`.

    Exit code 0 not inferior, 3 inferior or a fault in the numbers, 4 inconclusive, 2 an error."""
    config = ProveConfig(k=asked_lengths(k), **given(flags))
    require_model(checkpoint)
    check_hold_out(hold_out)
    if out is not None:
        claim(command, out, force, checkpoint, data, users, *recipe_file(config.recipe))

    from octorec.data.learned import read_learned
    from octorec.engine.catalogs import open_catalogs
    from octorec.evaluate.origin import Side
    from octorec.models.families import without_weights
    from octorec.models.features import features_of
    from octorec.models.hf_folder import Checkpoint as HfFolder
    from octorec.models.model import max_tokens
    from octorec.prove.run import prove
    from octorec.report.proof import render_proof

    form = table_format(sep, columns, time_format)
    model = without_weights(HfFolder(checkpoint), config.context_module)
    if domain and max_tokens(model) is None:
        raise InputError("domain", domain, "this model reads items' codes and has one catalog: leave it out")
    found = to_predict(data, hold_out, form, limit, floors=True)
    examples = found.examples
    asked = f"{len(examples):,} requests each in 16 bit and in FP8 on {config.device}"
    say(f"ahead: {asked}; then layers, floors and verdict")
    catalogs = open_catalogs(None, checkpoint, model)
    side = Side(catalogs.get(domain, next(iter(catalogs.values()))), read_learned(checkpoint))
    origin = warned(found.origin(hold_out, {"checkpoint": side}))
    without_features(features_of(model))
    known = known_users(users, model.user_fields, (example.user_id for example in examples), form)
    with counting("proving", "requests") as progress:
        proof = prove(checkpoint, examples, config, out, known, force, progress, found.train, domain)
    proof = dataclasses.replace(proof, comparison=dataclasses.replace(proof.comparison, origin=origin))
    show(as_json, proof.to_dict(), render_proof(proof))
    raise typer.Exit(proof.exit_code)
