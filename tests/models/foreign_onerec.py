"""OneRec-V2 as another program would have saved it: the map of docs/import.md undoes it."""

import re
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from octorec.models.names import disk_tensors
from octorec.models.onerec import OneRecV2

DOC = Path(__file__).parents[2] / "docs" / "import.md"
(MAP,) = re.findall(r"^```yaml\n(.*?)^```$", DOC.read_text(), re.S | re.M)


def foreign_tensors(model: OneRecV2, dtype: torch.dtype = torch.bfloat16) -> dict[str, Tensor]:
    """The tensors of a MoE model under names, orders and transposes that `MAP` undoes."""
    ours = {name: tensor if name.endswith("bias") else tensor.to(dtype) for name, tensor in disk_tensors(model).items()}
    out = {"start": ours["bos"], "slots": ours["position"], "ctx.age": ours["context.recency_embed.weight"]}
    out["ctx.proj"] = ours["context.proj.weight"].T
    blocks, levels = range(model.config.n_layer), range(len(model.codebook_sizes))
    for kind in ("cross", "self", "ffn"):
        out[f"norms.{kind}"] = torch.stack([ours[f"blocks.{b}.{kind}_norm.weight"] for b in blocks])
    for layer in range(model.config.l_kv):
        out[f"ctx.norm.{layer}"] = ours[f"key_norm.{layer}.weight"]
    for level in levels:
        out[f"ctx.codes.{level}"] = ours[f"context.code_embed.{level}.weight"]
        out[f"out.{level}.norm"] = ours[f"head_norm.{level}.weight"]
        out[f"out.{level}.head"] = ours[f"head.{level}.weight"].T
    for level in levels[:-1]:
        out[f"embed.{level}"] = ours[f"code_embed.{level}.weight"]
    for b in blocks:
        inside = {name.removeprefix(f"blocks.{b}."): tensor for name, tensor in ours.items()}
        out |= {f"layers.{b}.{name}": tensor for name, tensor in _layer(inside, b, model).items()}
    return {name: tensor.contiguous().clone() for name, tensor in out.items()}


def _layer(ours: dict[str, Tensor], b: int, model: OneRecV2) -> dict[str, Tensor]:
    out = {f"cross.{part}": ours[f"cross_attn.{part}_proj.weight"].T for part in ("q", "o")}
    out["self.kqv"] = torch.cat([ours[f"self_attn.{part}_proj.weight"] for part in ("k", "q", "v")]).T
    out["self.o"] = ours["self_attn.o_proj.weight"].T
    out["rotary.inv_freq"] = torch.ones(4)
    if b < model.config.dense_blocks:
        out[f"mlp.{b}.w13"] = torch.cat([ours["ffn.gate_proj.weight"], ours["ffn.up_proj.weight"]])
        return out | {f"mlp.{b}.w2": ours["ffn.down_proj.weight"]}
    out |= {"moe.gate": ours["ffn.router.weight"].T, "moe.bias": ours["ffn.router.bias"]}
    routed = [f"ffn.experts.{e}" for e in range(model.config.n_expert)]
    pairs = [torch.cat([ours[f"{e}.up_proj.weight"], ours[f"{e}.gate_proj.weight"]]).T for e in routed]
    out |= {"moe.w31": torch.stack(pairs), "moe.w2": torch.stack([ours[f"{e}.down_proj.weight"] for e in routed])}
    for e in range(model.config.n_shared):
        shared = f"ffn.shared_experts.{e}"
        out[f"shared.{e}.w13"] = torch.cat([ours[f"{shared}.gate_proj.weight"], ours[f"{shared}.up_proj.weight"]])
        out[f"shared.{e}.w2"] = ours[f"{shared}.down_proj.weight"]
    return out


def write_foreign(folder: Path, tensors: dict[str, Tensor], name_map: str = MAP) -> Path:
    """Write FOLDER/model.safetensors and, beside the folder, names.yaml."""
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    (folder.parent / "names.yaml").write_text(name_map)
    return folder
