"""A ModelInferRequest becomes bodies of /v1/recommend, one for each history, so that both are checked alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from octorec.engine.caps import read_caps
from octorec.engine.engine import Engine
from octorec.errors import InputError
from octorec.serve.config import LONGEST_MS, HttpOptions
from octorec.serve.oip_answers import OUTPUTS
from octorec.serve.oip_tensors import INTEGERS, Tensor, read_tensors, wrong
from octorec.serve.refusal import Refusal, invalid
from octorec.serve.schemas import CAPPED, MOST_KEYS, SAID, RecommendRequest

ID_LISTS = ("history", "exclude", "allow")
LENGTHS = ".lengths"
OF_USERS = ("user", "features")
PARAMETERS = ("k", "beam_width", "exclude_seen", "deadline_ms", "domain", "task", *CAPPED)
FIELDS = {"inputs", "raw_input_contents", "outputs", "parameters", "id", "model_name", *RecommendRequest.model_fields}


@dataclass(frozen=True)
class Batch:
    """A Batch is what one call asks for. bodies: a request each, not yet checked. outputs: the names it wants."""

    bodies: list[dict[str, Any]]
    outputs: Sequence[str]


def read_batch(message: Any, options: HttpOptions, left_ms: float | None) -> Batch:
    """Read a ModelInferRequest; a Refusal names the first thing that is wrong with it.

    left_ms: until the deadline of the call, where it has one.
    """
    require_model(message.model_name, options.model_name, "model_name")
    outputs = _outputs(message.outputs)
    shared = _parameters(message.parameters)
    if left_ms is not None:
        shared["deadline_ms"] = _sooner(shared.get("deadline_ms"), left_ms)
    tensors = read_tensors(message)
    if "history" not in tensors:
        raise wrong("history", SAID["missing"])
    lists = {name: _lists(tensors, name, options.max_list) for name in ID_LISTS if name in tensors}
    bodies = [{"history": history, **shared} for history in lists.pop("history")]
    for name, columns in lists.items():
        _put(bodies, name, columns, name)
    for name, tensor in tensors.items():
        part, _, key = name.partition(".")
        if part not in OF_USERS or not key:
            raise wrong(name, SAID["extra_forbidden"])
        if part == "features" and tensor.datatype == "BYTES":
            raise wrong(name, "must be numbers")
        _put(bodies, name, tensor.rows() if tensor.shape[0] == len(bodies) else [], part, key)
    return Batch(bodies, outputs)


def require_model(asked: str, served: str, field: str) -> None:
    """Refuse the name or version of a model that is not served."""
    if asked != served:
        raise Refusal("not_found", f"no model {asked[:100]!r}: this server has {served!r}", field)


def inputs_of(engine: Engine) -> list[dict[str, Any]]:
    """Return the metadata of the inputs that an engine's model has a use for; an axis of -1 has any length."""
    lists = [{"name": name, "datatype": "BYTES", "shape": [-1, -1]} for name in ID_LISTS]
    lengths = [{"name": name + LENGTHS, "datatype": "INT64", "shape": [-1]} for name in ID_LISTS]
    fields = [
        {"name": f"user.{one.name}", "datatype": "BYTES" if one.kind == "category" else "FP64", "shape": [-1]}
        for one in engine.user_fields
    ]
    features = [
        {"name": f"features.{name}", "datatype": "INT64" if one.dtype == "int64" else "FP32", "shape": [-1, *one.shape]}
        for name, one in engine.features.items()
    ]
    return [*lists, *lengths, *fields, *features]


def _put(bodies: list[dict[str, Any]], name: str, rows: Sequence[Any], part: str, key: str | None = None) -> None:
    """Give each body its row of an input: as its field `part`, or in that under `key`."""
    if len(rows) != len(bodies):
        raise wrong(name, f"must have a row for each of the {len(bodies)} histories")
    for body, row in zip(bodies, rows, strict=True):
        if key is None:
            body[part] = row
        else:
            body.setdefault(part, {})[key] = row


def _lists(tensors: dict[str, Tensor], name: str, most: int) -> list[list[Any]]:
    """Take a list of ids for each row out of the tensors: of [rows, longest], or of [ids], cut by their lengths."""
    ids, cut = tensors.pop(name), tensors.pop(name + LENGTHS, None)
    if len(ids.shape) != (1 if cut is not None and len(ids.shape) == 1 else 2):
        raise wrong(name, f"has the shape [rows, longest], or [ids] with {name}{LENGTHS}")
    rows = ids.shape[0] if cut is None else cut.shape[0]
    if not 1 <= rows <= most:
        raise wrong(name, f"got {rows} requests; 1 to {most}")
    spans = _spans(ids, [ids.shape[1]] * rows if cut is None else _lengths(cut))
    if ids.datatype in INTEGERS:
        return [ids.values[start:end].tolist() for start, end in spans]
    if ids.datatype != "BYTES":
        raise wrong(name, "must be BYTES, or integers, which are read as text")
    try:
        return [[*map(bytes.decode, ids.values[start:end])] for start, end in spans]
    except UnicodeDecodeError:
        raise wrong(name, "must be UTF-8") from None


def _spans(ids: Tensor, lengths: list[int]) -> list[tuple[int, int]]:
    """Return where each row's ids begin and end."""
    if len(ids.shape) == 1:
        if sum(lengths) != ids.shape[0]:
            raise wrong(ids.name + LENGTHS, f"are {sum(lengths)} in all, of {ids.shape[0]} ids")
        return [*pairwise(accumulate(lengths, initial=0))]
    rows, longest = ids.shape
    if len(lengths) != rows or max(lengths) > longest:
        raise wrong(ids.name + LENGTHS, f"must be {rows}, of at most {longest} ids each")
    return [(row * longest, row * longest + length) for row, length in enumerate(lengths)]


def _lengths(given: Tensor) -> list[int]:
    if given.datatype not in INTEGERS or len(given.shape) != 1 or (given.values < 0).any():
        raise wrong(given.name, "must be INT32 or INT64, of the shape [rows], none below 0")
    return given.values.tolist()


def _parameters(given: Any) -> dict[str, Any]:
    if len(given) > MOST_KEYS:
        raise wrong("parameters", f"has at most {MOST_KEYS} keys")
    found = {}
    for name, value in given.items():
        choice = value.WhichOneof("parameter_choice")
        if name not in PARAMETERS:
            raise wrong(name, f"there is no such parameter; allowed: {', '.join(PARAMETERS)}")
        if choice is None:
            raise wrong(name, "has no value")
        found[name] = getattr(value, choice)
    if "caps" in found:
        found["caps"] = _caps(found["caps"])
    return found


def _outputs(given: Any) -> Sequence[str]:
    names = [one.name for one in given[: len(OUTPUTS) + 1]]
    if unknown := [name for name in names if name not in OUTPUTS]:
        raise wrong("outputs", f"got {unknown[0][:100]!r}; allowed: {', '.join(OUTPUTS)}")
    if len(set(names)) < len(names) or any(one.parameters for one in given):
        raise wrong("outputs", "are named once each, without parameters")
    return names or [*OUTPUTS]


def _caps(text: Any) -> dict[str, int] | None:
    """Return what a parameter of text says of named sets, as the flag of the command line."""
    try:
        return read_caps(text)
    except InputError as error:
        raise invalid(error) from None


def _sooner(asked: Any, left_ms: float) -> Any:
    """Return the sooner of two deadlines; what is no number stays, to be refused as a field."""
    if left_ms <= 0:
        raise Refusal("deadline", "the deadline passed before the answer was there", "deadline_ms")
    left_ms = min(left_ms, LONGEST_MS)
    if isinstance(asked, int | float):
        return left_ms if asked > left_ms else asked
    return left_ms if asked is None else asked
