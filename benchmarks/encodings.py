"""What an answer of many items costs by encoding: bytes, and the time to write and to read it, without the network.

    python -m benchmarks.encodings --out results/encodings.jsonl

JSON is that of /v1/recommend, read by orjson. gRPC is a response of ModelInfer, as a client reads it into arrays; once
with the item indices, scores and counts that a ranker asks for, once with ids in the place of indices, once with every
output. Arrow is a stream of one record batch of indices and scores, which the server does not offer: what another
binary encoding would cost. Requests of histories are measured alike, as JSON and as ModelInfer's message. CPU time of
one request, the best of several runs. Items and scores are random.
"""

import argparse
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from benchmarks import records
from benchmarks.host import beams, engine_of
from benchmarks.program import run
from benchmarks.quantize import cpu_model
from benchmarks.random_model import random_requests
from benchmarks.rows import EncodingRow
from octorec.engine.rank import Ranked
from octorec.serve.config import ServeConfig
from octorec.serve.encode import encode_answer
from octorec.serve.oip_answers import OUTPUTS, Answered, encode_batch
from octorec.serve.oip_messages import ModelInferRequest, ModelInferResponse
from octorec.serve.oip_requests import read_batch
from octorec.serve.oip_tensors import raw_bytes
from octorec.serve.schemas import checked

DTYPES = {"INT64": "<i8", "FP32": "<f4", "BOOL": "?"}
ANSWERS = {  # outputs of ModelInfer by what the row calls them
    "gRPC, indices": ("item_indices", "scores", "counts"),
    "gRPC, ids": ("item_ids", "scores", "counts"),
    "gRPC, every output": tuple(OUTPUTS),
}
FORMS = ("raw BYTES", "typed BYTES", "INT64")  # of a history over gRPC
CALLS = 50  # of a run
Side = tuple[Callable[[], bytes], Callable[[bytes], Any]]  # write, and read what was written


def json_answer(ranked: Ranked) -> Side:
    return lambda: encode_answer(ranked, "fp8", False, "id"), orjson.loads


def grpc_answer(ranked: Ranked, outputs: tuple[str, ...]) -> Side:
    def write() -> bytes:
        return encode_batch([Answered(ranked, "fp8")], outputs, "octorec", "").SerializeToString()

    return write, read_answer


def read_answer(body: bytes) -> list[Any]:
    """The outputs of a response, as a client has them."""
    response = ModelInferResponse.FromString(body)
    both = zip(response.outputs, response.raw_output_contents, strict=True)
    return [texts(raw) if one.datatype == "BYTES" else np.frombuffer(raw, DTYPES[one.datatype]) for one, raw in both]


def texts(raw: bytes) -> list[str]:
    """The elements of raw BYTES."""
    found, at = [], 0
    while at < len(raw):
        start = at + 4
        at = start + int.from_bytes(raw[at:start], "little")
        found.append(raw[start:at].decode())
    return found


def arrow_answer(ranked: Ranked) -> Side:
    schema = pa.schema([("item_indices", pa.int64()), ("scores", pa.float32())])

    def write() -> bytes:
        sink = pa.BufferOutputStream()
        arrays = [pa.array(ranked.item_indices), pa.array(ranked.scores)]
        with pa.ipc.new_stream(sink, schema) as stream:
            stream.write_batch(pa.record_batch(arrays, schema=schema))
        return sink.getvalue().to_pybytes()

    def read(body: bytes) -> list[Any]:
        batch = next(iter(pa.ipc.open_stream(body)))
        return [column.to_numpy() for column in batch.columns]

    return write, read


def json_request(history: list[str], k: int) -> Side:
    config = ServeConfig()

    def write() -> bytes:
        return orjson.dumps({"history": history, "k": k})

    return write, lambda body: checked(orjson.loads(body), config)


def grpc_request(history: list[str], k: int, form: str) -> Side:
    config = ServeConfig()

    def write() -> bytes:
        message = ModelInferRequest(model_name="octorec")
        datatype = "INT64" if form == "INT64" else "BYTES"
        ids = message.inputs.add(name="history", datatype=datatype, shape=[1, len(history)])
        if form == "typed BYTES":
            ids.contents.bytes_contents.extend(map(str.encode, history))
        else:
            numbers = form == "INT64"
            message.raw_input_contents.append(
                np.array([*map(int, history)], "<i8").tobytes() if numbers else raw_bytes(history)
            )
        message.parameters["k"].int64_param = k
        return message.SerializeToString()

    def read(body: bytes) -> Any:
        (one,) = read_batch(ModelInferRequest.FromString(body), config.http, None).bodies
        return checked(one, config)

    return write, read


def microseconds(calls: Callable[[], object], runs: int) -> float:
    """CPU time of one call, the best run; the first warms up."""
    times = []
    for _ in range(runs + 1):
        start = time.process_time()
        for _ in range(CALLS):
            calls()
        times.append((time.process_time() - start) / CALLS * 1e6)
    return round(min(times[1:]), 1)


def measured(what: str, encoding: str, side: Side, runs: int, about: dict[str, Any]) -> EncodingRow:
    write, read = side
    body = write()
    to_write, to_read = microseconds(write, runs), microseconds(lambda: read(body), runs)
    sizes: dict[str, Any] = {"bytes": len(body), "write_us": to_write, "read_us": to_read, "runs": runs}
    return EncodingRow(what=what, encoding=encoding, **sizes, **about)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=records.RESULTS / "encodings.jsonl")
    parser.add_argument("--k", type=int, default=512)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()
    engine = engine_of(options.items, 1, options.context, options.k)
    (asked,) = random_requests(1, options.items, options.context, options.k)
    ranked = beams(engine.catalog, 1, options.k, 0).ranked(0, engine.parse(asked))
    history = list(asked.history)
    answers = {"JSON": json_answer(ranked), "Arrow, indices": arrow_answer(ranked)}
    answers |= {name: grpc_answer(ranked, outputs) for name, outputs in ANSWERS.items()}
    requests = {"JSON": json_request(history, options.k)}
    requests |= {f"gRPC, {form}": grpc_request(history, options.k, form) for form in FORMS}
    about = {"k": options.k, "context": options.context, "n_items": options.items, "cpu_model": cpu_model()}
    sides = chain((("answer", *one) for one in answers.items()), (("request", *one) for one in requests.items()))
    for what, encoding, side in sides:
        row = measured(what, encoding, side, options.runs, about)
        records.append(options.out, row)
        print(f"{what}, {encoding}: {row.bytes:,} bytes, {row.write_us:.0f} us to write, {row.read_us:.0f} us to read")


if __name__ == "__main__":
    run(main)
