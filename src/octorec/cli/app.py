"""The command line: one verb a stage.

Rooms are imported inside the verbs, after what was typed is checked: `--help` and a wrong path are answered at once.
"""

import dataclasses
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import octorec
from octorec.cli import leads
from octorec.cli.ab import ab_app
from octorec.cli.catalog import catalog_app
from octorec.cli.command import kept, run
from octorec.cli.data import data_app
from octorec.cli.flags import given, with_flags
from octorec.cli.import_checkpoint import import_checkpoint
from octorec.cli.inputs import check_hold_out, known_users, measured_requests, predicted
from octorec.cli.options import (
    A_CATALOG,
    A_CHECKPOINT,
    A_FILE,
    A_TABLE,
    AN_ANALYZED,
    BeamWidths,
    Checkpoint,
    Device,
    ExcludeSeen,
    Force,
    HoldOut,
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
    a_preset,
    claim,
    show,
)
from octorec.cli.serve import bench_serve, serve
from octorec.cli.tables import Columns, Sep, TimeFormat, table_format
from octorec.cli.version import print_version
from octorec.cli.widths import widths
from octorec.cli.words import ids, said_with_commas, user_fields
from octorec.data.hold_out import HOLD_OUT
from octorec.demo.claim import claimed_demo
from octorec.engine.model_folder import require_model
from octorec.engine.request import Answer, Request, check_unknown_items, read_requests
from octorec.engine.widths import of_one, read_for
from octorec.errors import InputError
from octorec.evaluate.cutoffs import K, lengths
from octorec.evaluate.margin import MARGIN
from octorec.numerics.intensity import Workload
from octorec.progress_bar import counting, megabytes, training_progress
from octorec.prove.config import MEASURED, ProveConfig
from octorec.quant.shipped import recipe_file
from octorec.settings import DEVICE
from octorec.terminal import console, say
from octorec.training.config import TrainConfig

KEPT = 10  # matrices that `quantize` names on the terminal; quantization.json has all
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=octorec.__doc__)
app.add_typer(catalog_app, name="catalog")
app.add_typer(ab_app, name="ab")
app.add_typer(data_app, name="data")
bench_app = typer.Typer(no_args_is_help=True, help="Put what was built under load.")
app.add_typer(bench_app, name="bench")


@app.callback()
def every_verb(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print versions and exit.")
    ] = False,
) -> None:
    """What comes before a verb."""


@app.command()
@with_flags(TrainConfig)
def train(
    command: typer.Context,
    data: Interactions,
    catalog: Annotated[Path, typer.Option(help="Catalog folder whose codes the model learns.", callback=A_CATALOG)],
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
    from octorec.data.splits import leave_last_out, training_part
    from octorec.training.run import model_config, parameters, state_folder, train
    from octorec.training.trainer import require_state

    claim(command, state_folder(out), force or resume, data, catalog, config, users)
    if resume:
        require_state(state_folder(out))
    form = table_format(sep, columns, time_format)
    interactions, items = leads.reading(data, form), Catalog.load(catalog)
    train_part = training_part(interactions, hold_out)
    examples = leave_last_out(interactions, hold_out)[1] if hold_out else []
    dimensions = model_config(config or preset, items)
    leads.of_training(interactions, hold_out)
    sizes = " x ".join(map(str, dimensions.codebook_sizes))
    say(f"model: {parameters(dimensions):,} parameters; catalog: {len(items):,} items in {sizes} codes")
    measured = f"; recall of held-out items every {settings.validate_every:,} and at the end" if examples else ""
    say(f"ahead: {settings.steps:,} steps of {settings.batch_size:,} examples on {device}{measured}")
    known = known_users(users, dimensions.user_fields, interactions.table["user_id"].unique().to_pylist(), form)
    with kept(lambda: leads.of_saved_state(out)), training_progress(settings.steps) as on_step:
        about = train(train_part, items, dimensions, settings, out, known, device, force, resume, examples, on_step)
    show(as_json, about, f"wrote {out}: {about['bytes'] / 1e6:.1f} MB, {about['examples']} examples")


@app.command()
@with_flags(Workload)
def analyze(
    command: typer.Context,
    checkpoint: Annotated[
        Path, typer.Argument(help="Safetensors file or folder, of any model, 16 bit or FP8.", callback=AN_ANALYZED)
    ],
    out: Annotated[Path, typer.Option(help="Folder to write report.html, stats.parquet and recipe.yaml into.")],
    data: Annotated[
        Path | None, typer.Option(help="Interactions: measures activations on real requests too.", callback=A_TABLE)
    ] = None,
    requests: Annotated[int, typer.Option(help="How many requests to take from --data.")] = MEASURED,
    users: Users = None,
    sep: Sep = None,
    columns: Columns = None,
    time_format: TimeFormat = None,
    catalog: OtherCatalog = None,
    unknown_items: UnknownItems = ProveConfig.unknown_items,
    every: Annotated[bool, typer.Option("--all", help="Print every table, of each tensor too.")] = False,
    force: Force = False,
    as_json: Json = False,
    **flags: Any,
) -> None:
    """Measure weights, and activations on real requests: advice on FP8 for each layer, and whether speed follows.

    Advice is no verdict, and its exit code is 0 whatever it says: `prove` and `evaluate` judge."""
    claim(command, out, force, checkpoint, data, users, catalog)
    workload = Workload(**given(flags))
    if data:
        require_model(checkpoint, catalog)
        check_unknown_items(unknown_items)

    from octorec.report.analysis import analyze
    from octorec.report.analysis_table import render, render_all

    form = table_format(sep, columns, time_format)
    batch, about = None, list[str]()
    if data:
        batch, about = measured_requests(checkpoint, data, users, catalog, requests, unknown_items, form)
    with counting("analyzing", "tensors") as progress:
        found = analyze(checkpoint, out, batch, force, progress, workload, about)
    show(as_json, found.to_dict(), *([render_all(found)] if every else []), *render(found, out))


@app.command()
def quantize(
    command: typer.Context,
    checkpoint: Annotated[Path, typer.Argument(help="16-bit checkpoint folder.", callback=A_CHECKPOINT)],
    out: Annotated[Path, typer.Option(help="FP8 checkpoint folder to write.")],
    recipe: RecipeName = ProveConfig.recipe,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Quantize a checkpoint to FP8, tensor by tensor, without building the model."""
    claim(command, out, force, checkpoint, *recipe_file(recipe))
    leads.of_quantizing(checkpoint, recipe)

    from octorec.quant.convert import quantize_checkpoint

    with counting("quantizing", "MB") as progress:
        report = quantize_checkpoint(checkpoint, out, recipe, force, megabytes(progress))
    before, after = (f"{size / 1e6:,.1f} MB" for size in (report.total_bytes_before, report.total_bytes_after))
    ratio = f"the {len(report.tensors)} quantized matrices take {report.quantized_ratio:.3f} of their bytes in 16 bit"
    lines = [f"wrote {out}: {after} instead of {before}; {ratio}"]
    lines += [f"kept in 16 bit: {matrix.name}, {matrix.reason}" for matrix in report.kept[:KEPT]]
    lines += [f"and {len(report.kept) - KEPT} more, which quantization.json lists"] if len(report.kept) > KEPT else []
    show(as_json, report.to_dict(), *lines)


@app.command()
def recommend(
    checkpoint: Checkpoint,
    history: Annotated[str, typer.Option(help="Item ids with commas, oldest first; none: what is popular.")] = "",
    k: Annotated[int, typer.Option(help="Items to return, at most the beam width.")] = Request.k,
    beam_width: BeamWidths = None,
    exclude: Annotated[str, typer.Option(help="Item ids never to return, with commas.")] = "",
    exclude_seen: ExcludeSeen = False,
    allow: Annotated[list[str] | None, typer.Option(help="A named item set to return from; may be repeated.")] = None,
    user: Annotated[list[str] | None, typer.Option(help="A user field as name=value; may be repeated.")] = None,
    catalog: OtherCatalog = None,
    device: Device = DEVICE,
    as_json: Json = False,
) -> None:
    """Recommend items for one history."""
    require_model(checkpoint, catalog)
    lists = ids("exclude", exclude), allow or []
    width = None if beam_width is None else read_for(k, "beam_width", beam_width)
    request = Request(ids("history", history), k, width, *lists, exclude_seen=exclude_seen)

    from octorec.engine.load import load

    engine = load(checkpoint, catalog, device)
    fields = user_fields(user or [], {field.name: field.kind for field in engine.user_fields})
    with said_with_commas():
        answer = engine.recommend([dataclasses.replace(request, user=fields)])[0]
    lines = [f"{rank:4d}  {score:8.4f}  {item:>8s}  {title}" for rank, (item, score, title) in enumerate(
        zip(answer.items, answer.scores, answer.titles, strict=True), 1)]  # fmt: skip
    lines += [f"note: {note}" for note in answer.notes]
    lines += [_certified(answer)]
    show(as_json, dataclasses.asdict(answer), *lines)


def _certified(answer: Answer) -> str:
    """Say whether a wider beam could change an answer."""
    if answer.exact:
        return "exact: no other item that may be returned scores higher"
    return f"not exact: an item that was not found may score up to {answer.bound:.4f}; a wider beam would tell"


app.command()(serve)
app.command()(widths)
app.command("import")(import_checkpoint)
bench_app.command("serve")(bench_serve)


@app.command()
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
    device: Device = DEVICE,
    as_json: Json = False,
) -> None:
    """Judge CANDIDATE against BASELINE on the same targets. Exit code 0 not inferior, 3 inferior, 4 inconclusive.

    An error ends with 2. With --requests answers are compared without a verdict: exit code 0."""
    asked = _lengths(k)
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

    def engines(**widths: Any) -> tuple[Engine, Engine]:
        options = {"exclude_seen": exclude_seen, **widths}
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
    pair = engines(**({} if width is None else of_one(width)))
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


@app.command()
@with_flags(
    ProveConfig, recipe=RecipeName, margin=Margin, device=Device, unknown_items=UnknownItems, exclude_seen=ExcludeSeen
)
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
    config = ProveConfig(k=_lengths(k), **given(flags))
    require_model(checkpoint)
    check_hold_out(hold_out)
    if out is not None:
        claim(command, out, force, checkpoint, data, users, *recipe_file(config.recipe))

    from octorec.catalog.catalog import Catalog
    from octorec.data.learned import read_learned
    from octorec.data.splits import training_part
    from octorec.evaluate.origin import Side, origin_of
    from octorec.models.families import without_weights
    from octorec.models.hf_folder import Checkpoint as HfFolder
    from octorec.prove.run import prove
    from octorec.report.proof import render_proof

    form = table_format(sep, columns, time_format)
    interactions, examples, sample = predicted(data, hold_out, form, limit)
    asked = f"{len(examples):,} requests each in 16 bit and in FP8 on {config.device}"
    say(f"ahead: {asked}; then layers, floors and verdict")
    side = Side(Catalog.load(checkpoint / "catalog"), read_learned(checkpoint))
    origin = warned(origin_of(interactions, hold_out, {"checkpoint": side}, sample))
    fields = without_weights(HfFolder(checkpoint)).user_fields
    known = known_users(users, fields, (example.user_id for example in examples), form)
    train = training_part(interactions, hold_out)
    with counting("proving", "requests") as progress:
        proof = prove(checkpoint, examples, config, out, known, force, progress, train)
    proof = dataclasses.replace(proof, comparison=dataclasses.replace(proof.comparison, origin=origin))
    show(as_json, proof.to_dict(), render_proof(proof))
    raise typer.Exit(proof.exit_code)


@app.command()
def demo(
    command: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("runs/demo"),
    cache: Annotated[Path, typer.Option(help="Where MovieLens-100K is kept.")] = Path(".cache"),
    pip_args: Annotated[str, typer.Option(help="Arguments of pip for fetching it, such as an index.")] = "",
    seed: Annotated[int, typer.Option(help="Of weights and order.")] = TrainConfig.seed,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """The whole story on MovieLens-100K, on a CPU: train, analyze, quantize, judge, recommend; some minutes."""
    command.with_resource(claimed_demo(out, force, cache))

    from octorec.demo.folder import last_words
    from octorec.demo.run import TRAINING, run_demo

    with kept(lambda: leads.of_part(out)):
        found = run_demo(out, cache, shlex.split(pip_args), force, dataclasses.replace(TRAINING, seed=seed))
    show(as_json, found, *last_words(out))


def warned(origin: Any) -> Any:
    """`origin`, after its warnings were said on stderr."""
    from octorec.report.verdict import warning

    for sentence in origin.warnings:
        console.print(warning(sentence), soft_wrap=True)
    return origin


def _lengths(texts: list[str] | None) -> tuple[int, ...]:
    """What --k asks for."""
    try:
        return lengths([int(part) for text in texts or [str(K)] for part in text.split(",")])
    except ValueError:
        raise InputError("k", ",".join(texts or []), "must be integers above 0 with commas") from None


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: what a user caused is one line on stderr and exit code 2."""
    run(app, sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    main()
