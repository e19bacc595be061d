"""OneRec-V2's lazy decoder (arXiv 2508.20900), readable from top to bottom.

It keeps the promises of `models.model.Model`: `prefill` once a request, `decode` once a level.
Letters as in `kernels.ops`; L counts the levels of an item's codes.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from octorec.errors import InputError
from octorec.kernels import reference
from octorec.kernels.ops import Operand, Ops
from octorec.models.features import Features, features_of
from octorec.models.layers import CrossAttention, DenseFFN, Head, MoE, RMSNorm, SelfAttention
from octorec.models.model import Choose, Inputs, InputSpec, Logits, Reading, Step
from octorec.models.onerec_config import OneRecConfig
from octorec.models.onerec_context import ContextBatch, ContextProcessor
from octorec.models.onerec_own_context import made_context, own_context, require_context_module
from octorec.models.onerec_shapes import checked_config
from octorec.models.onerec_work import batch_work
from octorec.models.user import UserField
from octorec.models.work import Work

FEATURE = "features."  # before a feature's name among the inputs


@dataclass
class ContextKV:
    """A ContextKV holds what is kept of a batch between its levels.

    keys, values: a tensor [B, S, G, D] for each KV layer (the same one twice when S_kv = 1). lengths [B].
    past[block][level] [B, W_level, 3, H, D]: the q, k, v each level left for later ones; the last level leaves none.
    ancestors[level] [B, W]: the beam of that level which each present beam descends from.
    """

    keys: list[Tensor]
    values: list[Tensor]
    lengths: Tensor
    past: list[list[Tensor]]
    ancestors: list[Tensor] = field(default_factory=list)

    def follow(self, parents: Tensor) -> None:
        """Let `parents` [B, W] of the present beams take their place, as the beam of the level before each extends."""
        self.ancestors = [ancestor.gather(1, parents) for ancestor in self.ancestors] + [parents]


class Block(nn.Module):
    """A Block is one lazy decoder block: cross-attention, self-attention, FFN, each on the norm of the residual stream.

    A sublayer's last product adds its result to the stream, so that nothing reads or writes it for a sum alone.
    """

    def __init__(self, config: OneRecConfig, index: int, ops: Ops):
        super().__init__()
        width, eps = config.d_model, config.rms_eps
        self.kv_layer = index * config.l_kv // config.n_layer
        self.cross_norm = RMSNorm(width, eps, ops)
        self.cross_attn = CrossAttention(width, config.n_head, ops)
        self.self_norm = RMSNorm(width, eps, ops)
        self.self_attn = SelfAttention(width, config.n_head, ops)
        self.ffn_norm = RMSNorm(width, eps, ops)
        if index < config.dense_blocks:
            self.ffn: DenseFFN | MoE = DenseFFN(width, config.ffn_width, ops)
        else:
            self.ffn = MoE(config.n_expert, config.n_shared, config.top_k, width, config.expert_width, ops)

    def forward(self, h: Tensor, kv: ContextKV, attend: Callable[[Operand, Tensor], Tensor]) -> Tensor:
        """Map the residual stream h [T, C] -> the same. attend(x, h): h plus the self-attention of x."""
        x = self.cross_norm(h, self.cross_attn.q_proj.input_granularity)
        h = self.cross_attn(x, kv.keys[self.kv_layer], kv.values[self.kv_layer], kv.lengths, h)
        h = attend(self.self_norm(h, self.self_attn.qkv_proj.input_granularity), h)
        return self.ffn(self.ffn_norm(h, self.ffn.input_granularity), h)


class OneRecV2(nn.Module):
    """OneRecV2 is the whole model. `ops` are the operations it runs on; the references by default.

    context_module: the class of a context module of the user's, in the place of ContextProcessor.
    """

    def __init__(self, config: OneRecConfig, ops: Ops = reference, context_module: type[nn.Module] | None = None):
        super().__init__()
        width = config.d_model
        self.config = config
        if context_module is None:
            require_context_module(config)
            self.context: Any = ContextProcessor(config, ops)
        else:
            self.context = own_context(context_module, config, ops)
        self.key_norm = nn.ModuleList([RMSNorm(config.kv_slice, config.rms_eps, ops) for _ in range(config.l_kv)])
        self.value_norm = nn.ModuleList(
            [RMSNorm(config.kv_slice, config.rms_eps, ops) for _ in range(config.l_kv * (config.s_kv - 1))]
        )
        self.bos = nn.Parameter(torch.empty(width))
        self.position = nn.Parameter(torch.empty(len(config.codebook_sizes), width))
        self.code_embed = nn.ModuleList([nn.Embedding(size, width) for size in config.codebook_sizes[:-1]])
        self.blocks = nn.ModuleList([Block(config, index, ops) for index in range(config.n_layer)])
        self.head_norm = nn.ModuleList([RMSNorm(width, config.rms_eps, ops) for _ in config.codebook_sizes])
        self.head = nn.ModuleList([Head(width, size, ops) for size in config.codebook_sizes])
        self.ops = ops

    @staticmethod
    def read_config(raw: dict[str, Any], shapes: Mapping[str, tuple[int, ...]], where: str) -> OneRecConfig:
        """Read config.json's object; raises as `onerec_shapes.checked_config` does."""
        return checked_config(raw, shapes, where)

    @staticmethod
    def parse(raw: dict[str, Any]) -> OneRecConfig:
        """Read config.json's object, without a look at the tensors."""
        return OneRecConfig.from_dict(raw)

    @staticmethod
    def work(config: OneRecConfig, batch: int, beam: int, context: int) -> Work:
        """Say what a batch computes; see `onerec_work`."""
        return batch_work(config, batch, beam, context)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return self.config.codebook_sizes

    @property
    def codebook_fingerprint(self) -> str | None:
        return self.config.codebook_fingerprint

    @property
    def max_history(self) -> int:
        return self.config.max_context

    @property
    def user_fields(self) -> tuple[UserField, ...]:
        return self.config.user_fields

    @property
    def features(self) -> Features:
        """Return the features that its context module reads of a request, by name."""
        return features_of(self.context)

    @property
    def steps(self) -> tuple[Step, ...]:
        """Return one choice a level."""
        return tuple(Choose(level) for level in range(len(self.codebook_sizes)))

    def inputs(self, longest: int) -> dict[str, InputSpec]:
        """Describe the tensors of a `ContextBatch`; a row without a request has one item of code 0, blank features."""
        own = {
            FEATURE + name: InputSpec(one.shape, getattr(torch, one.dtype), one.blank or 0)
            for name, one in self.features.items()
        }
        return {
            "lengths": InputSpec((), torch.int64, 1),
            "codes": InputSpec((longest, len(self.codebook_sizes)), torch.int64),
            "user": InputSpec((len(self.user_fields),), torch.float32),
            **own,
        }

    def write(self, reading: Reading, put: Callable[[str, np.ndarray], None]) -> None:
        put("lengths", np.array(len(reading.codes), np.int64))
        put("codes", reading.codes)
        put("user", np.array(reading.user, np.float32))
        for name, values in reading.features.items():
            put(FEATURE + name, values)

    def prefill(self, inputs: Inputs) -> ContextKV:
        return self.encode_context(_batch(inputs))

    def decode(self, step: int, codes: Tensor | None, parents: Tensor | None, state: ContextKV) -> Logits:
        return Logits(self.decode_level(step, codes, parents, state))

    def forced(self, inputs: Inputs, codes: Tensor) -> list[Logits]:
        return [Logits(logits[:, None]) for logits in self(_batch(inputs), codes)]

    def data_rows(self, inputs: Inputs) -> dict[str, Tensor]:
        """Context items beyond a request's length are padding; what a module of the user's computes on is not known."""
        if self.config.context_module is not None:
            return {}
        positions = torch.arange(inputs["codes"].shape[1], device=inputs["lengths"].device)
        return {"context.proj": (positions < inputs["lengths"][:, None]).flatten()}

    def encode_context(self, batch: ContextBatch) -> ContextKV:
        """Compute the keys and values every level of the batch will read."""
        if batch.context is not None:
            return self.context_kv(batch.context, batch.lengths)
        if self.config.context_module is not None:
            return self.context_kv(*made_context(self.context, batch, self.config.d_context, self.bos.dtype))
        return self.context_kv(self.context(batch), batch.lengths)

    def context_kv(self, context: Tensor, lengths: Tensor) -> ContextKV:
        """Split context [B, S, d_context] into normed keys and values (section 3): no projection, no encoder."""
        config = self.config
        if context.shape[-1] != config.d_context:
            raise InputError("context", tuple(context.shape), f"the last dimension must be {config.d_context}")
        slices = context.unflatten(-1, (config.l_kv, config.s_kv, config.kv_slice))
        heads = (config.groups, config.d_head)
        keys = [norm(slices[:, :, layer, 0]).unflatten(-1, heads) for layer, norm in enumerate(self.key_norm)]
        values = [norm(slices[:, :, layer, 1]).unflatten(-1, heads) for layer, norm in enumerate(self.value_norm)]
        return ContextKV(keys, values or keys, lengths, past=[[] for _ in self.blocks])

    def decode_level(self, level: int, codes: Tensor | None, parents: Tensor | None, kv: ContextKV) -> Tensor:
        """Return logits [B, W, V_level] float32 of the next code of each beam.

        codes [B, W] extend the beams `parents` [B, W] of the level before; both None at level 0, where W is 1.
        """
        batch = len(kv.lengths)
        if codes is None or parents is None:
            h = self.bos.expand(batch, 1, -1)
        else:
            kv.follow(parents)
            h = self.code_embed[level - 1](codes)
        h = (h + self.position[level]).flatten(0, 1)  # [B*W, C]
        keep = level + 1 < len(self.codebook_sizes)
        for block, past in zip(self.blocks, kv.past, strict=True):
            assert isinstance(block, Block)
            h = block(h, kv, partial(_step, block.self_attn, kv, past, keep))
        return self._logits(level, h).unflatten(0, (batch, -1))

    def forward(self, batch: ContextBatch, codes: Tensor) -> list[Tensor]:
        """Return, for training, logits [B, V_l] of every level l, each given the true codes [B, L] before it."""
        kv = self.encode_context(batch)
        size = len(codes)
        slots = [self.bos.expand(size, -1)] + [embed(codes[:, i]) for i, embed in enumerate(self.code_embed)]
        h = (torch.stack(slots, 1) + self.position).flatten(0, 1)  # [B*L, C]
        for block in self.blocks:
            assert isinstance(block, Block)
            h = block(h, kv, partial(block.self_attn, batch=size))
        h = h.unflatten(0, (size, -1))  # [B, L, C]
        return [self._logits(level, h[:, level]) for level in range(codes.shape[1])]

    def _logits(self, level: int, h: Tensor) -> Tensor:
        head = self.head[level]
        assert isinstance(head, Head)
        return self.ops.head(self.head_norm[level](h), head.weight)


def _batch(inputs: Inputs) -> ContextBatch:
    features = {name.removeprefix(FEATURE): given for name, given in inputs.items() if name.startswith(FEATURE)}
    return ContextBatch(inputs["lengths"], inputs["codes"], inputs["user"], features=features)


def _step(attention: SelfAttention, kv: ContextKV, past: list[Tensor], keep: bool, x: Operand, h: Tensor) -> Tensor:
    """Run one level of a block's self-attention, which leaves its q, k, v in `past` where a later level reads them."""
    h, qkv = attention.step(x, h, len(kv.lengths), past, kv.ancestors)
    if keep:
        past.append(qkv)
    return h


def initialize(model: OneRecV2, seed: int) -> None:
    """Draw normal weights of deviation 0.02, output projections' divided by sqrt(2 * layers) (GPT-2's rule)."""
    generator = torch.Generator(device=model.bos.device).manual_seed(seed)
    depth = math.sqrt(2 * model.config.n_layer)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.ones_(parameter)
            continue
        output = name.endswith(("o_proj.weight", "down_proj.weight", "down_proj"))
        torch.nn.init.normal_(parameter, std=0.02 / depth if output else 0.02, generator=generator)


def block_params(config: OneRecConfig) -> tuple[int, int]:
    """Count parameters in attention, FFN and expert matrices: (all, active for one row), as the published sizes do."""
    width = config.d_model
    attention = config.n_layer * 6 * width * width
    dense = config.dense_blocks * 3 * width * config.ffn_width
    expert = (config.n_layer - config.dense_blocks) * 3 * width * config.expert_width
    total = attention + dense + expert * (config.n_expert + config.n_shared)
    return total, attention + dense + expert * (config.top_k + config.n_shared)
