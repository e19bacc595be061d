"""The verbs of `octorec catalog`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from octorec import leads
from octorec.cli_options import Force, HoldOut, Json, show
from octorec.data.hold_out import HOLD_OUT
from octorec.errors import InputError
from octorec.progress import counting
from octorec.terminal import say

catalog_app = typer.Typer(no_args_is_help=True, help="Semantic IDs: build a catalog, add items to it, import one.")


@catalog_app.command("build")
def catalog_build(
    out: Annotated[Path, typer.Option(help="Catalog folder to write.")],
    data: Annotated[Path | None, typer.Option(help="Interactions, for co-occurrence.")] = None,
    items: Annotated[Path | None, typer.Option(help="Items: item_id and any of title, sets, vector.")] = None,
    codebook_sizes: Annotated[str, typer.Option(help="Codes a level, with commas.")] = "8192,8192,8192",
    hold_out: HoldOut = HOLD_OUT,
    unique: Annotated[bool, typer.Option("--unique", help="Give every item a tuple of its own.")] = False,
    seed: Annotated[int, typer.Option(help="Of the clustering.")] = 0,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Give items semantic IDs by residual k-means over their vectors."""
    from octorec.catalog.build import build_catalog
    from octorec.data.items import read_items
    from octorec.data.splits import training_part
    from octorec.files import refuse_existing

    refuse_existing(out, force)
    if data is None and items is None:
        raise InputError("data", None, "give --data, --items or both")
    sizes = _sizes(codebook_sizes)
    interactions = leads.reading(data) if data else None
    if interactions:
        leads.of_training(interactions, hold_out)
    table = read_items(items) if items else None
    if table is not None:
        say(f"{items}: {table.num_rows:,} items with {', '.join(table.column_names[1:]) or 'nothing but ids'}")
    say(f"ahead: {len(sizes)} levels of {', '.join(map(str, sizes))} codes by residual k-means")
    with counting("building", "steps") as progress:
        made = build_catalog(interactions, table, sizes, seed, unique, progress, hold_out)
    made.save(out, force)
    met = training_part(interactions, hold_out).table["item_id"].unique() if interactions and made.learned else None
    show_catalog(as_json, made, out, None if met is None else len(made) - len(met))


@catalog_app.command("assign")
def catalog_assign(
    catalog: Annotated[Path, typer.Option(help="Catalog folder to start from.")],
    items: Annotated[Path, typer.Option(help="New items: item_id and any of title, sets, vector.")],
    out: Annotated[Path, typer.Option(help="Catalog folder to write.")],
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Give new items codes by the saved centroids; no old item's codes move."""
    from octorec.catalog.build import assign
    from octorec.catalog.catalog import Catalog
    from octorec.data.items import read_items
    from octorec.files import refuse_existing

    refuse_existing(out, force)
    made = assign(Catalog.load(catalog), read_items(items))
    made.save(out, force)
    show_catalog(as_json, made, out)


@catalog_app.command("import")
def catalog_import(
    index: Annotated[Path, typer.Option(help="A MiniOneRec or LETTER .index.json.")],
    out: Annotated[Path, typer.Option(help="Catalog folder to write.")],
    items: Annotated[Path | None, typer.Option(help="Titles and sets of the items.")] = None,
    codebook_sizes: Annotated[
        str | None, typer.Option(help="Codes a level; those of --base, or inferred, if not given.")
    ] = None,
    base: Annotated[
        Path | None, typer.Option(help="Imported catalog before this one: models that answer from it take both.")
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Read semantic IDs that another project made."""
    from octorec.catalog.catalog import Catalog
    from octorec.catalog.index_json import read_index
    from octorec.data.items import read_items
    from octorec.files import refuse_existing

    refuse_existing(out, force)
    sizes = _sizes(codebook_sizes) if codebook_sizes else None
    before = Catalog.load(base) if base else None
    made = read_index(index, read_items(items) if items else None, sizes, before)
    made.save(out, force)
    show_catalog(as_json, made, out)


def show_catalog(as_json: bool, catalog: Any, out: Path, not_met: int | None = None) -> None:
    """What a catalog holds. not_met: items of it that no interaction met which was learned from."""
    about = {
        "items": len(catalog),
        "sharing": catalog.n_sharing,
        "codebook_sizes": list(catalog.codebook_sizes),
        "fingerprint": catalog.fingerprint,
        "version": catalog.version,
        "learned": catalog.learned and catalog.learned.to_dict(),
        "not_met": not_met,
    }
    shared = f"{about['items']} items, {about['sharing']} on shared tuples"
    lines = [f"wrote {out}: {shared}, codebook {about['fingerprint']}"]
    if catalog.learned:
        held = f"the newest {catalog.learned.hold_out} of each user held out"
        lines.append(f"learned from {catalog.learned.interactions:,} interactions, {held}")
    if not_met:
        how = "their codes come from attributes, or else from their ids"
        lines.append(f"{not_met:,} items are met in none of them: {how}")
    show(as_json, about, *lines)


def _sizes(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError("codebook_sizes", text, "must be integers with commas, one a level") from None
