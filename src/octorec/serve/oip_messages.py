"""The messages of the Open Inference Protocol are made from its compiled description, `open_inference.proto`.

They lie in a pool of their own, so that another library's messages of the same names may be in the process.
"""

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PROTO = Path(__file__).with_name("open_inference.proto")
COMPILED = PROTO.with_suffix(".binpb")  # a FileDescriptorSet of one file
SERVICE = "inference.GRPCInferenceService"

_pool = descriptor_pool.DescriptorPool()
(_described,) = descriptor_pb2.FileDescriptorSet.FromString(COMPILED.read_bytes()).file
_pool.AddSerializedFile(_described.SerializeToString())


def message(name: str) -> Any:
    """Return the class of a message by its name, such as `ModelInferRequest`."""
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"inference.{name}"))


CALLS: dict[str, tuple[Any, Any]] = {  # by name: the classes of a call's request and response
    call.name: (message(call.input_type.name), message(call.output_type.name))
    for call in _pool.FindServiceByName(SERVICE).methods
}
ModelInferRequest, ModelInferResponse = CALLS["ModelInfer"]
InferParameter = message("InferParameter")
