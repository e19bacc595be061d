"""The verb that answers one history."""

import dataclasses
from typing import Annotated, Any

import typer

from octorec.cli.inputs import said_of_gpu
from octorec.cli.options import BeamWidths, Checkpoint, ContextModule, Device, ExcludeSeen, Json, OtherCatalog, show
from octorec.cli.words import ids, said_with_commas, user_fields
from octorec.engine.model_folder import require_model
from octorec.engine.request import Answer, Request
from octorec.engine.widths import read_for
from octorec.files import parse_json
from octorec.settings import DEVICE


def recommend(
    checkpoint: Checkpoint,
    history: Annotated[str, typer.Option(help="Item ids with commas, oldest first; none: what is popular.")] = "",
    k: Annotated[int, typer.Option(help="Items to return, at most the beam width.")] = Request.k,
    beam_width: BeamWidths = None,
    exclude: Annotated[str, typer.Option(help="Item ids never to return, with commas.")] = "",
    exclude_seen: ExcludeSeen = False,
    allow: Annotated[list[str] | None, typer.Option(help="A named item set to return from; may be repeated.")] = None,
    user: Annotated[list[str] | None, typer.Option(help="A user field as name=value; may be repeated.")] = None,
    features: Annotated[
        str | None, typer.Option(help='Features of the context module, as a JSON object: {"hour": 20}.')
    ] = None,
    catalog: OtherCatalog = None,
    context_module: ContextModule = None,
    device: Device = DEVICE,
    as_json: Json = False,
) -> None:
    """Recommend items for one history."""
    require_model(checkpoint, catalog)
    lists = ids("exclude", exclude), allow or []
    named = {} if features is None else parse_json(features.encode(), "features", features)
    width = None if beam_width is None else read_for(k, "beam_width", beam_width)
    request = Request(ids("history", history), k, width, *lists, exclude_seen=exclude_seen, features=named)

    from octorec.engine.load import load

    options: Any = {"progress": said_of_gpu(device), "batch_sizes": (1,)}
    engine = load(checkpoint, catalog, device, context_module, **options)
    fields = user_fields(user or [], {field.name: field.kind for field in engine.user_fields})
    with said_with_commas():
        answer = engine.recommend([dataclasses.replace(request, user=fields)])[0]
    lines = [f"{rank:4d}  {score:8.4f}  {item:>8s}  {title}" for rank, (item, score, title) in enumerate(
        zip(answer.items, answer.scores, answer.titles, strict=True), 1)]  # fmt: skip
    lines += [f"note: {note}" for note in answer.notes]
    show(as_json, dataclasses.asdict(answer), *lines, _certified(answer))


def _certified(answer: Answer) -> str:
    """Say whether a wider beam could change an answer."""
    if answer.exact:
        return "exact: no other item that may be returned scores higher"
    return f"not exact: an item that was not found may score up to {answer.bound:.4f}; a wider beam would tell"
