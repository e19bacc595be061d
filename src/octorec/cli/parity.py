"""The verb that compares a folder's scores and beams with those of transformers."""

from typing import TYPE_CHECKING, Annotated

import typer

from octorec.cli.inputs import check_hold_out, predicted
from octorec.cli.options import Base, Checkpoint, Device, Interactions, Json, OtherCatalog, Predicted, one_or_more, show
from octorec.cli.tables import Columns, Sep, TimeFormat, table_format
from octorec.data.hold_out import HOLD_OUT
from octorec.engine.model_folder import require_model
from octorec.parity.limits import BEAM_WIDTH, REQUESTS, TOLERANCE, check_beam_width, check_tolerance
from octorec.progress_bar import counting
from octorec.settings import DEVICE
from octorec.terminal import say

if TYPE_CHECKING:
    from octorec.data.splits import Example
    from octorec.parity.folder import Opened


def parity(
    checkpoint: Checkpoint,
    data: Interactions,
    hold_out: Predicted = HOLD_OUT,
    requests: Annotated[
        int, typer.Option(help="Prompts to ask, of users spread over the data.", callback=one_or_more)
    ] = REQUESTS,
    beam_width: Annotated[int, typer.Option(help="Beams of each search.")] = BEAM_WIDTH,
    tolerance: Annotated[float, typer.Option(help="Difference of scores that counts as none, in nats.")] = TOLERANCE,
    domain: Annotated[str, typer.Option(help="Which begin token, where the model has one a domain.")] = "",
    free: Annotated[bool, typer.Option("--free/--no-free", help="Compare searches without the item trie too.")] = True,
    sep: Sep = None,
    columns: Columns = None,
    time_format: TimeFormat = None,
    catalog: OtherCatalog = None,
    base: Base = None,
    device: Device = DEVICE,
    as_json: Json = False,
) -> None:
    """Compare a language model's scores and beams with those of transformers, which runs it in float32.

    Exit code 0 parity, 3 no parity, 2 an error."""
    check_hold_out(hold_out)
    check_tolerance(tolerance)
    check_beam_width(beam_width)
    require_model(checkpoint, catalog)

    import transformers

    from octorec.parity.folder import open_ours
    from octorec.parity.run import compare
    from octorec.parity.theirs import open_model
    from octorec.report.transformers_parity import render_comparison

    transformers.logging.disable_progress_bar()
    opened = open_ours(checkpoint, catalog, device, base)
    _, examples, _ = predicted(data, hold_out, table_format(sep, columns, time_format))
    chosen = _chosen(opened, examples, requests)
    prompts = [opened.prompt(example.history, domain) for example in chosen]
    targets = opened.codes([example.target for example in chosen])
    say(f"ahead: {len(prompts):,} requests to OctoRec on {device} and to transformers {transformers.__version__}")
    theirs = open_model(checkpoint, device, base)
    with counting("comparing", "searches") as progress:
        found = compare(
            opened.ours,
            theirs,
            prompts,
            targets,
            beam_width,
            tolerance,
            opened.next_logits if free else None,
            opened.vocabulary,
            progress,
        )
    show(as_json, found.to_dict(), render_comparison(found))
    raise typer.Exit(found.exit_code)


def _chosen(opened: "Opened", examples: "list[Example]", requests: int) -> "list[Example]":
    """Return examples of known items, `requests` of them at most; how many items were unknown is said on stderr."""
    from octorec.evaluate.unknown import askable

    able, unknown = askable(examples, opened.ours.catalog.item_ids, {})
    for line in unknown.lines():
        say(f"note: {line}")
    return able[:: max(1, len(able) // requests)][:requests]
