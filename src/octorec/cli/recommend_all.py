"""The verb that answers every user of a table."""

from pathlib import Path
from typing import Annotated, Any

import typer

from octorec.cli.command import kept
from octorec.cli.flags import with_flags
from octorec.cli.options import (
    A_TABLE,
    Base,
    Catalogs,
    Checkpoint,
    ContextModule,
    Device,
    Domain,
    ExcludeSeen,
    Json,
    UnknownItems,
    Users,
    one_or_several,
    show,
)
from octorec.cli.tables import Columns, Sep, TimeFormat
from octorec.data.table_format import INTERACTIONS, parse_format
from octorec.engine.model_folder import require_model
from octorec.errors import InputError
from octorec.offline.config import OfflineConfig
from octorec.output.claim import claimed_folder
from octorec.output.refuse import exists, refuse_within
from octorec.progress_bar import counting
from octorec.settings import DEVICE, given
from octorec.terminal import say

NAMES = ("history", "exclude", "text", "input_ids")  # of a table of users, beside user_id and the model's fields


@with_flags(OfflineConfig)
def recommend_all(
    command: typer.Context,
    checkpoint: Checkpoint,
    data: Annotated[
        Path,
        typer.Option(
            help="Users (Parquet, JSON lines): user_id and history, a list of item ids; or interactions.",
            callback=A_TABLE,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of Parquet files to write.")],
    users: Users = None,
    beam_width: Annotated[
        str | None, typer.Option(help="Beams at each level: a number; one a level, such as 128-256-512; or auto.")
    ] = None,
    exclude_seen: ExcludeSeen = OfflineConfig.exclude_seen,
    unknown_items: UnknownItems = OfflineConfig.unknown_items,
    allow: Annotated[list[str] | None, typer.Option(help="A named item set to return from; may be repeated.")] = None,
    domain: Domain = OfflineConfig.domain,
    sep: Sep = None,
    columns: Columns = None,
    time_format: TimeFormat = None,
    catalog: Catalogs = None,
    base: Base = None,
    context_module: ContextModule = None,
    device: Device = DEVICE,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what OUT holds already.")] = False,
    ray: Annotated[
        bool, typer.Option("--ray", help="On a Ray cluster, one actor a GPU. Needs the extra `ray`.")
    ] = False,
    as_json: Json = False,
    **flags: Any,
) -> None:
    """Recommend items for every user of a table, into Parquet files; --resume goes on after an interruption."""
    shared = {
        "exclude_seen": exclude_seen,
        "unknown_items": unknown_items,
        "allow": tuple(allow or ()),
        "domain": domain,
    }
    config = OfflineConfig(**given({**flags, **shared, "beam_width": beam_width}))
    named = one_or_several(catalog)
    require_model(checkpoint, named)
    if exists(out, "out") and not resume:
        raise InputError("out", str(out), "it exists already: choose another name, or go on with --resume")
    read = [checkpoint, data, *(path for path in (users, base) if path is not None)]
    command.with_resource(claimed_folder(out, resume, read))
    refuse_within(out)

    from octorec.offline.run import Job, recommend_all

    form = parse_format(sep, columns, time_format, dict.fromkeys([*INTERACTIONS, *NAMES]))
    job = Job(checkpoint, data, out, config, named, device, base, context_module, form, users)
    say(f"ahead: {config.k} items for every user of {data}, on {device}{' by Ray' if ray else ''}")
    with counting("recommending", "users") as progress:

        def opened(table: Any, before: int) -> None:
            say_unread(data, form, table)
            progress.pace.start(before, len(table))

        how: Any = {"progress": progress, "opened": opened}
        with kept(lambda: of_blocks(out)):
            if ray:
                from octorec.offline.ray_data import recommend_all as on_ray

                done = on_ray(job, **how)
            else:
                done = recommend_all(job, **how)
    show(as_json, done, *lines(done))


def say_unread(data: Path, form: Any, table: Any) -> None:
    """Say which columns of a table of users are not read, so that a name that was misspelt is noticed."""
    from octorec.data.tables import unread_names

    unread = unread_names(data, form, table.columns.values())
    if unread:
        say(f"note: {data}: not read: {', '.join(unread)}")


def of_blocks(out: Path) -> str:
    """Return what an interrupted run leaves."""
    count = len([*out.glob("part-*.parquet")])
    return f"{out} keeps {count} files: go on with --resume" if count else "no block was written yet"


def lines(done: dict[str, Any]) -> list[str]:
    """Say what was written."""
    said = [f"wrote {done['out']}: {done['users']:,} users in {done['blocks']:,} files"]
    if done["before"]:
        said.append(f"{done['before']:,} of them were there before")
    if done["answered"]:
        rate = done["answered"] / max(done["seconds"], 0.01)
        said.append(f"{done['answered']:,} users in {done['seconds']:,} s: {rate:,.0f}/s")
        said.append(f"exact: {done['exact'] / done['answered']:.1%} of these answers")
    if done["by_popularity"]:
        said.append(f"by popularity: {done['by_popularity']:,} users, of whom nothing is known")
    if done["left_out"]:
        said.append(f"left out: {done['left_out']:,} items of histories that the catalog lacks")
    return said
