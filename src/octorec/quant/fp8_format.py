"""Qwen's and DeepSeek's own form of FP8 is `quant_method: fp8`: all products but those named, in one scheme."""

from collections.abc import Mapping
from typing import Any

from octorec.errors import InputError
from octorec.kernels.fp8 import GROUP
from octorec.quant.recipe import ActivationGranularity, WeightGranularity

METHOD = "fp8"
WHERE = "config.json: quantization_config"
PRODUCTS = "(?!.*embed).*"  # what is no embedding is a product
NAMED = ("modules_to_not_convert", "ignored_layers")  # transformers' key, and vLLM's
FORMATS = ("e4m3", "float8_e4m3fn")


def read(raw: Mapping[str, Any]) -> tuple[WeightGranularity, ActivationGranularity, list[str]]:
    """Return the granularity of weights and of activations, and the names that stay in 16 bit.

    Raises InputError for what OctoRec's FP8 modules cannot do.
    """
    scheme = raw.get("activation_scheme", "dynamic")
    if scheme != "dynamic":
        allowed = "allowed: 'dynamic'; one scale for all rows, stored beforehand, is not computed"
        raise InputError(f"{WHERE}.activation_scheme", scheme, allowed)
    kind = raw.get("fmt", FORMATS[0])
    if kind not in FORMATS:
        raise InputError(f"{WHERE}.fmt", kind, f"allowed: {', '.join(map(repr, FORMATS))}")
    size = raw.get("weight_block_size")
    if size not in (None, [GROUP, GROUP]):
        raise InputError(f"{WHERE}.weight_block_size", size, f"allowed: [{GROUP}, {GROUP}] or null")
    names = [name for key in NAMED for name in _names(key, raw.get(key))]
    return ("tensor", "token", names) if size is None else ("block", "group", names)


def _names(key: str, value: Any) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise InputError(f"{WHERE}.{key}", value, "must be a list of names, or null")
    return value
