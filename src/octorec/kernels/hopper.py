# mypy: allow-untyped-defs
"""The kernels for Hopper share these functions (Gluon, Triton's lower level)."""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl

from octorec.kernels.cast import scale_of, to_e4m3


@gluon.jit
def rounded(x, KIND: gl.constexpr):
    """Return float32 x rounded to KIND.

    bfloat16 is rounded by pairs: one fast instruction, where the compiler takes two slow ones.
    """
    if KIND is gl.bfloat16:
        return gl.inline_asm_elementwise(
            "{ .reg .b32 pair; cvt.rn.bf16x2.f32 pair, $3, $2; shl.b32 $0, pair, 16; and.b32 $1, pair, 0xffff0000; }",
            "=r,=r,f,f", [x], gl.float32, is_pure=True, pack=2,
        )  # fmt: skip
    return x.to(KIND).to(gl.float32)


@gluon.jit
def cast(x, KIND: gl.constexpr):
    """Return float32 x [rows, 128], rounded to KIND, in E4M3, and a scale a row.

    Scales have shape [rows]: with [rows, 1] every thread would store each scale once for each of its columns.
    """
    x = rounded(x, KIND)
    absmax = gl.max(gl.abs(x), 1)
    values, _ = to_e4m3(x, gl.expand_dims(absmax, 1))
    return values, scale_of(absmax)
