"""The verbs that look at a checkpoint's numbers, and that make them FP8."""

from pathlib import Path
from typing import Annotated, Any

import typer

from octorec.catalog.domain_paths import domain_paths
from octorec.cli import leads
from octorec.cli.flags import with_flags
from octorec.cli.inputs import measured_requests
from octorec.cli.options import (
    A_CHECKPOINT,
    A_TABLE,
    AN_ANALYZED,
    Base,
    Catalogs,
    ContextModule,
    Domain,
    Force,
    Json,
    RecipeName,
    UnknownItems,
    Users,
    claim,
    one_or_several,
    show,
)
from octorec.cli.tables import Columns, Sep, TimeFormat, table_format
from octorec.engine.model_folder import require_model
from octorec.engine.request import check_unknown_items
from octorec.numerics.intensity import Workload
from octorec.progress_bar import counting, megabytes
from octorec.prove.config import MEASURED, ProveConfig
from octorec.quant.shipped import recipe_file
from octorec.settings import given

KEPT = 10  # matrices that `quantize` names on the terminal; quantization.json has all


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
    catalog: Catalogs = None,
    domain: Domain = "",
    base: Base = None,
    context_module: ContextModule = None,
    unknown_items: UnknownItems = ProveConfig.unknown_items,
    every: Annotated[bool, typer.Option("--all", help="Print every table, of each tensor too.")] = False,
    force: Force = False,
    as_json: Json = False,
    **flags: Any,
) -> None:
    """Measure weights, and activations on real requests: advice on FP8 for each layer, and whether speed follows.

    Advice is no verdict, and its exit code is 0 whatever it says: `prove` and `evaluate` judge."""
    claim(command, out, force, checkpoint, base, data, users, *domain_paths(catalog or []).values())
    named = one_or_several(catalog)
    workload = Workload(**given(flags))
    if data:
        require_model(checkpoint, named)
        check_unknown_items(unknown_items)

    from octorec.report.analysis import analyze
    from octorec.report.analysis_table import render, render_all

    form = table_format(sep, columns, time_format)
    batch, about = None, list[str]()
    if data:
        of_data = data, users, named, requests, unknown_items, form
        batch, about = measured_requests(checkpoint, *of_data, context_module, domain, base)
    with counting("analyzing", "tensors") as progress:
        found = analyze(checkpoint, out, batch, force, progress, workload, about, context_module, base)
    show(as_json, found.to_dict(), *([render_all(found)] if every else []), *render(found, out))


def quantize(
    command: typer.Context,
    checkpoint: Annotated[
        Path, typer.Argument(help="16-bit checkpoint folder, or an adapter's, which is merged.", callback=A_CHECKPOINT)
    ],
    out: Annotated[Path, typer.Option(help="FP8 checkpoint folder to write.")],
    recipe: RecipeName = ProveConfig.recipe,
    context_module: ContextModule = None,
    base: Base = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Quantize a checkpoint to FP8, tensor by tensor, without building the model."""
    claim(command, out, force, checkpoint, base, *recipe_file(recipe))
    leads.of_quantizing(checkpoint, recipe, base)

    from octorec.quant.convert import quantize_checkpoint

    with counting("quantizing", "MB") as progress:
        more: dict[str, Any] = {"context_module": context_module, "base": base}
        report = quantize_checkpoint(checkpoint, out, recipe, force, megabytes(progress), **more)
    before, after = (f"{size / 1e6:,.1f} MB" for size in (report.total_bytes_before, report.total_bytes_after))
    ratio = f"the {len(report.tensors)} quantized matrices take {report.quantized_ratio:.3f} of their bytes in 16 bit"
    lines = [f"wrote {out}: {after} instead of {before}; {ratio}"]
    lines += [f"kept in 16 bit: {matrix.name}, {matrix.reason}" for matrix in report.kept[:KEPT]]
    lines += [f"and {len(report.kept) - KEPT} more, which quantization.json lists"] if len(report.kept) > KEPT else []
    show(as_json, report.to_dict(), *lines)
