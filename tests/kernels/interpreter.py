"""Triton's interpreter, made to round as a GPU does.

As it comes, it truncates float32 to BF16, loses the carry and the saturation of casts to FP8, and multiplies or adds
the raw bits of both (triton 3.6 and 3.7). Here every cast goes through torch, a product of BF16 or FP8 values is exact
with float32 sums, `fma` rounds once, and any other arithmetic on raw BF16 or FP8 is refused: a kernel should convert to
float32 first.
"""

from typing import Any

import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter

TORCH = {
    "fp64": torch.float64,
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp8e4nv": torch.float8_e4m3fn,
    "fp8e5": torch.float8_e5m2,
}
TensorHandle = interpreter.TensorHandle


def install() -> None:
    """Correct the interpreter for this process."""
    builder = interpreter.InterpreterBuilder
    interpreter._convert_float = convert
    builder.create_dot = _dot
    builder.create_fma = _fma
    for name in ("binary_op", "unary_op"):
        setattr(builder, name, _refusing_raw_bits(getattr(builder, name)))
    interpreter.ReduceOps.apply_impl = _refusing_raw_reductions(interpreter.ReduceOps.apply_impl)


def convert(values: np.ndarray, source: tl.dtype, target: tl.dtype, rounding: Any) -> np.ndarray:
    """Bits of `values` (of type `source`) as bits of type `target`: to nearest even, FP8 saturating as `cvt` does."""
    assert rounding in (None, interpreter._ir.ROUNDING_MODE.RTNE), f"rounding {rounding} is not modelled"
    flat = torch.from_numpy(np.ascontiguousarray(values).reshape(-1).copy()).view(TORCH[source.name])
    to = TORCH[target.name]
    if target.primitive_bitwidth == 8:
        flat = flat.float().clamp(-torch.finfo(to).max, torch.finfo(to).max)
    bits = flat.to(to).view(getattr(torch, f"uint{target.primitive_bitwidth}"))
    return bits.numpy().reshape(values.shape)


def _dot(self: Any, a: TensorHandle, b: TensorHandle, c: TensorHandle, *_: Any) -> TensorHandle:
    """a @ b + c, the products summed in c's type."""
    product = np.matmul(_widened(a), _widened(b), dtype=c.data.dtype)
    return TensorHandle(product + c.data, c.dtype.scalar)


def _fma(self: Any, x: TensorHandle, y: TensorHandle, z: TensorHandle) -> TensorHandle:
    """x * y + z of float32, rounded once but for the last bit of float64."""
    exact = x.data.astype(np.float64) * y.data.astype(np.float64) + z.data.astype(np.float64)
    return TensorHandle(exact.astype(z.data.dtype), z.dtype.scalar)


def _widened(handle: TensorHandle) -> np.ndarray:
    if not _is_raw(handle):
        return handle.data
    return convert(handle.data, handle.dtype.scalar, tl.float32, None).view(np.float32)


def _is_raw(handle: TensorHandle) -> bool:
    """Whether numpy holds these floats as plain unsigned integers."""
    kind = handle.dtype.scalar
    return not kind.is_ptr() and (kind.is_bf16() or kind.is_fp8())


def _refusing_raw_bits(operation: Any) -> Any:
    def checked(self: Any, *args: Any) -> TensorHandle:
        raw = [arg.dtype for arg in args if isinstance(arg, TensorHandle) and _is_raw(arg)]
        assert not raw, f"arithmetic on {raw[0]}: the interpreter would add its bits; convert to float32 first"
        return operation(self, *args)

    return checked


def _refusing_raw_reductions(reduce: Any) -> Any:
    def checked(self: Any, inputs: Any) -> Any:
        raw = [x.dtype for x in inputs if _is_raw(x.handle)]
        assert not raw, f"reduction of {raw[0]}: the interpreter would reduce its bits; convert to float32 first"
        return reduce(self, inputs)

    return checked
