"""Files of the benchmarks' forms are made of a made folder: rows whose answers are known."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from octorec.catalog.catalog import Catalog
from tests.qwen.made_models import Made

COLUMNS = ["user_id", "history_item_title", "item_title", "history_item_id", "item_id", "history_item_sid", "item_sid"]
TOKENS = {"openonerec": "<s_{}_{}>", "onereason": "<s_{}_{}>", "minionerec": "<{}_{}>"}


def shared_catalog(made: Made, folder: Path) -> Catalog:
    """Save the made catalog as sid2pid.json with two items of each semantic ID; ids are numbers, and return it."""
    from octorec.catalog.foreign import read

    raw: dict[str, Any] = {}
    for number, codes in enumerate(made.catalog.codes.tolist()):
        key = str(sum(code * 8192 ** (2 - level) for level, code in enumerate(codes)))
        raw.setdefault(key, []).append(_item(2 * number + 1, 9))
        raw[key].append(_item(2 * number + 2, 3))
    path = folder / "sid2pid.json"
    path.write_text(json.dumps(raw))
    return read(path, made.catalog.codebook_sizes)


def _item(pid: int, count: int) -> dict[str, int]:
    return {"pid": pid, "count": count, "count_after_downsample": count}


def sid_text(codes: Any, layout: str = "openonerec") -> str:
    """Return a semantic ID as the rows write it."""
    text = "".join(TOKENS[layout].format("abc"[level], code) for level, code in enumerate(codes))
    return f"<|sid_begin|>{text}<|sid_end|>" if layout == "openonerec" else text


def recif_row(uid: Any, history: Any, answers: Any, items: list[int], **more: Any) -> dict[str, str]:
    """Return a row as RecIF has them. history, answers: codes of items."""
    words = "根据以下用户浏览记录，请预测用户接下来可能观看的内容：\n" + "".join(map(sid_text, history))
    parts = [{"type": "text", "text": words}]
    messages = [{"role": "system", "content": "你是推荐助手"}, {"role": "user", "content": parts}]
    about = {"answer": "".join(map(sid_text, answers)), "uid": uid, "answer_pid": items} | more
    return {"messages": json.dumps(messages), "metadata": json.dumps(about)}


def write_recif(path: Path, rows: list[dict[str, str]]) -> Path:
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


def write_minionerec(path: Path, made: Made, users: int, changed: dict[str, str] | None = None) -> Path:
    """Write a row a user: the newest item is the target."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for user, items in list(made.interactions.histories().items())[:users]:
            *history, target = items
            sids = [sid_text(codes, "minionerec") for codes in made.codes(items).tolist()]
            values = [user, str(history), "t", str(history), target, str(sids[:-1]), sids[-1]]
            writer.writerow(dict(zip(COLUMNS, values, strict=True)) | (changed or {}))
    return path
