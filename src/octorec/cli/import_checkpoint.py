"""The verb `octorec import` makes of another program's checkpoint one of ours."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from octorec.cli.options import A_CATALOG_FOLDER, A_FILE, AN_ANALYZED, ContextModule, Force, Json, claim, show
from octorec.engine.model_folder import CATALOG
from octorec.errors import InputError
from octorec.files import read_json
from octorec.numerics.parity_limit import LEAST_DB, check_least_db
from octorec.progress_bar import counting, megabytes
from octorec.terminal import say


def import_checkpoint(
    command: typer.Context,
    checkpoint: Annotated[
        Path, typer.Argument(help="Safetensors file or folder of another program.", callback=AN_ANALYZED)
    ],
    names: Annotated[
        Path, typer.Option("--map", help="YAML file: which of its tensors become which of ours.", callback=A_FILE)
    ],
    out: Annotated[Path, typer.Option(help="Checkpoint folder to write.")],
    config: Annotated[
        Path | None, typer.Option(help="Our config.json; the folder's own if not given.", callback=A_FILE)
    ] = None,
    catalog: Annotated[
        Path | None, typer.Option(help="Catalog of its codes, to be copied along.", callback=A_CATALOG_FOLDER)
    ] = None,
    context_module: ContextModule = None,
    parity: Annotated[
        Path | None, typer.Option(help="Safetensors file of inputs and activations to compare with.", callback=A_FILE)
    ] = None,
    least_db: Annotated[float, typer.Option(help="SQNR that each activation of --parity must have.")] = LEAST_DB,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Import a checkpoint with other tensor names, orders or transposes. Exit code 3: --parity found a difference."""
    check_least_db(least_db)
    claim(command, out, force, checkpoint, names, config, catalog, parity)

    from octorec.models.foreign import plan, tensors
    from octorec.models.hf_folder import Checkpoint, write_config, write_tensors
    from octorec.models.name_map import read_map
    from octorec.output.refuse import refuse_full
    from octorec.output.write import new_folder

    rules, foreign = read_map(names), Checkpoint(checkpoint, bare=True)
    model, copied = _model(foreign, config, catalog, context_module)
    planned = plan(model, foreign, rules)
    compare = _comparison(parity, model, least_db, context_module)
    size = sum(foreign.headers[use.foreign].nbytes for use in planned.uses)
    refuse_full(out, size)
    say(f"{checkpoint}: {len(planned.uses):,} of {len(foreign.headers):,} tensors are used, {size / 1e6:,.1f} MB")
    with new_folder(out, force) as scratch:
        with counting("importing", "MB") as progress:
            written = write_tensors(scratch, tensors(planned, foreign, megabytes(progress)))
        write_config(scratch, model.config.to_dict())
        if copied is not None:
            copied.save(scratch / CATALOG)
        found = compare(scratch)
    about = {"out": str(out), "tensors": len(planned.shapes), "bytes": written, "dropped": list(planned.dropped)}
    line = f"wrote {out}: {len(planned.shapes):,} tensors, {written / 1e6:,.1f} MB; {len(planned.dropped):,} dropped"
    if found is None:
        show(as_json, {**about, "parity": None}, line)
        return

    from octorec.report.parity import render_parity

    show(as_json, {**about, "parity": found.to_dict()}, line, render_parity(found))
    raise typer.Exit(found.exit_code)


def _model(foreign: Any, config: Path | None, catalog: Path | None, context_module: str | None) -> tuple[Any, Any]:
    """Return the model of the configuration, without weights, and the catalog if there is one.

    A configuration without a fingerprint gets the catalog's: who gives both says that they belong together.
    """
    from octorec.catalog.catalog import Catalog
    from octorec.engine.load import check_codebook
    from octorec.models.foreign import empty

    raw = foreign.config if config is None else read_json(config, "config", infinite=True)
    if not raw:
        raise InputError("config", None, f"is required, for {foreign.folder} has no config.json")
    if catalog is None:
        return empty(raw, context_module), None
    copied = Catalog.load(catalog)
    if raw.get("codebook_fingerprint") is None:
        raw = {**raw, "codebook_fingerprint": copied.fingerprint}
    model: Any = empty(raw, context_module)
    check_codebook(model, copied, foreign.folder)
    return model, copied


def _comparison(parity: Path | None, model: Any, least_db: float, context_module: str | None) -> Callable[[Path], Any]:
    """Return a function that compares the model in a folder with the file of --parity.

    The file's names and types are checked now.
    """
    if parity is None:
        return lambda folder: None

    from octorec.numerics.parity import SavedActivations, parity_of
    from octorec.quant.load import load_model

    saved = SavedActivations(parity, model)
    return lambda folder: parity_of(load_model(folder, context_module=context_module), saved, least_db)
