"""Tell which tensors of a checkpoint are weights, and which are the scales that others are multiplied by.

A weight stored in 8 bits is `values * scale`. Its scale has the weight's name and `_scale` (compressed-tensors,
ModelOpt, AutoFP8, FBGEMM) or `_scale_inv` (DeepSeek) behind it; despite the name both multiply. The scale's shape says
what shares a scale, the same for every reader:

| scale's shape for values [N, K] | granularity |
| --- | --- |
| [], [1], [1, 1] | tensor |
| [N], [N, 1] | channel: one an output row, also where N = K |
| [ceil(N/128), ceil(K/128)] | block |
| [N, ceil(K/128)] | group |

Whatever else holds fewer than 16 bits a value is refused by its name: it is never taken for plain weights.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from octorec.errors import InputError, MismatchError
from octorec.kernels.fp8 import GROUP, Granularity

PLAIN = ("F64", "F32", "F16", "BF16")  # types whose values are the weights themselves
SCALED = {"F8_E4M3": 448.0, "F8_E5M2": 57344.0, "F8_E4M3FNUZ": 240.0, "F8_E5M2FNUZ": 57344.0, "I8": 128.0}  # largest
SCALE_TYPES = (*PLAIN, "F8_E8M0")
SUFFIXES = ("_scale_inv", "_scale")
PARENT = "give the 16-bit parent, or FP8 or INT8 with a weight_scale"
# last parts of names by which other forms of quantization are known
OTHER_FORMS = {
    *("weight_packed", "weight_shape", "weight_zero_point", "weight_global_scale", "weight_g_idx"),
    *("input_zero_point", "output_zero_point", "bitmask", "row_offsets", "compressed"),  # compressed-tensors until here
    *("weight_scale_2", "pre_quant_scale", "_pre_quant_scale"),  # ModelOpt
    *("qweight", "qzeros", "g_idx"),  # GPTQ, AWQ
    *("SCB", "weight_format", "absmax", "nested_absmax", "quant_map", "nested_quant_map"),  # bitsandbytes
    *("W_q", "weight_scales", "weight_shift", "scale_weight", "scaled_fp8", "qdata", "_weight_qdata", "weight:qdata"),
}
OTHER_ENDS = (".weight._data", ".weight._scale", ".weight._shift")  # Quanto
# static scales of activations and of the KV cache: one number each, which changes no weight
ACTIVATION_SCALES = {
    *("input_scale", "output_scale", "activation_scale", "act_scale", "input_scale_ub", "scale_input"),
    *("q_scale", "k_scale", "v_scale", "kv_scale", "prob_scale", "input_global_scale"),
}


@dataclass(frozen=True)
class Header:
    """A Header holds what a safetensors file says of one tensor. dtype: in its words (`BF16`, `F8_E4M3`)."""

    dtype: str
    shape: tuple[int, ...]
    nbytes: int


@dataclass(frozen=True)
class Forms:
    """Forms say which tensors are scales.

    scales: a scale's name by the name of its weight. activation_scales: names of scales that belong to no weight.
    """

    scales: Mapping[str, str]
    activation_scales: frozenset[str]


def forms(where: str, headers: Mapping[str, Header]) -> Forms:
    """Find the scales among `headers`; `where` begins the errors.

    Raises InputError for a form of quantization that is not read, an 8-bit weight without its scale, two scales for
    one weight, and a scale left over beside a 16-bit weight or beside none; MismatchError for a scale's shape.
    """
    scales: dict[str, str] = {}
    for name, header in headers.items():
        last = name.rpartition(".")[2]
        if last in OTHER_FORMS or name.endswith(OTHER_ENDS) or ".quant_state." in name:
            raise InputError(f"{where}: {name}", header.dtype, f"belongs to quantized weights not read here: {PARENT}")
        weight = _weight_of(name, headers)
        if weight is not None:
            _check_scale(where, name, weight, headers)
            if weight in scales:
                raise InputError(f"{where}: {name}", header.dtype, f"{weight} has {scales[weight]} as well: remove one")
            scales[weight] = name
    every_scale = set(scales.values())
    for name, header in headers.items():
        if name not in scales and name not in every_scale:
            _check_unscaled(where, name, header)
    single = (name for name, header in headers.items() if math.prod(header.shape) == 1 and name not in every_scale)
    return Forms(scales, frozenset(name for name in single if name.rpartition(".")[2] in ACTIVATION_SCALES))


def granularity(name: str, shape: tuple[int, ...], values: tuple[int, ...]) -> Granularity:
    """Tell which values of a weight of shape `values` share one number of its scale, `name`, of shape `shape`.

    Raises MismatchError where no granularity has such a scale.
    """
    if len(values) == 2 and len(shape) <= 2:
        n, k = values
        blocks, groups = -(-n // GROUP), -(-k // GROUP)
        by_shape: dict[tuple[int, ...], Granularity] = {(n, groups): "group", (blocks, groups): "block"}
        by_shape |= {(n,): "channel", (n, 1): "channel", (): "tensor", (1,): "tensor", (1, 1): "tensor"}
        if shape in by_shape:
            return by_shape[shape]
    allowed = f"one a matrix, a row, {GROUP} values of a row or a {GROUP} x {GROUP} block of a matrix {values}"
    raise MismatchError(name, shape, allowed)


def checked_scale(name: str, scale: Tensor, weight: Header) -> Tensor:
    """Return `scale` in float32; an InputError where a number is not finite, not above 0, or too large for `weight`."""
    found = scale.float()
    good = (found > 0) & (found * SCALED[weight.dtype]).isfinite()
    if not good.all():
        allowed = f"a scale of {weight.dtype} values must be finite and above 0, and so must its product with them"
        raise InputError(name, float(found[~good].flatten()[0]), allowed)
    return found


def check_block_sizes(config: Mapping[str, Any]) -> None:
    """Refuse a `quantization_config` whose blocks or groups are not of 128: shapes alone might not tell them apart."""
    raw = config.get("quantization_config")
    if not isinstance(raw, dict):
        return
    sizes: dict[str, tuple[Any, Any]] = {"weight_block_size": (raw.get("weight_block_size"), [GROUP, GROUP])}
    groups = raw.get("config_groups")
    for group, value in groups.items() if isinstance(groups, dict) else ():
        weights = value.get("weights") if isinstance(value, dict) else None
        if isinstance(weights, dict):
            where = f"config_groups.{group}.weights"
            sizes[f"{where}.block_structure"] = weights.get("block_structure"), [GROUP, GROUP]
            sizes[f"{where}.group_size"] = weights.get("group_size"), GROUP
    for field, (found, wanted) in sizes.items():
        if found is not None and found not in (wanted, -1):  # compressed-tensors: -1 is no groups
            raise InputError(f"config.json: quantization_config.{field}", found, f"allowed: {wanted}")


def _weight_of(name: str, headers: Mapping[str, Header]) -> str | None:
    """Return the name of the weight that `name` is the scale of; None where it is no scale."""
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            weight = name.removesuffix(suffix)
            eight_bit = weight in headers and headers[weight].dtype in SCALED
            return weight if eight_bit or f".{weight}".endswith(".weight") else None
    return None


def _check_scale(where: str, name: str, weight: str, headers: Mapping[str, Header]) -> None:
    scale = headers[name]
    if weight not in headers:
        raise InputError(f"{where}: {name}", scale.dtype, f"is a scale without its {weight}: copy the folder again")
    if headers[weight].dtype not in (*PLAIN, *SCALED):
        raise InputError(f"{where}: {weight}", headers[weight].dtype, f"values of this type are not read: {PARENT}")
    if headers[weight].dtype not in SCALED:
        allowed = f"is a scale left over beside {weight}, which has the type {headers[weight].dtype}: remove it"
        raise InputError(f"{where}: {name}", scale.dtype, allowed)
    if scale.dtype not in SCALE_TYPES:
        raise InputError(f"{where}: {name}", scale.dtype, f"a scale's type must be one of {', '.join(SCALE_TYPES)}")
    granularity(f"{where}: {name}", scale.shape, headers[weight].shape)


def _check_unscaled(where: str, name: str, header: Header) -> None:
    few_bits = header.dtype.startswith(("F8_", "F6_", "F4"))
    if few_bits and header.dtype in SCALED:
        raise InputError(f"{where}: {name}", header.dtype, f"needs its {name}_scale beside it")
    if few_bits:
        raise InputError(f"{where}: {name}", header.dtype, f"values of this type are not read: {PARENT}")
    matrix = len(header.shape) > 1 and name.endswith(("weight", "weights", "_blocks", "_scales"))
    if matrix and header.dtype not in PLAIN:
        raise InputError(
            f"{where}: {name}", header.dtype, f"only floating-point weights are read as they are: {PARENT}"
        )
