"""Beam search without a trie: any token of the vocabulary may come. Only the comparison with transformers uses it.

It recomputes nothing and keeps nothing of a model: a function gives the logits that follow sequences of ids.

Letters: n sequences, T ids of a sequence, V rows of the vocabulary, W beams.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from octorec.parity.beams import Beam

NextLogits = Callable[[Tensor], Tensor]  # ids [n, T] int64 -> logits [n, V] float32 of the id that follows each


@torch.inference_mode()
def free_search(
    next_logits: NextLogits,
    prompt: np.ndarray,
    steps: int,
    beam_width: int,
    length_penalty: float = 0.0,
    vocabulary: int | None = None,
    stop: Sequence[int] = (),
) -> list[Beam]:
    """Return at most `beam_width` sequences of at most `steps` tokens after `prompt` [T] int64, the best first.

    A sequence ends with a token of `stop`, or after `steps` tokens; it ranks by its sum of log-probabilities over the
    whole vocabulary, divided by (its tokens) ** length_penalty. Ids from `vocabulary` on have no token and are never
    chosen. Rules are those of transformers' search with early_stopping=False: of the (1 + number of stop tokens) W best
    extensions, 2 W at least, those that end count if they are among the first W; the best W others go on, until the
    best of them, divided by the present length's penalty, cannot come before the last of W that ended.
    """
    before, ends = torch.from_numpy(prompt), torch.tensor(list(stop), dtype=torch.int64)
    paths, scores, found = torch.empty(1, 0, dtype=torch.int64), torch.zeros(1), list[tuple[float, Beam]]()
    for length in range(1, steps + 1):
        ids = torch.cat([before.expand(len(paths), -1), paths], 1)
        log_p = next_logits(ids).float().log_softmax(-1).cpu()[:, :vocabulary]
        sums = (scores[:, None] + log_p).flatten()
        best, places = sums.topk(min(max(2, 1 + len(ends)) * beam_width, len(sums)))
        paths = torch.cat([paths[places // log_p.shape[1]], places[:, None] % log_p.shape[1]], 1)
        ended = torch.isin(paths[:, -1], ends) | (length == steps)
        new = [Beam(tuple(paths[at].tolist()), float(best[at])) for at in ended[:beam_width].nonzero()[:, 0].tolist()]
        found += [(beam.score / length**length_penalty, beam) for beam in new]
        found = sorted(found, key=lambda one: -one[0])[:beam_width]
        paths, scores = paths[~ended][:beam_width], best[~ended][:beam_width]
        if not len(paths) or (len(found) == beam_width and float(scores[0]) / length**length_penalty <= found[-1][0]):
            break
    return [beam for _, beam in found]
