"""The work of a Qwen model on one batch: prompts once, then a token a beam in each step."""

from collections.abc import Iterator

from octorec.models.qwen_config import QwenConfig
from octorec.models.work import Traffic, Work


def batch_work(config: QwenConfig, batch: int, beam: int, context: int) -> Work:
    """Return the work of one batch of `batch` prompts of `context` tokens each, and `beam` beams."""
    sids = config.sids
    steps = len(sids.levels) + (len(sids.end) if sids.scores_over == "vocabulary" else 0)
    passes = [batch * context] + [batch * beam] * (steps - 1)
    scored = [batch, *passes[1:]]  # a prompt's last token alone meets the head

    def rows(name: str) -> list[int]:
        if name.startswith("lm_head.") or name == "model.norm.weight":
            return scored
        return passes

    return Work(rows, tuple(_traffic(config, passes, scored, batch, context)))


def _traffic(config: QwenConfig, passes: list[int], scored: list[int], batch: int, context: int) -> Iterator[Traffic]:
    """Yield attention over prompts and beams, the heads of the levels, and the beam step, which reads scores once."""
    width, kv, sizes = config.q_width, 2 * config.kv_width, config.sids.codebook_sizes
    for step, m in enumerate(passes):
        mean = (context + 1) / 2 if step == 0 else context + step  # keys that a row reads
        read = batch * context * kv + (m * step * kv if step else 0)
        for layer in range(config.num_hidden_layers):
            product, written = f"model.layers.{layer}.self_attn.o_proj", float(m * width)
            yield Traffic("attention", 2 * written + m * kv + read, 4.0 * m * width * mean, 2, product, written)
        if step < len(sizes):
            size = sizes[step]
            product_flops = 2.0 * scored[step] * size * config.hidden_size
            yield Traffic("heads of levels", float(size * config.hidden_size), product_flops)
            yield Traffic("beam step", float(scored[step] * size), width=4)
