"""The verbs of `octorec catalog` that change items of a folder: upsert, withdraw, restore."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from octorec.cli_options import A_CATALOG, A_TABLE, Force, Json, claim, show
from octorec.cli_tables import Columns, Sep, items_format, table_format
from octorec.data.table_format import TableFormat
from octorec.errors import InputError

items_app = typer.Typer()

Folder = Annotated[Path, typer.Argument(help="Catalog folder to start from.", callback=A_CATALOG)]
Ids = Annotated[
    Path, typer.Option("--items", help="Parquet, CSV or JSON lines with a column item_id.", callback=A_TABLE)
]
Out = Annotated[Path | None, typer.Option(help="Catalog folder to write.")]
InPlace = Annotated[bool, typer.Option("--in-place", help="Replace CATALOG itself, at the very end and as a whole.")]
FORMS = (
    "Parquet, CSV or JSON lines: item_id and any of title, sets, vector, codes, live. What is null or missing stays."
)


@items_app.command("upsert")
def catalog_upsert(
    command: typer.Context,
    catalog: Folder,
    items: Annotated[Path, typer.Option(help=FORMS, callback=A_TABLE)],
    withdraw: Annotated[
        Path | None, typer.Option(help="Items to withdraw with it: a table with item_id.", callback=A_TABLE)
    ] = None,
    restore: Annotated[
        Path | None, typer.Option(help="Items to restore with it: a table with item_id.", callback=A_TABLE)
    ] = None,
    out: Out = None,
    in_place: InPlace = False,
    sep: Sep = None,
    columns: Columns = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Add items and change items, all or none; codes move only where an item is given a vector or codes."""
    files = {"upserts": items, "withdrawn": withdraw, "restored": restore}
    form = table_format(sep, columns, None, items=True)
    _change(command, catalog, files, form, out, in_place, force, as_json)


@items_app.command("withdraw")
def catalog_withdraw(
    command: typer.Context,
    catalog: Folder,
    items: Ids,
    out: Out = None,
    in_place: InPlace = False,
    sep: Sep = None,
    columns: Columns = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Withdraw items, all or none: no answer has them, and histories still know them."""
    form = table_format(sep, columns, None, items=True)
    _change(command, catalog, {"withdrawn": items}, form, out, in_place, force, as_json)


@items_app.command("restore")
def catalog_restore(
    command: typer.Context,
    catalog: Folder,
    items: Ids,
    out: Out = None,
    in_place: InPlace = False,
    sep: Sep = None,
    columns: Columns = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Restore withdrawn items, all or none, with the codes that they had."""
    form = table_format(sep, columns, None, items=True)
    _change(command, catalog, {"restored": items}, form, out, in_place, force, as_json)


def _change(
    command: typer.Context,
    folder: Path,
    files: dict[str, Path | None],
    form: TableFormat,
    out: Path | None,
    in_place: bool,
    force: bool,
    as_json: bool,
) -> None:
    if (out is None) != in_place:
        raise InputError("out", out and str(out), "give --out NEW, or --in-place to replace CATALOG; not both")
    target = folder if out is None else out
    claim(command, target, force or in_place, None if in_place else folder, *files.values())

    from octorec.catalog.catalog import Catalog
    from octorec.catalog.change import change_items

    before = Catalog.load(folder)
    read = {name: _read(name, path, form) for name, path in files.items() if path}
    after, change = change_items(before, **read, source=str(files.get("upserts")))
    if out is not None or after is not before:
        after.save(target, force or in_place)
    counts = asdict(change)
    about = {"items": len(after), "live_items": int(after.live.sum()), "version": after.version}
    was = f"version {before.version}, now {after.version}" if after is not before else f"still version {after.version}"
    live = f"{about['live_items']:,} of {len(after):,} items may be recommended"
    show(as_json, {**counts, **about, "previous_version": before.version}, f"{target}: {change}; {live}; {was}")


def _read(name: str, path: Path, form: TableFormat) -> Any:
    from octorec.data.items import COLUMNS, item_ids
    from octorec.data.tables import read_table

    if name == "upserts":
        return read_table(path, ["item_id"], COLUMNS, inferred=["live"], form=items_format(form))
    return item_ids(
        read_table(path, ["item_id"], ["item_id"], form=form.of("items", ["item_id"], beside=False)), str(path)
    )
