"""The answers to a batch become the tensors of a ModelInferResponse, a row for each request."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from octorec.engine.rank import Ranked
from octorec.serve.oip_messages import ModelInferResponse
from octorec.serve.oip_tensors import raw_bytes


@dataclass(frozen=True)
class Answered:
    """An Answered is the answer to one request, and the version of the checkpoint that gave it."""

    ranked: Ranked
    model: str


Rows = Sequence[Answered]


@dataclass(frozen=True)
class Output:
    """An Output is a tensor of the response. axes: 1 for [rows], 2 for [rows, k]. make: returns its raw bytes."""

    datatype: str
    axes: int
    make: Callable[[Rows, int], bytes]


def encode_batch(rows: Rows, outputs: Sequence[str], name: str, request_id: str) -> Any:
    """Return the response with the outputs that are named, for requests that all asked for as many items.

    The version of the model, and that of the catalog as a parameter, are said where all rows have the same.
    """
    k = rows[0].ranked.request.k
    response = ModelInferResponse(model_name=name, id=request_id)
    models, catalogs = ({one.model for one in rows}, {one.ranked.catalog.version for one in rows})
    if len(models) == 1:
        response.model_version = models.pop()
    if len(catalogs) == 1:
        response.parameters["catalog"].string_param = catalogs.pop()
    for output in outputs:
        kind = OUTPUTS[output]
        response.outputs.add(name=output, datatype=kind.datatype, shape=(len(rows), k)[: kind.axes])
        response.raw_output_contents.append(kind.make(rows, k))
    return response


def _columns(of: Callable[[Ranked], np.ndarray], blank: float, dtype: str) -> Callable[[Rows, int], bytes]:
    """Return what fills an output of [rows, k] with columns of answers, and with a blank where there are fewer."""

    def make(rows: Rows, k: int) -> bytes:
        found = np.full((len(rows), k), blank, dtype)
        for row, one in zip(found, rows, strict=True):
            column = of(one.ranked)
            row[: len(column)] = column
        return found.tobytes()

    return make


def _ids(rows: Rows, k: int) -> bytes:
    return b"".join(raw_bytes(one.ranked.items()) + bytes(4 * (k - len(one.ranked.item_indices))) for one in rows)


def _numbers(of: Callable[[Ranked], float], dtype: str) -> Callable[[Rows, int], bytes]:
    return lambda rows, k: np.array([of(one.ranked) for one in rows], dtype).tobytes()


def _texts(of: Callable[[Answered], str]) -> Callable[[Rows, int], bytes]:
    return lambda rows, k: raw_bytes(map(of, rows))


def _bound(ranked: Ranked) -> float:
    return -math.inf if ranked.bound is None else ranked.bound


OUTPUTS = {
    "item_indices": Output("INT64", 2, _columns(lambda ranked: ranked.item_indices, -1, "<i8")),
    "item_ids": Output("BYTES", 2, _ids),
    "scores": Output("FP32", 2, _columns(lambda ranked: ranked.scores, -math.inf, "<f4")),
    "counts": Output("INT64", 1, _numbers(lambda ranked: len(ranked.item_indices), "<i8")),
    "exact": Output("BOOL", 1, _numbers(lambda ranked: ranked.exact, "?")),
    "bound": Output("FP32", 1, _numbers(_bound, "<f4")),
    "near_tie": Output("BOOL", 1, _numbers(lambda ranked: ranked.near_tie, "?")),
    "source": Output("BYTES", 1, _texts(lambda one: one.ranked.request.source)),
    "notes": Output("BYTES", 1, _texts(lambda one: "\n".join(one.ranked.notes))),
    "model": Output("BYTES", 1, _texts(lambda one: one.model)),
    "catalog": Output("BYTES", 1, _texts(lambda one: one.ranked.catalog.version)),
}
