"""The verb `octorec widths`: how wide a beam must be for exact answers, as a table that `auto` begins by."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from octorec.cli.inputs import known_users, predicted, said_of_gpu, without_features
from octorec.cli.options import (
    Base,
    Checkpoint,
    ContextModule,
    Device,
    Interactions,
    Json,
    Limit,
    OtherCatalog,
    Users,
    show,
)
from octorec.cli.tables import Columns, Sep, TimeFormat, table_format
from octorec.data.hold_out import HOLD_OUT
from octorec.engine.model_folder import checkpoint_version, require_model
from octorec.engine.starts_file import claimed_starts, write_starts
from octorec.engine.widths import choices
from octorec.evaluate.cutoffs import read_lengths
from octorec.progress_bar import counting
from octorec.settings import DEVICE
from octorec.terminal import say

if TYPE_CHECKING:
    from octorec.evaluate.beam_starts import MeasuredWidths

WIDTHS = "16,32,64,128,256,512"
LIMIT = 1000


def widths(
    command: typer.Context,
    checkpoint: Checkpoint,
    data: Interactions,
    k: Annotated[str, typer.Option(help="Numbers of items to measure for, with commas.")] = "10,50,100",
    beam_widths: Annotated[str, typer.Option(help="Beam widths to choose from, ascending.")] = WIDTHS,
    limit: Limit = LIMIT,
    users: Users = None,
    catalog: OtherCatalog = None,
    base: Base = None,
    context_module: ContextModule = None,
    device: Device = DEVICE,
    sep: Sep = None,
    columns: Columns = None,
    time_format: TimeFormat = None,
    as_json: Json = False,
) -> None:
    """Measure how wide beams must be for exact answers; a file beside CHECKPOINT says where `auto` then begins."""
    require_model(checkpoint, catalog)
    asked = read_lengths(k)
    given = choices(asked, beam_widths)
    command.with_resource(claimed_starts(checkpoint))
    form = table_format(sep, columns, time_format)

    from octorec.engine.load import load
    from octorec.engine.request import Request
    from octorec.evaluate.beam_starts import measure_widths
    from octorec.evaluate.unknown import askable

    _, examples, _ = predicted(data, HOLD_OUT, form, limit)
    shapes: dict[str, Any] = {"beam_widths": given, "default_beam_width": given[-1]}
    loading: dict[str, Any] = {"progress": said_of_gpu(device), "context_module": context_module, "base": base}
    engine = load(checkpoint, catalog, device, **shapes, **loading)
    without_features(engine.features)
    known = known_users(users, engine.user_fields, (example.user_id for example in examples), form)
    examples, unknown = askable(examples, engine.catalog.item_ids, known)
    for line in unknown.lines():
        say(line)
    requests = [Request(example.history, user=known.get(example.user_id, {})) for example in examples]
    with counting("searching", "requests") as progress:
        measured = measure_widths(engine, requests, asked, progress)
    made_from = {"checkpoint": checkpoint_version(checkpoint), "catalog": engine.catalog.version, "device": device}
    about = {**made_from, **measured.to_dict()}
    path = write_starts(checkpoint, measured.starts, about)
    show(as_json, about, *_lines(measured, asked, device), f"wrote {path}")


def _lines(measured: "MeasuredWidths", ks: tuple[int, ...], device: str) -> list[str]:
    """Return the table as a person reads it."""
    head = f"share of {measured.requests:,} answers that are certified exact; batches of {measured.batch} on {device}"
    lines = [head, "beam width  ms a batch  " + "  ".join(f"k {k:>5}" for k in ks)]
    for one in measured.widths:
        shares = (f"{one.certified[k]:>7.1%}" if k in one.certified else f"{'-':>7}" for k in ks)
        lines.append(f"{one.beam_width:>10}  {one.ms:>10.1f}  {'  '.join(shares)}")
    return lines + [f"auto begins k {k} with {width} beams" for k, width in measured.starts.widths.items()]
