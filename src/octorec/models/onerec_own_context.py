"""A context module of the user's own in OneRec-V2, in the place of its ContextProcessor. docs/context.md shows one."""

from typing import Any

import torch
from torch import Tensor, nn

from octorec.errors import InputError
from octorec.kernels.ops import Ops
from octorec.models.context_file import blame
from octorec.models.features import check_features
from octorec.models.onerec_config import OneRecConfig
from octorec.models.onerec_context import ContextBatch

NAME_IT = "is its owner's own: name the file that has it, --context-module FILE.py:{} (in Python context_module=)"


def own_context(kind: Any, config: OneRecConfig, ops: Ops) -> nn.Module:
    """Make an instance of the user's class `kind`, whose features and buffers are checked.

    Raises InputError where config.json does not say that the checkpoint has one, and for whatever the class raises.
    """
    if config.context_module is None:
        allowed = "is not asked for: config.json has no context_module, so that the context is OctoRec's own"
        raise InputError("context_module", kind.__name__, allowed)
    try:
        module: nn.Module = kind(config, ops)
    except Exception as error:
        raise blame("context_module", kind, error) from error
    check_features(kind.__name__, getattr(module, "features", None))
    for owner, part in module.named_modules():
        for name, buffer in part.named_buffers(recurse=False):
            if name in part._non_persistent_buffers_set or not buffer.is_floating_point():
                allowed = "buffers are read from the checkpoint, as numbers: make it persistent and floating-point"
                raise InputError(f"{kind.__name__}: buffer", f"{owner}.{name}".lstrip("."), allowed)
    return module


def require_context_module(config: OneRecConfig) -> None:
    """Refuse a checkpoint with a context module where nobody named one."""
    if config.context_module is not None:
        allowed = NAME_IT.format(config.context_module)
        raise InputError("config.json: context_module", config.context_module, allowed)


def made_context(module: nn.Module, batch: ContextBatch, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return what the user's `module` makes of a batch: context [B, S, width] of `dtype`, and lengths [B] int64.

    It may return the context alone: the lengths are then those of the histories.
    Raises InputError for whatever it raises, and for tensors that are not these.
    """
    name = type(module).__name__
    try:
        made: Any = module(batch)
    except Exception as error:
        raise blame("context_module", type(module), error) from error
    context, lengths = made if isinstance(made, tuple) and len(made) == 2 else (made, batch.lengths)
    size = len(batch.lengths)
    for what, found, shape, kind in (
        ("context", context, (size, "S", width), dtype),
        ("lengths", lengths, (size,), torch.int64),
    ):
        if not isinstance(found, Tensor) or found.dtype != kind or not _fits(tuple(found.shape), shape):
            got = f"{tuple(found.shape)} {found.dtype}" if isinstance(found, Tensor) else found
            raise InputError(f"{name}: {what}", got, f"must be a tensor [{', '.join(map(str, shape))}] of {kind}")
    return context.contiguous(), lengths.contiguous()


def _fits(found: tuple[int, ...], shape: tuple[Any, ...]) -> bool:
    return len(found) == len(shape) and all(b in (a, "S") for a, b in zip(found, shape, strict=True))
