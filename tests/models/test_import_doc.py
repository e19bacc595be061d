"""docs/import.md lists modules that a run calls, with the shapes of their outputs."""

import re

import pytest
import torch
from torch import Tensor

from octorec.models.onerec import OneRecV2
from octorec.models.presets import preset
from tests.models.foreign_onerec import DOC

B, S = 2, 5
ROW = re.compile(r"^\| ([^|]*`[^|]*) \| \[([^|]+)\] \|", re.M)
TABLE = DOC.read_text().split("| module of OneRec-V2 |")[1].split("\n\n")[0]
MODULES = [(name, shape) for names, shape in ROW.findall(TABLE) for name in re.findall("`([^`]+)`", names)]


@pytest.fixture(scope="module")
def outputs() -> tuple[OneRecV2, dict[str, Tensor]]:
    model = OneRecV2(preset("tiny", s_kv=2))
    found: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        module.register_forward_hook(lambda module, given, output, name=name: found.update({name: output}))
    codes = torch.zeros(B, S, 3).long()
    model.forced({"lengths": torch.full((B,), S), "codes": codes, "user": torch.zeros(B, 0)}, codes[:, 0])
    return model, found


@pytest.mark.parametrize(("name", "shape"), MODULES)
def test_a_listed_module_gives_what_the_page_says(
    outputs: tuple[OneRecV2, dict[str, Tensor]], name: str, shape: str
) -> None:
    model, found = outputs
    config = model.config
    sizes = {"B": B, "S": S, "T": B * len(model.codebook_sizes), "d_ff": config.ffn_width, "g_kv": config.groups}
    sizes |= {key: getattr(config, key) for key in ("d_model", "d_head", "d_context")}
    wanted = [eval(part, {}, sizes) for part in shape.split(",")]
    output = found[re.sub(r"\.[bkl]\b", ".0", name)]
    assert output.shape[-1] == wanted[-1]
    assert output.numel() == torch.Size(wanted).numel()


def test_the_page_lists_modules() -> None:
    assert len(MODULES) == 15
