"""An experiment's variants as engines of one process, which share what they can."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from octorec.catalog.catalog import Catalog
from octorec.engine.engine import Engine
from octorec.engine.memory import folder_bytes, free_bytes, model_bytes
from octorec.engine.model_folder import CATALOG, checkpoint_version, require_catalog, require_checkpoint
from octorec.engine.widths import BeamWidth, shown
from octorec.errors import InputError, MismatchError
from octorec.evaluate.online.experiment import CONTROL, Experiment, Variant, read_experiment
from octorec.evaluate.online.record import read_record
from octorec.evaluate.online.record_file import RECORD
from octorec.serve.config import ServeConfig
from octorec.serve.pending import Serving
from octorec.serve.versions import load_engine


@dataclass(frozen=True)
class Answering:
    """Answering is what answers a variant's units.

    serving: shared by variants of the same checkpoint and catalog. model: the checkpoint's version by content, as
    records and rows have it. beam_width: of requests that state none; None for the engine's.
    """

    serving: Serving
    model: str
    beam_width: BeamWidth | None = None

    @property
    def versions(self) -> tuple[str, str]:
        return self.model, self.serving.engine.catalog.version


@dataclass(frozen=True)
class Folders:
    """Folders are a variant's checkpoint and catalog, with links resolved, so that equal ones are found."""

    checkpoint: Path
    catalog: Path


@dataclass(frozen=True)
class Variants:
    """Variants are an experiment's file, checked against the server that is to run it; nothing is loaded yet."""

    experiment: Experiment
    config: ServeConfig
    folders: Mapping[str, Folders]

    def load(self, control: Serving) -> dict[str, Answering]:
        """Load what answers each variant's units, by variant; the control's engine is there already."""
        check_beam_widths(self.experiment, self.config, control)
        models = {one.checkpoint: checkpoint_version(one.checkpoint) for one in self.folders.values()}
        servings = {self.folders[CONTROL]: control}
        catalogs: dict[Path, Catalog] = {self.folders[CONTROL].catalog: control.engine.catalog}
        found = {}
        for name, variant in self.experiment.variants.items():
            folders = self.folders[name]
            if folders not in servings:
                with about_variant(self.config, variant, "checkpoint" if variant.catalog is None else "catalog"):
                    catalog = catalogs.get(folders.catalog, folders.catalog)
                    engine = load_engine(folders.checkpoint, catalog, self.config)
                check_user_fields(variant, engine, control.engine, self.config)
                servings[folders] = Serving(engine, folders.checkpoint.name)
                catalogs[folders.catalog] = engine.catalog
            found[name] = Answering(servings[folders], models[folders.checkpoint], variant.beam_width)
        return found


def read_variants(checkpoint: str | Path, config: ServeConfig) -> Variants:
    """Read the experiment that `config` names, and check it. checkpoint: the server's, which is the control's.

    Raises InputError for a file, folder or field that cannot be, and for too little memory.
    """
    assert config.ab.experiment is not None
    if not isinstance(config.engine.catalog, str | None):
        raise InputError("experiment", config.ab.experiment, "is not run with several catalogs: give one")
    experiment = read_experiment(config.ab.experiment)
    check_server(experiment, config)
    own = Folders(Path(checkpoint).resolve(), Path(config.engine.catalog or Path(checkpoint) / CATALOG).resolve())
    folders = {name: _folders(variant, own, config) for name, variant in experiment.variants.items()}
    for part in ("checkpoint", "catalog"):
        if getattr(folders[CONTROL], part) != getattr(own, part):
            allowed = f"the control is what the server serves, {getattr(own, part)}: leave it out, or serve it"
            raise fault(config, f"variants.{CONTROL}.{part}", getattr(experiment.variants[CONTROL], part), allowed)
    _check_memory(experiment, folders, config)
    return Variants(experiment, config, folders)


def has_ended(variants: Variants) -> bool:
    """Say whether the record has this experiment's end, so that a server answers everybody by its own engine."""
    assert variants.config.ab.experiment_root is not None
    folder = Path(variants.config.ab.experiment_root) / variants.experiment.name
    if not (folder / RECORD).exists():
        return False
    record = read_record(folder)
    return record.ended is not None and record.experiment.salt == variants.experiment.salt


def check_server(experiment: Experiment, config: ServeConfig) -> None:
    """Refuse an experiment that does not fit the settings of the server."""
    if experiment.unit != config.ab.unit_field:
        raise fault(config, "unit", experiment.unit, f"must be the server's unit_field, {config.ab.unit_field}")
    if experiment.hold_out > 0 and config.ab.hold_out_salt is None:
        raise InputError("hold_out_salt", None, f"is required: experiment {config.ab.experiment} has a hold_out")


def check_beam_widths(experiment: Experiment, config: ServeConfig, control: Serving) -> None:
    """Refuse beams that no engine of the server has, and another default for the control than the server's."""
    default = control.engine.config.default_beam_width
    for name, variant in experiment.variants.items():
        try:
            control.engine.policy.widths(variant.beam_width, 1)
        except InputError as error:
            allowed = f"{error.allowed}, the server's"
            raise fault(config, f"variants.{name}.beam_width", variant.beam_width, allowed) from None
    width = experiment.variants[CONTROL].beam_width
    if width not in (None, default):
        allowed = f"the control is what the server serves, default_beam_width {shown(default)}: leave it out"
        raise fault(config, f"variants.{CONTROL}.beam_width", width, allowed)


def check_user_fields(variant: Variant, engine: Engine, control: Engine, config: ServeConfig) -> None:
    """Refuse a model that would refuse requests which the control answers."""
    known = {field.name for field in engine.user_fields}
    lacking = [field.name for field in control.user_fields if field.name not in known]
    if lacking:
        allowed = f"must have the control's too, and lacks {', '.join(lacking)}: it would refuse who gives them"
        raise fault(config, f"variants.{variant.name}.checkpoint: user_fields", sorted(known), allowed)


def refuse_other_variants(now: Experiment, then: Experiment, config: ServeConfig) -> None:
    """Refuse other variants, checkpoints and catalogs: they need a process that has loaded them."""
    how = "restart the server, which opens a new stage, or end the experiment"
    if list(now.variants) != list(then.variants):
        raise fault(config, "variants", ", ".join(then.variants), f"{', '.join(now.variants)} run: {how}")
    for name, variant in then.variants.items():
        for part in ("checkpoint", "catalog"):
            value, runs = getattr(variant, part), getattr(now.variants[name], part)
            if value != runs:
                raise fault(config, f"variants.{name}.{part}", value, f"{runs} runs: {how}")


def fault(config: ServeConfig, field: str, value: Any, allowed: str) -> InputError:
    """Make an error about a field of the experiment's file."""
    return InputError(f"experiment {config.ab.experiment}: {field}", value, allowed)


@contextmanager
def about_variant(config: ServeConfig, variant: Variant, part: str) -> Iterator[None]:
    """Let errors of the block name the variant and the part of it that is at fault."""
    try:
        yield
    except InputError as error:
        kind = MismatchError if isinstance(error, MismatchError) else InputError
        where = f"experiment {config.ab.experiment}: variants.{variant.name}.{part}: {error.field}"
        raise kind(where, error.value, error.allowed) from error


def _folders(variant: Variant, own: Folders, config: ServeConfig) -> Folders:
    found = own
    if variant.checkpoint is not None:
        with about_variant(config, variant, "checkpoint"):
            require_checkpoint(variant.checkpoint)
        found = replace(found, checkpoint=Path(variant.checkpoint).resolve())
    if variant.catalog is not None:
        with about_variant(config, variant, "catalog"):
            require_catalog(variant.catalog)
        found = replace(found, catalog=Path(variant.catalog).resolve())
    return found


def _check_memory(experiment: Experiment, folders: Mapping[str, Folders], config: ServeConfig) -> None:
    """Refuse what cannot be in memory at once, before anything is loaded."""
    models: dict[Path, int] = {}
    for name, one in folders.items():
        if one.checkpoint not in models:
            with about_variant(config, experiment.variants[name], "checkpoint"):
                models[one.checkpoint] = model_bytes(one.checkpoint, config.engine.device, config.engine.base)
    catalogs = {one.catalog: folder_bytes(one.catalog) for one in folders.values()}
    needed, free = sum(models.values()) + sum(catalogs.values()), free_bytes(config.engine.device)
    if needed > free:
        said = f"{needed:,} bytes for {len(models)} checkpoints and {len(catalogs)} catalogs"
        where = "GPU" if config.engine.device == "cuda" else "host"
        raise fault(config, "variants", said, f"{free:,} bytes of memory are free on the {where}")
