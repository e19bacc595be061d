"""Ask for arrays of candidates, as a ranking service does: python ask_grpc.py 127.0.0.1:8082"""

import struct
import sys

import grpc
import numpy as np

from octorec.serve.oip_messages import CALLS, SERVICE, ModelInferRequest

HISTORIES = [["50", "181", "172"], ["1", "7"]]

ids = [item.encode() for history in HISTORIES for item in history]
request = ModelInferRequest(model_name="octorec")
request.inputs.add(name="history", datatype="BYTES", shape=[len(ids)])
request.raw_input_contents.append(b"".join(struct.pack("<I", len(one)) + one for one in ids))
request.inputs.add(name="history.lengths", datatype="INT64", shape=[len(HISTORIES)])
request.raw_input_contents.append(np.array([len(history) for history in HISTORIES], "<i8").tobytes())
request.parameters["k"].int64_param = 20
for name in ("item_indices", "scores", "counts"):
    request.outputs.add(name=name)

with grpc.insecure_channel(sys.argv[1]) as channel:
    asked, answered = CALLS["ModelInfer"]
    infer = channel.unary_unary(f"/{SERVICE}/ModelInfer", asked.SerializeToString, answered.FromString)
    response = infer(request, timeout=20)

DTYPES = {"INT64": "<i8", "FP32": "<f4"}
for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
    array = np.frombuffer(raw, DTYPES[output.datatype]).reshape(output.shape)
    print(output.name, array.shape, array.dtype, array.ravel()[:3])
