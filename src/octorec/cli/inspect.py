"""The verb `octorec inspect` says what a folder holds before anything of it is loaded."""

from pathlib import Path
from typing import Annotated

import typer

from octorec.cli.options import AN_INSPECTED, Json, show


def inspect(
    folder: Annotated[
        Path, typer.Argument(help="Checkpoint folder of any family, or an adapter's.", callback=AN_INSPECTED)
    ],
    as_json: Json = False,
) -> None:
    """Show a folder's tokens of items, shapes and types; no weight is read. Exit code 2: no layout is known of them."""
    from octorec.models.inspected import inspect_folder
    from octorec.report.inspected import render

    found = inspect_folder(folder)
    show(as_json, found.to_dict(), *render(found))
    if found.refused is not None:
        raise found.refused
