"""These are the verbs of `octorec catalog`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from octorec.catalog.sizes import CODEBOOK_SIZES
from octorec.cli import leads
from octorec.cli.items import items_app
from octorec.cli.options import A_CATALOG_FOLDER, A_FILE, A_SHOWN, A_TABLE, Force, HoldOut, Json, claim, show
from octorec.cli.tables import Columns, Sep, TimeFormat, items_format, table_format
from octorec.data.hold_out import HOLD_OUT
from octorec.engine.model_folder import catalog_within
from octorec.errors import InputError
from octorec.progress_bar import counting
from octorec.settings import SEED
from octorec.terminal import say

Embeddings = Annotated[
    Path | None,
    typer.Option(help="Vectors of your own, .npy [items, width]; no interactions are needed then.", callback=A_FILE),
]
EmbeddingIds = Annotated[
    Path | None,
    typer.Option(
        help="Item ids of --embeddings, one a row: .txt, .json, .npy, or a table with item_id.", callback=A_TABLE
    ),
]

SIZES = ",".join(map(str, CODEBOOK_SIZES))

catalog_app = typer.Typer(no_args_is_help=True, help="Semantic IDs: build or import a catalog, change its items.")
catalog_app.add_typer(items_app)


@catalog_app.command("build")
def catalog_build(
    command: typer.Context,
    out: Annotated[Path, typer.Option(help="Catalog folder to write.")],
    data: Annotated[Path | None, typer.Option(help="Interactions, for co-occurrence.", callback=A_TABLE)] = None,
    items: Annotated[
        Path | None, typer.Option(help="Items: item_id and any of title, sets, vector.", callback=A_TABLE)
    ] = None,
    embeddings: Embeddings = None,
    embedding_ids: EmbeddingIds = None,
    codebook_sizes: Annotated[str, typer.Option(help="Codes a level, with commas.")] = SIZES,
    sep: Sep = None,
    columns: Columns = None,
    time_format: TimeFormat = None,
    hold_out: HoldOut = HOLD_OUT,
    unique: Annotated[bool, typer.Option("--unique", help="Give every item a tuple of its own.")] = False,
    seed: Annotated[int, typer.Option(help="Of the clustering.")] = SEED,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Give items semantic IDs by residual k-means over their vectors."""
    claim(command, out, force, data, items, embeddings, embedding_ids)
    if not any((data, items, embeddings, embedding_ids)):
        raise InputError("data", None, "give --data, --items or both, or --embeddings")
    sizes = _sizes(codebook_sizes)

    from octorec.catalog.build import build_catalog, check_seed
    from octorec.catalog.codebook import check_sizes
    from octorec.data.items import read_items
    from octorec.data.splits import training_part

    check_sizes(sizes)
    check_seed(seed)
    form = table_format(sep, columns, time_format, items=True)
    interactions = leads.reading(data, form) if data else None
    if interactions:
        leads.of_training(interactions, hold_out)
    known = read_items(items, items_format(form, beside=data is not None)) if items else None
    known = _with_vectors(known, embeddings, embedding_ids)
    if known is not None:
        say(f"{items or embeddings}: {known.num_rows:,} items with {', '.join(known.column_names[1:]) or 'ids alone'}")
    say(f"ahead: {len(sizes)} levels of {', '.join(map(str, sizes))} codes by residual k-means")
    with counting("building", "steps") as progress:
        made = build_catalog(interactions, known, sizes, seed, unique, progress, hold_out)
    made.save(out, force)
    met = training_part(interactions, hold_out).table["item_id"].unique() if interactions and made.learned else None
    show_catalog(as_json, made, out, None if met is None else len(made) - len(met))


@catalog_app.command("assign")
def catalog_assign(
    command: typer.Context,
    catalog: Annotated[Path, typer.Option(help="Catalog folder to start from.", callback=A_CATALOG_FOLDER)],
    out: Annotated[Path, typer.Option(help="Catalog folder to write.")],
    items: Annotated[
        Path | None, typer.Option(help="New items: item_id and any of title, sets, vector.", callback=A_TABLE)
    ] = None,
    embeddings: Embeddings = None,
    embedding_ids: EmbeddingIds = None,
    sep: Sep = None,
    columns: Columns = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Give new items codes by the saved centroids; no old item's codes move."""
    claim(command, out, force, catalog, items, embeddings, embedding_ids)

    from octorec.catalog.build import assign
    from octorec.catalog.catalog import Catalog
    from octorec.data.items import read_items

    form = items_format(table_format(sep, columns, None, items=True))
    new = _with_vectors(read_items(items, form) if items else None, embeddings, embedding_ids)
    if new is None:
        raise InputError("items", None, "give --items, --embeddings or both")
    made = assign(Catalog.load(catalog), new)
    made.save(out, force)
    show_catalog(as_json, made, out)


@catalog_app.command("import")
def catalog_import(
    command: typer.Context,
    index: Annotated[Path, typer.Option(help="An .index.json, sid2pid.json, pid2sid Parquet, ...", callback=A_FILE)],
    out: Annotated[Path, typer.Option(help="Catalog folder to write.")],
    items: Annotated[Path | None, typer.Option(help="Titles and sets of the items.", callback=A_TABLE)] = None,
    codebook_sizes: Annotated[
        str | None, typer.Option(help="Codes a level; those of --base, or inferred, if not given.")
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(
            help="Imported catalog before this one: models that answer from it take both.", callback=A_CATALOG_FOLDER
        ),
    ] = None,
    sep: Sep = None,
    columns: Columns = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Read semantic IDs that another project made."""
    claim(command, out, force, index, items, base)
    sizes = _sizes(codebook_sizes) if codebook_sizes else None

    from octorec.catalog.catalog import Catalog
    from octorec.catalog.foreign import import_catalog
    from octorec.data.items import read_items

    before = Catalog.load(base) if base else None
    form = items_format(table_format(sep, columns, None, items=True))
    made = import_catalog(index, read_items(items, form) if items else None, sizes, before)
    made.save(out, force)
    show_catalog(as_json, made, out)


@catalog_app.command("show")
def catalog_show(
    catalog: Annotated[
        Path, typer.Argument(help="Catalog folder or file, or a checkpoint with one.", callback=A_SHOWN)
    ],
    items: Annotated[list[str], typer.Argument(help="Item ids, or words of a title that one item has.")],
    neighbours: Annotated[int, typer.Option(help="Items to name that share most codes with each.")] = 5,
    as_json: Json = False,
) -> None:
    """Show items: title, codes, named sets, whether withdrawn, and the items that share most codes with them."""
    if neighbours < 0:
        raise InputError("neighbours", neighbours, "must be 0 or more")

    from octorec.catalog.foreign import open_catalog
    from octorec.catalog.show import about_item, find_item

    loaded = open_catalog(catalog_within(catalog))
    found = [about_item(loaded, find_item(loaded, item), neighbours) for item in items]
    lines = [line for about in found for line in ("", *about.lines())][1:]
    show(as_json, {"items": [about.to_dict() for about in found]}, *lines)


def show_catalog(as_json: bool, catalog: Any, out: Path, not_met: int | None = None) -> None:
    """Show what a catalog holds. not_met: items of it that no interaction met which was learned from."""
    fit = catalog.codebook and catalog.codebook.fit
    about = {
        "items": len(catalog),
        "sharing": catalog.n_sharing,
        "codebook_sizes": list(catalog.codebook_sizes),
        "fingerprint": catalog.fingerprint,
        "version": catalog.version,
        "learned": catalog.learned and catalog.learned.to_dict(),
        "not_met": not_met,
        "fit": fit and asdict(fit),
    }
    shared = f"{about['items']} items, {about['sharing']} on shared tuples"
    lines = [f"wrote {out}: {shared}, codebook {about['fingerprint']}"]
    if fit:
        lines.append(str(fit))
    if catalog.learned:
        held = f"the newest {catalog.learned.hold_out} of each user held out"
        lines.append(f"learned from {catalog.learned.interactions:,} interactions, {held}")
    if not_met:
        how = "their codes come from attributes, or else from their ids"
        lines.append(f"{not_met:,} items are met in none of them: {how}")
    show(as_json, about, *lines)


def _with_vectors(items: Any, embeddings: Path | None, ids: Path | None) -> Any:
    """Return the item table with the vectors of two files, where they are given; else as it is."""
    from octorec.data.embeddings import read_embeddings, with_embeddings

    if embeddings is None and ids is None:
        return items
    if embeddings is None or ids is None:
        missing = "embeddings" if embeddings is None else "embedding_ids"
        raise InputError(missing, None, "--embeddings and --embedding-ids are given together")
    return with_embeddings(items, read_embeddings(embeddings, ids))


def _sizes(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError("codebook_sizes", text, "must be integers with commas, one a level") from None
