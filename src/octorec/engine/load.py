"""A checkpoint folder becomes an engine."""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from octorec.catalog.catalog import Catalog
from octorec.catalog.same_codebook import difference
from octorec.engine.catalogs import ALL, Catalogs, open_catalogs
from octorec.engine.config import EngineConfig
from octorec.engine.engine import Engine
from octorec.engine.memory import free_bytes
from octorec.engine.model_folder import CATALOG, require_model
from octorec.engine.needs import needs_of, readable
from octorec.engine.starts_file import read_starts
from octorec.errors import InputError, MismatchError
from octorec.kernels.device import open_device, ops_for, shapes_for
from octorec.models.checkpoint_folder import require_checkpoint
from octorec.models.families import ContextModule
from octorec.models.generation_config import ignored_generation_line
from octorec.models.lora import open_checkpoint
from octorec.models.model import Model, max_tokens
from octorec.models.prompts import Prompts
from octorec.progress import Progress, silent
from octorec.quant.load import empty_like, load_model

logger = logging.getLogger(__name__)


def load(
    checkpoint: str | Path,
    catalog: Catalogs | None = None,
    device: str = "cpu",
    context_module: ContextModule = None,
    progress: Progress = silent,
    base: str | Path | None = None,
    **engine: Any,
) -> Engine:
    """Open a 16-bit or FP8 checkpoint folder, or that of a LoRA adapter, as an engine.

    checkpoint: the folder.
    catalog: a catalog, its folder, or a file of semantic IDs (`catalog.foreign`), which then has the model's codebook
    sizes; None for the one inside the checkpoint folder. A model that reads tokens may have one a domain: paths by
    domain, texts such as `video=a.json`, or a folder of several (`catalog.domains`).
    device: `cpu`, `cuda` or `cuda:N`. context_module: where the checkpoint has a context module of yours, the file and
    class that have it (`FILE.py:CLASS`, which is run) or the class. base: the folder of an adapter's base, see
    `lora.open_checkpoint`. engine: fields of EngineConfig to set (`batch_sizes`, ...).
    progress: is told once what the engine takes in memory, before its weights are read.

    On the CPU the arithmetic around the FP8 products is float32, on a GPU bfloat16.
    Raises InputError for a folder that holds no checkpoint or no catalog, for a configuration that model, operations or
    memory have no room for, and MismatchError when the catalog was made with another codebook than the checkpoint.
    """
    if isinstance(catalog, Catalog):
        require_checkpoint(checkpoint)
    else:
        require_model(checkpoint, catalog)
    folder = Path(checkpoint)
    opened = open_device(device)
    ops, dtype = ops_for(opened), activation_dtype(opened)
    config, source = engine_config(engine), open_checkpoint(folder, base)
    without: Any = empty_like(source, shapes_for(opened), dtype, context_module)
    catalogs = open_catalogs(catalog, folder, without)
    prompts = _prompts(source.tokenizer_folder, without, catalogs)
    _check_before(folder, without, [*catalogs.values()], config, opened, progress)
    starts = read_starts(folder)
    model = load_model(folder, ops, device, dtype, context_module, base)
    engines: dict[int, Engine] = {}
    reader = None
    for one in catalogs.values():
        if id(one) not in engines:
            made = Engine(model, one, config, device, ops, str(folder), starts, prompts, reader)
            engines[id(one)], reader = made, made.reader
    if ALL not in catalogs or len(catalogs) > 1:
        domains = {domain: engines[id(one)] for domain, one in catalogs.items()}
        for made in engines.values():
            made.domains = domains
    return next(iter(engines.values()))


def activation_dtype(device: torch.device) -> torch.dtype:
    """Return the type of the arithmetic around FP8 products, and of 16-bit weights in memory."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def _prompts(folder: Path, model: Any, catalogs: Mapping[str, Catalog]) -> Prompts | None:
    """Return what makes the prompts of a model that reads tokens; a line says what of its folder takes no part."""
    if max_tokens(model) is None:
        return None
    if (said := ignored_generation_line(folder)) is not None:
        logger.info(said)
    return Prompts(folder, model.sids, None if [*catalogs] == [ALL] else [*catalogs])


def _check_before(
    folder: Path, model: Any, catalogs: list[Catalog], config: EngineConfig, device: torch.device, progress: Progress
) -> None:
    """Refuse all that can be refused before weights are read, and tell `progress` what the engine will take."""
    if max_tokens(model) is None:
        check_codebook(model, catalogs[0], folder)
    config.check(model, ops_for(device))
    first, *others = {id(one): one for one in catalogs}.values()
    needs, free = needs_of(model, first, config, shapes_for(device), device, others), free_bytes(str(device))
    progress(0, 1, f"memory: {needs.words()}; {readable(free)} free")
    needs.check(free)
    for catalog in catalogs:
        for said in config.thin(catalog):
            logger.warning(said)


def check_codebook(model: Model, catalog: Catalog, folder: Path) -> None:
    """Raise MismatchError where `model` and `catalog` have codes of different codebooks: answers would be garbage.

    Where a fingerprint differs because items of an imported catalog came or went, the catalog inside the checkpoint
    folder decides. A model without a fingerprint says nothing of its codes but their sizes.
    """
    if tuple(model.codebook_sizes) != tuple(catalog.codebook_sizes):
        hint = "" if catalog.codebook else ": import the index with the model's sizes"
        allowed = f"the catalog's are {tuple(catalog.codebook_sizes)}{hint}"
        raise MismatchError(f"checkpoint {folder}: codebook_sizes", model.codebook_sizes, allowed)
    if model.codebook_fingerprint in (None, catalog.fingerprint):
        return
    own = Catalog.load(folder / CATALOG) if (folder / CATALOG).is_dir() else None
    if own is None or own.fingerprint != model.codebook_fingerprint:
        why = "use the catalog the checkpoint was trained with, or import the index with that one as base"
    elif (why := difference(catalog, own) or "") == "":
        return
    allowed = f"the catalog's is {catalog.fingerprint}: {why}"
    raise MismatchError(f"checkpoint {folder}: codebook_fingerprint", model.codebook_fingerprint, allowed)


def engine_config(changes: dict[str, Any]) -> EngineConfig:
    """Return the EngineConfig with `changes`, fields by name; InputError for a name that it does not have."""
    known = [field.name for field in dataclasses.fields(EngineConfig)]
    for name in changes:
        if name not in known:
            raise InputError("engine option", name, f"known: {', '.join(known)}")
    return EngineConfig(**changes)
