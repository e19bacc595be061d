"""Tensors of the Open Inference Protocol: read from a message, in either of its two forms, and written as raw bytes."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from struct import Struct, error
from typing import Any

import numpy as np

from octorec.serve.refusal import Refusal
from octorec.serve.schemas import MOST_KEYS

MOST_AXES = 5  # the batch's, and those of a feature
MOST_EMPTY = 2**16  # lists that a tensor without elements may be
NUMBERS: dict[str, tuple[np.dtype[Any], str]] = {  # datatype -> of raw bytes, and the field of typed contents
    "INT32": (np.dtype("<i4"), "int_contents"),
    "INT64": (np.dtype("<i8"), "int64_contents"),
    "FP32": (np.dtype("<f4"), "fp32_contents"),
    "FP64": (np.dtype("<f8"), "fp64_contents"),
}
INTEGERS = ("INT32", "INT64")
DATATYPES = ("BYTES", *NUMBERS)
SIZE = Struct("<I")  # in front of each element of raw BYTES


@dataclass(frozen=True)
class Tensor:
    """A Tensor is an input. values: its elements in row-major order, an array of numbers or a list of bytes."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Any

    def texts(self) -> list[str]:
        """Return the elements of BYTES as text; a Refusal where one is no UTF-8."""
        try:
            return [*map(bytes.decode, self.values)]
        except UnicodeDecodeError:
            raise wrong(self.name, "must be UTF-8") from None

    def rows(self) -> list[Any]:
        """Return an element, or lists in a list, for each place on the first axis; a Refusal for NaN and infinity."""
        if self.datatype == "BYTES":
            return self.texts()
        if not np.isfinite(self.values).all():
            raise wrong(self.name, "must be finite")
        return self.values.reshape(self.shape).tolist()


def wrong(field: str, message: str) -> Refusal:
    """Make the Refusal that names a field, as bodies over HTTP are refused."""
    field = field[:100] or "inputs"
    return Refusal("invalid", f"{field}: {message}", field)


def read_tensors(message: Any) -> dict[str, Tensor]:
    """Return the inputs of a ModelInferRequest by name; a Refusal for the first that is not what it says."""
    inputs, raw = message.inputs, message.raw_input_contents
    if len(inputs) > MOST_KEYS:
        raise wrong("inputs", f"has at most {MOST_KEYS} tensors")
    if raw and len(raw) != len(inputs):
        raise wrong("raw_input_contents", f"got {len(raw)} for {len(inputs)} inputs")
    found: dict[str, Tensor] = {}
    for number, one in enumerate(inputs):
        if one.name in found:
            raise wrong(one.name, "is given twice")
        if raw and one.HasField("contents"):
            raise wrong(one.name, "has contents beside raw_input_contents: give one of them")
        if one.parameters:
            raise wrong(one.name, "takes no parameters")
        found[one.name] = _tensor(one, raw[number] if raw else None)
    return found


def _tensor(given: Any, raw: bytes | None) -> Tensor:
    shape, name = tuple(given.shape), given.name
    if given.datatype not in DATATYPES:
        raise wrong(name, f"got datatype {given.datatype[:20]!r}; allowed: {', '.join(DATATYPES)}")
    if not 1 <= len(shape) <= MOST_AXES or min(shape) < 0:
        raise wrong(name, f"has a shape of 1 to {MOST_AXES} lengths, none below 0")
    many = math.prod(shape)
    if not many and math.prod(length or 1 for length in shape) > MOST_EMPTY:
        raise wrong(name, f"is empty, with more than {MOST_EMPTY} places in its other lengths")
    if given.datatype == "BYTES":
        values: Any = given.contents.bytes_contents if raw is None else _split(name, raw, many)
    else:
        dtype, field = NUMBERS[given.datatype]
        if raw is None:
            values = np.array(getattr(given.contents, field), dtype)
        else:
            values = np.frombuffer(raw[: len(raw) // dtype.itemsize * dtype.itemsize], dtype)
            if len(raw) % dtype.itemsize:
                raise wrong(name, f"got {len(raw)} bytes of {given.datatype}")
    if len(values) != many:
        raise wrong(name, f"got {len(values)} {given.datatype} elements for the shape {_short(shape)}")
    return Tensor(name, given.datatype, shape, values)


def _split(name: str, raw: bytes, many: int) -> list[bytes]:
    """Return the elements of raw BYTES: each has its length in front, 4 bytes, the lowest first."""
    found: list[bytes] = []
    at, end, size_at = 0, len(raw), SIZE.unpack_from
    if many * SIZE.size > end:
        raise wrong(name, f"got {end} bytes for the shape {_short((many,))}")
    try:
        while at < end:
            start = at + SIZE.size
            at = start + size_at(raw, at)[0]
            found.append(raw[start:at])
    except error:  # less than a length is left
        at = end + 1
    if at != end:
        raise wrong(name, "ends within an element: each has its length in front, 4 bytes, the lowest first")
    return found


def _short(shape: Sequence[int]) -> str:
    return "[" + ", ".join(str(length) if length < 10**9 else "..." for length in shape) + "]"


def raw_bytes(texts: Iterable[str]) -> bytes:
    """Return texts as raw BYTES."""
    encoded = [text.encode() for text in texts]
    return b"".join(chain.from_iterable((SIZE.pack(len(one)), one) for one in encoded))
