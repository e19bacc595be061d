"""A load tool asks requests from a file, or with histories drawn from a catalog's items."""

from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet

from octorec.bench.config import BenchConfig
from octorec.errors import InputError
from octorec.reading import reason, require_file

DISTINCT = 4096  # drawn histories, taken in turn: a server keeps no answers


def bodies(config: BenchConfig) -> list[bytes]:
    """Return encoded bodies of POST /v1/recommend, at least one."""
    if config.requests is not None:
        return of_file(config.requests)
    assert config.catalog is not None
    return drawn(item_ids(config.catalog), config)


def of_file(path: str) -> list[bytes]:
    """Return each line's object as it is: the server's checks are part of what is measured."""
    require_file(path, "requests")
    try:
        lines = [line for line in Path(path).read_bytes().split(b"\n") if line.strip()]
    except OSError as error:
        raise InputError("requests", path, f"cannot be read ({error})") from error
    if not lines:
        raise InputError("requests", path, "holds no request")
    for number, line in enumerate(lines, 1):
        try:
            orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise InputError(
                f"{path}: request {number}", line.decode(errors="replace"), f"is no JSON ({error})"
            ) from error
    return lines


def item_ids(catalog: str) -> np.ndarray:
    """Return ids of a catalog folder's items that are not withdrawn, as objects."""
    path = Path(catalog) / "items.parquet"
    require_file(path, "catalog")
    try:
        items = pa.parquet.read_table(path, columns=["item_id", "live"])
        ids = items.filter(items["live"])["item_id"].to_numpy()
    except (OSError, ValueError, LookupError, pa.ArrowException) as error:
        raise InputError("catalog", catalog, f"has no items.parquet of a catalog ({reason(error)})") from error
    if len(ids) == 0:
        raise InputError("catalog", catalog, "has no item that is not withdrawn")
    return ids


def drawn(ids: np.ndarray, config: BenchConfig) -> list[bytes]:
    """Return bodies with histories of `history_length` items, each as likely as another."""
    places = np.random.default_rng(config.seed).integers(0, len(ids), (DISTINCT, config.history_length))
    asked = {"k": config.k, **({} if config.beam_width is None else {"beam_width": config.beam_width})}
    return [orjson.dumps({"history": ids[row].tolist(), **asked}) for row in places]
