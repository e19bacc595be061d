"""The work of OneRec-V2 on one batch: the context once, then a pass a level."""

from collections.abc import Iterator

from octorec.models.onerec_config import OneRecConfig
from octorec.models.work import Traffic, Work


def batch_work(config: OneRecConfig, batch: int, beam: int, context: int) -> Work:
    """Return the work of one batch of `batch` requests with `context` items each, and `beam` beams."""
    passes = [batch] + [batch * beam] * (len(config.codebook_sizes) - 1)

    def rows(name: str) -> list[int]:
        if name.startswith("context."):
            return [batch * context]
        if name.startswith("head."):
            return [passes[int(name.split(".")[1])]]
        return [batch * beam] if name.startswith("code_embed.") or name in ("bos", "position") else passes

    return Work(rows, tuple(_traffic(config, passes, batch * context)))


def _traffic(config: OneRecConfig, passes: list[int], items: int) -> Iterator[Traffic]:
    """Yield attention products, SwiGLU of the experts, and the beam step, which reads the scores once."""
    width = config.d_model
    kv = items * config.kv_slice * config.s_kv
    reached = (config.top_k + config.n_shared) * config.expert_width
    for level, (m, size) in enumerate(zip(passes, config.codebook_sizes, strict=True)):
        read, flops = float(m * width), 4.0 * m * width
        for at in range(config.n_layer):
            block = f"blocks.{at}"
            cross, own, down = (f"{block}.{name}" for name in ("cross_attn.o_proj", "self_attn.o_proj", EXPERT))
            yield Traffic("cross-attention products", 2 * read + kv, flops * items / passes[0], 2, cross, read)
            yield Traffic("self-attention products", read * (4 + 2 * level), flops * (level + 1), 2, own, read)
            if at >= config.dense_blocks:
                yield Traffic("SwiGLU", 3.0 * m * reached, 0.0, 2, down, float(m * reached))
        yield Traffic("beam step", float(m * size), width=4)


EXPERT = "ffn.experts.0.down_proj"
