"""Three verbs of `octorec catalog` change items of a folder: upsert, withdraw, restore."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from octorec.cli.options import A_CATALOG_FOLDER, A_TABLE, Force, Json, claim, show
from octorec.cli.tables import Columns, Sep, items_format, table_format
from octorec.data.table_format import TableFormat
from octorec.errors import InputError

items_app = typer.Typer()

Folder = Annotated[Path, typer.Argument(help="Catalog folder to start from.", callback=A_CATALOG_FOLDER)]
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
    target = _target(command, catalog, out, in_place, force, items, withdraw, restore)
    form = table_format(sep, columns, None, items=True)
    _change(catalog, target, as_json, form, upserts=items, withdrawn=withdraw, restored=restore)


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
    target = _target(command, catalog, out, in_place, force, items)
    _change(catalog, target, as_json, table_format(sep, columns, None, items=True), withdrawn=items)


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
    target = _target(command, catalog, out, in_place, force, items)
    _change(catalog, target, as_json, table_format(sep, columns, None, items=True), restored=items)


def _target(
    command: typer.Context, folder: Path, out: Path | None, in_place: bool, force: bool, *inputs: Path | None
) -> Path:
    """Return the folder to write, claimed until the verb ends."""
    if (out is None) != in_place:
        raise InputError("out", out and str(out), "give --out NEW, or --in-place to replace CATALOG; not both")
    claim(command, out or folder, force or in_place, out and folder, *inputs, in_place=in_place)
    return out or folder


def _change(folder: Path, target: Path, as_json: bool, form: TableFormat, **files: Path | None) -> None:
    from octorec.catalog.catalog import Catalog
    from octorec.catalog.change import change_items

    before = Catalog.load(folder)
    read = {name: _read(name, path, form) for name, path in files.items() if path}
    after, change = change_items(before, **read, source=str(files.get("upserts")))
    if after is not before or target != folder:
        after.save(target, force=True)  # the claim on it says whether something may be there
    live = int(after.live.sum())
    about = {"items": len(after), "live_items": live, "version": after.version, "previous_version": before.version}
    was = f"version {before.version}, now {after.version}" if after is not before else f"still version {after.version}"
    line = f"{target}: {change}; {live:,} of {len(after):,} items may be recommended; {was}"
    show(as_json, {**asdict(change), **about}, line)


def _read(name: str, path: Path, form: TableFormat) -> Any:
    from octorec.data.items import COLUMNS, item_ids
    from octorec.data.tables import read_table

    if name == "upserts":
        return read_table(path, ["item_id"], COLUMNS, inferred=["live", "interactions"], form=items_format(form))
    return item_ids(
        read_table(path, ["item_id"], ["item_id"], form=form.of("items", ["item_id"], beside=False)), str(path)
    )
