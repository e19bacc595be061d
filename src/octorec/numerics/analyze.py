"""Look at a checkpoint before it is quantized: statistics, an advice as a recipe, and the roofline."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from octorec.errors import InputError
from octorec.models.families import ContextModule, checked_config, completed_or_plain, known_family
from octorec.models.model import Inputs
from octorec.numerics.activations import ActivationStats, activation_stats
from octorec.numerics.advice import judge
from octorec.numerics.analysis import Analysis
from octorec.numerics.checkpoint_files import WeightFiles, open_files
from octorec.numerics.intensity import Workload
from octorec.numerics.recipe_file import recipe_text
from octorec.numerics.roles import family
from octorec.numerics.stats import TensorStats, weight_stats
from octorec.numerics.workload import active_shares, speed
from octorec.progress import Progress, silent
from octorec.quant.load import load_dequantized


def measure(
    path: str | Path,
    requests: tuple[Inputs, Tensor] | None = None,
    progress: Progress = silent,
    workload: Workload | None = None,
    about_requests: Sequence[str] = (),
    context_module: ContextModule = None,
    base: str | Path | None = None,
) -> Analysis:
    """Measure a checkpoint, and its activations when `requests` are given; judge it, and say whether speed follows.

    path: a safetensors file or a folder of them, 16 bit, float32 or FP8. requests: a batch as the model reads it and
    the true codes [B, levels] of its answers; the checkpoint must then be of one of our families. workload: that of the
    roofline. about_requests: what a reader should know of them, added to the notes. context_module: see
    `families.maker_of`; needed for `requests` alone. base: of an adapter, which is measured as it is merged.
    `progress` is called after each tensor. Raises InputError as `CheckpointFiles` does; NaN and Inf are counted.
    """
    files = open_files(path, base)
    config, lacking = completed_or_plain(files.config, files.tokenizer_folder)
    kind = family(files.names(), config)
    if not files.names():
        raise InputError("checkpoint", str(path), "holds no tensor")
    if known_family(config) is not None or requests is not None:  # refuse now what would be refused after minutes
        shapes = {name: files.shape(name) for name in files.names()}
        checked_config(config, shapes, f"checkpoint {files.path}")
    weights = weight_stats(files, progress)
    plain = [] if lacking is None else [f"Read as an ordinary language model, without items: {lacking}"]
    notes = [*plain, *_notes(files, weights), *about_requests]
    broken = any(stats.distribution and stats.distribution.nan + stats.distribution.inf for stats in weights)
    activations: list[ActivationStats] = []
    if requests is not None and broken:
        notes.append("Activations were not measured: with NaN or Inf among the weights they would mean nothing.")
    elif requests is not None:
        activations = activation_stats(load_dequantized(path, context_module=context_module, base=base), *requests)
    advice = judge(weights, activations, active_shares(weights, config))
    return Analysis(
        checkpoint=files.path.name,
        family=kind,
        weights=tuple(weights),
        activations=tuple(activations),
        advice=advice,
        recipe=None if files.quantized else recipe_text(advice),
        speed=speed(weights, config, advice, workload or Workload()),
        notes=tuple(notes),
    )


def _notes(files: WeightFiles, weights: list[TensorStats]) -> list[str]:
    notes = [
        f"{stats.name} holds {stats.distribution.nan:,} NaN and {stats.distribution.inf:,} Inf; the rest was measured."
        for stats in weights
        if stats.distribution is not None and stats.distribution.nan + stats.distribution.inf
    ]
    if files.quantized is not None:
        read = "; its 8-bit tensors were read through their scales" if files.scales else ""
        notes.append(
            f"This checkpoint is quantized already ({files.quantized}){read}. "
            "No recipe was written, for `octorec quantize` starts from 16 bit."
        )
    if files.activation_scales:
        notes.append(f"Scales of activations, which change no weight: {_some(sorted(files.activation_scales))}.")
    silent = [stats.name for stats in weights if stats.distribution is None]
    if silent:
        notes.append(f"Empty or no floating-point numbers, so not measured: {_some(silent)}.")
    return notes


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
