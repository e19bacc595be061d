"""The verb that trains."""

from pathlib import Path
from typing import Annotated, Any

import typer

from octorec.cli import leads
from octorec.cli.command import kept
from octorec.cli.flags import with_flags
from octorec.cli.inputs import known_users
from octorec.cli.options import (
    A_CATALOG_FOLDER,
    A_FILE,
    Device,
    Force,
    HoldOut,
    Interactions,
    Json,
    Users,
    a_preset,
    claim,
    show,
)
from octorec.cli.tables import Columns, Sep, TimeFormat, table_format
from octorec.data.hold_out import HOLD_OUT
from octorec.progress_bar import training_progress
from octorec.settings import DEVICE, given
from octorec.terminal import say
from octorec.training.config import TrainConfig


@with_flags(TrainConfig)
def train(
    command: typer.Context,
    data: Interactions,
    catalog: Annotated[
        Path, typer.Option(help="Catalog folder whose codes the model learns.", callback=A_CATALOG_FOLDER)
    ],
    out: Annotated[Path, typer.Option(help="Checkpoint folder to write.")],
    preset: Annotated[
        str, typer.Option(help="Model dimensions by name; codebook sizes are the catalog's.", callback=a_preset)
    ] = "demo",
    config: Annotated[
        Path | None, typer.Option(help="Model dimensions as config.json, instead of a preset.", callback=A_FILE)
    ] = None,
    users: Users = None,
    sep: Sep = None,
    columns: Columns = None,
    time_format: TimeFormat = None,
    hold_out: HoldOut = HOLD_OUT,
    device: Device = DEVICE,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from OUT.training.")] = False,
    force: Force = False,
    as_json: Json = False,
    **flags: Any,
) -> None:
    """Train a model on interactions and write its BF16 checkpoint."""
    claim(command, out, force, data, catalog, config, users)
    settings = TrainConfig(**given(flags))

    from octorec.catalog.catalog import Catalog
    from octorec.data.splits import training_part, validation_examples
    from octorec.training.run import model_config, parameters, state_folder, train
    from octorec.training.trainer import require_state

    claim(command, state_folder(out), force or resume, data, catalog, config, users)
    if resume:
        require_state(state_folder(out))
    form = table_format(sep, columns, time_format)
    interactions, items = leads.reading(data, form), Catalog.load(catalog)
    train_part = training_part(interactions, hold_out)
    examples = validation_examples(interactions, hold_out)
    dimensions = model_config(config or preset, items)
    leads.of_training(interactions, hold_out)
    sizes = " x ".join(map(str, dimensions.codebook_sizes))
    say(f"model: {parameters(dimensions):,} parameters; catalog: {len(items):,} items in {sizes} codes")
    whose = "held-out items" if hold_out == 1 else "each user's oldest held-out item"
    measured = f"; recall of {whose} every {settings.validate_every:,} and at the end" if examples else ""
    say(f"ahead: {settings.steps:,} steps of {settings.batch_size:,} examples on {device}{measured}")
    known = known_users(users, dimensions.user_fields, interactions.table["user_id"].unique().to_pylist(), form)
    with kept(lambda: leads.of_saved_state(out)), training_progress(settings.steps) as on_step:
        about = train(train_part, items, dimensions, settings, out, known, device, force, resume, examples, on_step)
    show(as_json, about, f"wrote {out}: {about['bytes'] / 1e6:.1f} MB, {about['examples']} examples")
