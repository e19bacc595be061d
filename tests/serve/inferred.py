"""A client of the Open Inference Protocol: requests as stock clients make them, in both forms of tensors."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from struct import pack
from typing import Any

import grpc
import httpx
import numpy as np

from octorec.engine.engine import Engine
from octorec.serve.oip_messages import CALLS, SERVICE, ModelInferRequest
from octorec.serve.oip_server import open_inference
from octorec.serve.service import Service
from tests.serve.served import served

DTYPES = {"INT32": "<i4", "INT64": "<i8", "FP32": "<f4", "FP64": "<f8", "BOOL": "?"}
FIELDS = {"INT32": "int_contents", "INT64": "int64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents"}


@asynccontextmanager
async def inferring(
    engine: Engine, **config: Any
) -> AsyncIterator[tuple[Service, httpx.AsyncClient, grpc.aio.Channel]]:
    """The application, and a channel to its calls over gRPC on a free port."""
    async with (
        served(engine, **config) as (service, client),
        open_inference(service) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        channel.port = port
        yield service, client, channel


def call(channel: Any, name: str) -> Any:
    """One call of the protocol, as a function."""
    asked, answered = CALLS[name]
    return channel.unary_unary(f"/{SERVICE}/{name}", asked.SerializeToString, answered.FromString)


async def refused(channel: Any, message: Any, **options: Any) -> tuple[grpc.StatusCode, str, str, dict[str, Any]]:
    """How a ModelInfer call was refused: code, message, outcome and trailers."""
    try:
        await call(channel, "ModelInfer")(message, timeout=options.pop("timeout", 60), **options)
    except grpc.aio.AioRpcError as error:
        trailers = dict(error.trailing_metadata() or ())
        return error.code(), error.details() or "", str(trailers.get("octorec-outcome", "")), trailers
    raise AssertionError("it was answered")


def request(
    tensors: dict[str, tuple[str, Sequence[int], Any]], raw: bool = True, outputs: Sequence[str] = (), **parameters: Any
) -> Any:
    """A ModelInferRequest. tensors: datatype, shape and elements by name. raw: in which of the two forms."""
    message = ModelInferRequest(model_name="octorec")
    for name, (datatype, shape, values) in tensors.items():
        one = message.inputs.add(name=name, datatype=datatype, shape=shape)
        if raw:
            message.raw_input_contents.append(elements(datatype, values))
        elif datatype == "BYTES":
            one.contents.bytes_contents.extend(map(str.encode, values))
        else:
            getattr(one.contents, FIELDS[datatype]).extend(values)
    for name in outputs:
        message.outputs.add(name=name)
    for name, value in parameters.items():
        kind = {bool: "bool", int: "int64", float: "double", str: "string"}[type(value)]
        setattr(message.parameters[name], f"{kind}_param", value)
    return message


def elements(datatype: str, values: Any) -> bytes:
    if datatype != "BYTES":
        return np.array(values, DTYPES[datatype]).tobytes()
    encoded = [one if isinstance(one, bytes) else one.encode() for one in values]
    return b"".join(pack("<I", len(one)) + one for one in encoded)


def histories(*rows: Sequence[str]) -> dict[str, tuple[str, Sequence[int], Any]]:
    """Histories as one list of ids and their lengths."""
    ids = [one for row in rows for one in row]
    return {"history": ("BYTES", [len(ids)], ids), "history.lengths": ("INT64", [len(rows)], [*map(len, rows)])}


def columns(response: Any) -> dict[str, Any]:
    """The outputs of a response as arrays, those of BYTES as lists of text."""
    found = {}
    for one, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        values = texts(raw) if one.datatype == "BYTES" else np.frombuffer(raw, DTYPES[one.datatype])
        found[one.name] = np.array(values).reshape(tuple(one.shape))
    return found


def texts(raw: bytes) -> list[str]:
    found = []
    while raw:
        end = 4 + int.from_bytes(raw[:4], "little")
        found.append(raw[4:end].decode())
        raw = raw[end:]
    return found
