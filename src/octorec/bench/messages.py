"""Bodies of /v1/recommend become messages of the Open Inference Protocol, which hold several histories each."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from octorec.errors import InputError
from octorec.serve.oip_messages import ModelInferRequest

LISTS = ("history", "exclude", "allow")
OF_USERS = ("user", "features")
# of all histories of a call, by name: the types of their values, and the field that has them
PARAMETERS: dict[str, dict[type, str]] = {
    "k": {int: "int64"},
    "beam_width": {int: "int64", str: "string", list: "string"},
    "exclude_seen": {bool: "bool"},
    "deadline_ms": {int: "int64", float: "double"},
    "domain": {str: "string"},
    "task": {str: "string"},
}
OUTPUTS = ("item_indices", "scores", "counts")  # what a service that ranks on asks for
LONGEST_INT64 = 18  # digits of a number that any int64 can be
Body = dict[str, Any]


def messages(bodies: Sequence[bytes], rows: int, model: str) -> list[bytes]:
    """Return encoded messages of `rows` histories each, in the order of the bodies; of what is left over at the end
    the first ones fill a message.

    Raises InputError where a body says what no call can say.
    """
    asked = [_object(number, body) for number, body in enumerate(bodies, 1)]
    asked += asked[: -len(asked) % rows] if len(asked) >= rows else asked * (rows // len(asked) + 1)
    return [_message(asked[at : at + rows], model) for at in range(0, len(asked) - rows + 1, rows)]


def _object(number: int, body: bytes) -> Body:
    found = orjson.loads(body)
    if not isinstance(found, dict):
        raise InputError(f"request {number}", body.decode(errors="replace")[:100], "over gRPC: an object")
    allowed = (*LISTS, *OF_USERS, *PARAMETERS)
    for name in found:
        if name not in allowed:
            raise InputError(f"request {number}: {name}", found[name], f"over gRPC: {', '.join(allowed)}")
    for name in [name for name in OF_USERS if name in found]:
        if not isinstance(found[name], dict):
            raise InputError(f"request {number}: {name}", found[name], "over gRPC: an object")
    return {"history": [], **found}


def _message(asked: Sequence[Body], model: str) -> bytes:
    """Return one message; what its histories do not share can only be lists and fields that all of them have."""
    first = asked[0]
    message = ModelInferRequest(model_name=model)
    for name in OUTPUTS:
        message.outputs.add(name=name)
    for body in asked[1:]:
        if fields(body) != fields(first):
            raise InputError("rows_per_call", len(asked), "of requests that differ in more than their ids: 1")
    for name in [name for name in LISTS if name in first]:
        _put_lists(message, name, [body[name] for body in asked])
    for part in [part for part in OF_USERS if part in first]:
        for key in first[part]:
            _put_column(message, f"{part}.{key}", [body[part][key] for body in asked])
    for name in [name for name in PARAMETERS if name in first]:
        _put_parameter(message, name, first[name])
    return message.SerializeToString()


def fields(body: Body) -> Body:
    """Return what all requests of a call share: parameters, and the names of the rest."""
    names = {name: sorted(body[name]) for name in OF_USERS if name in body}
    lists = [name for name in LISTS if name in body]
    return {**names, "lists": lists, **{name: body[name] for name in PARAMETERS if name in body}}


def _put_lists(message: Any, name: str, rows: Sequence[Any]) -> None:
    """Add lists of ids, in the form that is read fastest."""
    if not all(isinstance(row, list) for row in rows):
        raise InputError(name, rows[0], "over gRPC: a list of ids")
    ids = [str(one) for row in rows for one in row]
    numbers = all(one.isdecimal() and one.isascii() and _plain(one) for one in ids)
    one = message.inputs.add(name=name, datatype="INT64" if numbers else "BYTES", shape=[len(ids)])
    if numbers:
        one.contents.int64_contents.extend(map(int, ids))
    else:
        one.contents.bytes_contents.extend(map(str.encode, ids))
    lengths = message.inputs.add(name=f"{name}.lengths", datatype="INT64", shape=[len(rows)])
    lengths.contents.int64_contents.extend(map(len, rows))


def _plain(number: str) -> bool:
    """Return whether a number is written as integers are, so that the same text comes of it."""
    return len(number) <= LONGEST_INT64 and (number == "0" or number[0] != "0")


def _put_column(message: Any, name: str, rows: Sequence[Any]) -> None:
    if all(isinstance(row, str) for row in rows):
        one = message.inputs.add(name=name, datatype="BYTES", shape=[len(rows)])
        one.contents.bytes_contents.extend(map(str.encode, rows))
        return
    try:
        values = np.array(rows)
    except ValueError:  # of several lengths
        values = np.array(None)
    if values.dtype.kind not in "if":
        raise InputError(name, rows[0], "over gRPC: texts, or numbers of one shape")
    whole = values.dtype.kind == "i"
    one = message.inputs.add(name=name, datatype="INT64" if whole else "FP64", shape=values.shape)
    (one.contents.int64_contents if whole else one.contents.fp64_contents).extend(values.ravel().tolist())


def _put_parameter(message: Any, name: str, value: Any) -> None:
    kind = PARAMETERS[name].get(type(value))
    if kind is None or (kind == "int64" and value >= 2**63):
        raise InputError(name, value, "over gRPC: " + " or ".join(one.__name__ for one in PARAMETERS[name]))
    text = "-".join(map(str, value)) if isinstance(value, list) else value
    setattr(message.parameters[name], f"{kind}_param", text)
