"""The verb that answers one history, or one prompt."""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octorec.cli.inputs import said_of_gpu
from octorec.cli.options import (
    Base,
    BeamWidths,
    Capped,
    Catalogs,
    Checkpoint,
    ContextModule,
    Device,
    DistinctCodes,
    ExcludeSeen,
    Json,
    MaxCosine,
    caps_asked,
    one_or_several,
    show,
)
from octorec.cli.words import ids, messages_of, said_with_commas, token_ids, user_fields
from octorec.engine.model_folder import require_model
from octorec.engine.request import Answer, Request
from octorec.engine.widths import read_for
from octorec.files import parse_json
from octorec.settings import DEVICE

if TYPE_CHECKING:
    from octorec.engine.engine import Engine


def recommend(
    checkpoint: Checkpoint,
    history: Annotated[str, typer.Option(help="Item ids with commas, oldest first; none: what is popular.")] = "",
    k: Annotated[int, typer.Option(help="Items to return, at most the beam width.")] = Request.k,
    beam_width: BeamWidths = None,
    exclude: Annotated[str, typer.Option(help="Item ids never to return, with commas.")] = "",
    exclude_seen: ExcludeSeen = False,
    allow: Annotated[list[str] | None, typer.Option(help="A named item set to return from; may be repeated.")] = None,
    caps: Capped = None,
    distinct_codes: DistinctCodes = None,
    max_cosine: MaxCosine = None,
    user: Annotated[
        list[str] | None,
        typer.Option(help="A user field, or a text of the task's prompt, as name=value; may be repeated."),
    ] = None,
    features: Annotated[
        str | None, typer.Option(help='Features of the context module, as a JSON object: {"hour": 20}.')
    ] = None,
    messages: Annotated[
        str | None, typer.Option(help="A chat in the place of a history, as a JSON list of role and content.")
    ] = None,
    text: Annotated[str | None, typer.Option(help="A whole prompt in the place of a history.")] = None,
    input_ids: Annotated[str | None, typer.Option(help="The token ids of a whole prompt, with commas.")] = None,
    domain: Annotated[str, typer.Option(help="Whose catalog answers, of a model with several.")] = Request.domain,
    task: Annotated[str | None, typer.Option(help="Which of the model's prompts the history gets.")] = None,
    show_prompt: Annotated[bool, typer.Option("--show-prompt", help="Show the prompt as text and token ids.")] = False,
    catalog: Catalogs = None,
    base: Base = None,
    context_module: ContextModule = None,
    device: Device = DEVICE,
    as_json: Json = False,
) -> None:
    """Recommend items for one history, or for one prompt of a language model."""
    named = one_or_several(catalog)
    require_model(checkpoint, named)
    lists = ids("exclude", exclude), allow or []
    read = {} if features is None else parse_json(features.encode(), "features", features)
    width = None if beam_width is None else read_for(k, "beam_width", beam_width)
    prompt: dict[str, Any] = {"messages": messages_of(messages), "text": text, "input_ids": token_ids(input_ids)}
    about: dict[str, Any] = {"exclude_seen": exclude_seen, "features": read, "domain": domain, "task": task, **prompt}
    about |= {"caps": caps_asked(caps), "distinct_codes": distinct_codes, "max_cosine": max_cosine}
    request = Request(ids("history", history), k, width, *lists, **about)

    from octorec.engine.load import load

    options: Any = {"progress": said_of_gpu(device), "batch_sizes": (1,), "base": base}
    engine = load(checkpoint, named, device, context_module, **options)
    fields = user_fields(user or [], {field.name: field.kind for field in engine.user_fields})
    request = dataclasses.replace(request, user=fields)
    with said_with_commas():
        answer = engine.recommend([request])[0]
    shown = _prompt(engine, request) if show_prompt else {}
    lines = [f"{rank:4d}  {score:8.4f}  {item:>8s}  {title}" for rank, (item, score, title) in enumerate(
        zip(answer.items, answer.scores, answer.titles, strict=True), 1)]  # fmt: skip
    lines += [f"note: {note}" for note in answer.notes]
    prompts = shown.get("prompt", "").splitlines()
    show(as_json, dataclasses.asdict(answer) | shown, *prompts, *lines, _certified(answer))


def _prompt(engine: "Engine", request: Request) -> dict[str, Any]:
    """Return a request's prompt as text, and its token ids; nothing where the model reads none."""
    answering = engine.of(request)
    tokens = answering.parse(request).tokens
    if tokens is None or answering.prompts is None:
        return {}
    return {"prompt": answering.prompts.describe(tokens), "prompt_ids": tokens.tolist()}


def _certified(answer: Answer) -> str:
    """Say whether a wider beam could change an answer."""
    if answer.left_out:
        return "not exact: without caps other items that score higher would stand in the list"
    if answer.exact:
        return "exact: no other item that may be returned scores higher"
    return f"not exact: an item that was not found may score up to {answer.bound:.4f}; a wider beam would tell"
