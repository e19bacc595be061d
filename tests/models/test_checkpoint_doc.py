"""docs/checkpoint.md names every tensor a checkpoint holds, with its shape and type, and no other."""

import re
from pathlib import Path

import pytest
import torch

from octorec.models.names import disk_tensors
from octorec.models.onerec import OneRecV2
from octorec.models.onerec_config import INTEGERS, OneRecConfig, UserField
from octorec.models.presets import preset
from octorec.models.weights import stored

DOC = Path(__file__).parents[2] / "docs" / "checkpoint.md"
ROW = re.compile(r"^\| `([^`]+)` \| \[([^|]+)\] \| (16 bit|float32)(?:, FP8 by `fp8`)? \|$", re.M)
FIELDS = (UserField("age", "number"), UserField("gender", "category", ("F", "M")))


def row_of(name: str) -> tuple[str, str, str]:
    """The table's row for a tensor's name: the letters l, b, k, e, f stand for numbers and field names."""
    rows = ROW.findall(DOC.read_text())
    found = [row for row in rows if re.fullmatch(re.sub(r"\.[lbkef]\b", r"\\.(\\d+|age|gender)", row[0]), name)]
    assert len(found) == 1, f"{name}: {found}"
    return found[0]


def letters(config: OneRecConfig, name: str) -> dict[str, int]:
    numbers = [int(part) for part in name.split(".") if part.isdigit()]
    keys = ("d_model", "embed_dim", "recency_buckets", "d_context", "n_expert")
    return {
        "L": len(config.codebook_sizes),
        "V_l": config.codebook_sizes[numbers[-1]] if numbers and "blocks" not in name else 0,
        "G": config.kv_slice,
        "F": config.ffn_width,
        "X": config.expert_width,
        "fields": len(FIELDS),
        "rows_f": 2 if "age" in name else 3,
        **{key: getattr(config, key) for key in keys},
    }


@pytest.mark.parametrize("s_kv", [1, 2])
def test_the_table_is_the_model(s_kv: int) -> None:
    model = OneRecV2(preset("tiny", s_kv=s_kv, l_kv=3, user_fields=FIELDS))
    seen = set()
    for name, tensor in disk_tensors(model).items():
        row, shape, kind = row_of(name)
        seen.add(row)
        assert tuple(eval(f"[{shape}]", letters(model.config, name))) == tuple(tensor.shape), name
        assert stored(name, tensor, torch.bfloat16).dtype == {"16 bit": torch.bfloat16, "float32": torch.float32}[kind]
    unused = {row[0] for row in ROW.findall(DOC.read_text())} - seen
    assert unused == (set() if s_kv == 2 else {"value_norm.k.weight"})


def test_the_limits_of_config_json_are_the_codes() -> None:
    text = DOC.read_text()
    for name, (least, most) in INTEGERS.items():
        row = next(line for line in text.splitlines() if line.startswith("| `") and f"`{name}`" in line.split("|")[1])
        said = row.split("|")[2]
        if f"{most:,}" not in said:  # another key's value, or a few numbers
            assert any(words in said for words in ("divisor", "`n_layer`", "`n_expert`", "1 or 2")), name
        assert f"{least} to" in said or "divisor" in said or name in ("s_kv", "top_k"), name
