"""Write the folder that `octorec analyze` leaves: a report, the statistics behind it, and a recipe."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from octorec.models.families import ContextModule
from octorec.models.model import Inputs
from octorec.numerics.analysis import Analysis
from octorec.numerics.analyze import measure
from octorec.numerics.intensity import Workload
from octorec.output.refuse import refuse_folder
from octorec.output.write import new_folder
from octorec.progress import Progress, silent
from octorec.report.analysis_page import sections
from octorec.report.analysis_summary import summed_up
from octorec.report.made import made
from octorec.report.page import write_report

RECIPE = "recipe.yaml"


def analyze(
    path: str | Path,
    out: str | Path,
    requests: tuple[Inputs, Tensor] | None = None,
    force: bool = False,
    progress: Progress = silent,
    workload: Workload | None = None,
    about_requests: Sequence[str] = (),
    context_module: ContextModule = None,
    base: str | Path | None = None,
) -> Analysis:
    """Measure a checkpoint as `numerics.analyze.measure` does, and write what was found into the folder `out`.

    It holds report.html, stats.parquet, recipe.yaml (where there is something to quantize) and activations.parquet
    (with requests). Raises InputError as `measure` does, and when `out` exists without `force`.
    """
    inputs = [path] if base is None else [path, base]
    refuse_folder(Path(out), force, inputs)
    analysis = measure(path, requests, progress, workload, about_requests, context_module, base)
    with new_folder(out, force, inputs) as scratch:
        _write(analysis, scratch)
    return analysis


def _write(analysis: Analysis, folder: Path) -> None:
    pq.write_table(pa.Table.from_pylist(analysis.weight_rows()), folder / "stats.parquet")
    if analysis.activations:
        rows = [stats.row() for stats in analysis.activations]
        pq.write_table(pa.Table.from_pylist(rows), folder / "activations.parquet")
    if analysis.recipe is not None:
        (folder / RECIPE).write_text(analysis.recipe)
    lead = "How FP8 would fare on this checkpoint, from the values of its tensors."
    title = f"Numbers of {analysis.checkpoint}"
    write_report(folder / "report.html", title, lead, sections(analysis), summed_up(analysis, made()))
