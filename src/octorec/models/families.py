"""Checkpoints may be of these families of models: one literal table, by `model_type` of config.json.

A new family costs a file beside this one, a recipe, and a row here.
"""

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from octorec.errors import InputError
from octorec.kernels import reference
from octorec.kernels.ops import Ops
from octorec.models.context_file import context_class
from octorec.models.hf_folder import Checkpoint

ContextModule = str | type | None  # a context module of the user's: FILE.py:CLASS, or the class


class Family(NamedTuple):
    """A Family says where a family's class is, and how people call it.

    The class makes a model of `(config, ops)`, and has three functions of its own. `parse(raw)` turns config.json's
    object into a configuration; `read_config(raw, shapes, where)` does so once the headers' shapes agree with it;
    `work(config, batch, beam, context)` says what a batch computes (`models.work`). A model keeps its configuration as
    `config`, whose `to_dict()` gives config.json's object.

    Two more are optional. `complete(raw, folder)` returns config.json's object with what other files of the folder say
    of it. `derive()` of a model makes what follows from its weights: it is called on the meta device, for the sizes,
    and once the weights are there.
    marked_by: the key of a completed object that tells a recommender from an ordinary language model of this type.
    """

    module: str
    name: str
    label: str
    marked_by: str = "model_type"


FAMILIES = {
    "onerec_v2": Family("octorec.models.onerec", "OneRecV2", "OneRec-V2"),
    "qwen3": Family("octorec.models.qwen", "Qwen", "Qwen3", "sid_tokens"),
    "qwen2": Family("octorec.models.qwen", "Qwen", "Qwen2", "sid_tokens"),
}


def known_family(raw: Mapping[str, Any]) -> Family | None:
    """Return the family of a config.json's object; None where it is of none of ours, or not completed."""
    family = _family_of_type(raw)
    return family if family is not None and family.marked_by in raw else None


def _family_of_type(raw: Mapping[str, Any]) -> Family | None:
    kind = raw.get("model_type")
    return FAMILIES.get(kind) if isinstance(kind, str) else None


def completed(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return config.json's object with what other files of its `folder` say of the model, as its family reads them."""
    family = family_class(raw)
    complete: dict[str, Any] = family.complete(raw, folder) if hasattr(family, "complete") else raw
    return complete


def completed_or_plain(raw: dict[str, Any], folder: Path) -> tuple[dict[str, Any], InputError | None]:
    """Return config.json's object as `completed` does; or as it is, where its type is also that of ordinary models and
    the folder's files do not tell a recommender: then with what they lack.
    """
    family = _family_of_type(raw)
    if family is None or family.marked_by in raw:
        return raw, None
    try:
        return completed(raw, folder), None
    except InputError as error:
        return raw, error


def family_class(raw: Mapping[str, Any]) -> Any:
    """Return the class of the family of a config.json's object; an InputError where it is of none of ours."""
    family = _family_of_type(raw)
    if family is None:
        raise InputError("config.json: model_type", raw.get("model_type"), f"allowed: {', '.join(map(repr, FAMILIES))}")
    return getattr(import_module(family.module), family.name)


def checked_config(raw: dict[str, Any], shapes: Mapping[str, tuple[int, ...]], where: str) -> Any:
    """Return the family's configuration of a config.json's object, once the `shapes` of the tensors agree with it."""
    return family_class(raw).read_config(raw, shapes, where)


def read_config(checkpoint: Checkpoint) -> Any:
    """Return the family's configuration of a checkpoint folder. Raises InputError for another model than ours,
    MismatchError for other shapes than its config.json says.
    """
    shapes = {name: checkpoint.shape(name) for name in checkpoint.weights()}
    raw = completed(checkpoint.config, checkpoint.tokenizer_folder)
    return checked_config(raw, shapes, f"checkpoint {checkpoint.folder}")


def maker(checkpoint: Checkpoint, ops: Ops, context_module: ContextModule = None) -> Callable[[], nn.Module]:
    """Return a function that makes the model of a checkpoint's config.json, without its weights.

    Raises as `read_config`.
    """
    return maker_of(checkpoint.config, read_config(checkpoint), ops, context_module)


def maker_of(
    raw: Mapping[str, Any], config: Any, ops: Ops, context_module: ContextModule = None
) -> Callable[[], nn.Module]:
    """Return a function that makes the model of `config`, the family's configuration of config.json's object `raw`.

    context_module: the one of the user's that config.json says there is, as FILE.py:CLASS or the class itself.
    """
    if context_module is None:
        return partial(family_class(raw), config, ops)
    if not hasattr(config, "context_module"):
        raise InputError("context_module", context_module, f"models of type {raw['model_type']} take none")
    return partial(family_class(raw), config, ops, context_class(context_module))


def without_weights(checkpoint: Checkpoint, context_module: ContextModule = None) -> Any:
    """Return the model of a checkpoint without memory for its weights: what it says of itself. Raises as `maker`."""
    with torch.device("meta"):
        return maker(checkpoint, reference, context_module)()
