"""Our side of the comparison: a model behind the seam, searched and scored as an engine does, one prompt at a time.

Letters: n sequences, T ids of a prompt, L levels, W beams.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from octorec.catalog.catalog import Catalog
from octorec.engine.device_catalog import DeviceCatalog
from octorec.engine.search import SearchBatch, score, search
from octorec.kernels import reference
from octorec.kernels.ops import DEAD, NodeFilter, Ops
from octorec.models.model import Inputs, Model, Reading, blank_inputs
from octorec.models.sid_tokens import SidTokens
from octorec.parity.beams import Beam, item_tokens

ROWS = 64  # sequences in one batch of scores


@dataclass(frozen=True, eq=False)
class Ours:
    """Ours is a model that reads tokens, over the items of a catalog. sids: how its vocabulary writes them.

    ops: the operations that the model was made with. device: where it lies.
    """

    model: Model
    catalog: Catalog
    sids: SidTokens
    ops: Ops = reference
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @torch.inference_mode()
    def scores(self, prompts: Sequence[np.ndarray], codes: np.ndarray) -> np.ndarray:
        """Return the log-probabilities [n, scored steps] float32 of items with `codes` [n, L], one a prompt."""
        found = []
        for start in range(0, len(prompts), ROWS):
            some = torch.from_numpy(codes[start : start + ROWS]).to(self.device)
            found.append(score(self.model, self._inputs(prompts[start : start + ROWS]), some).cpu())
        return torch.cat(found).numpy()

    @torch.inference_mode()
    def beams(self, prompt: np.ndarray, beam_width: int) -> list[Beam]:
        """Return the beams of the search among the catalog's live items, the best first: at most `beam_width`."""
        trie, levels = DeviceCatalog(self.catalog, len(self.catalog), self.device), len(self.catalog.codebook_sizes)
        batch = SearchBatch(
            self._inputs([prompt]),
            roots=torch.full((1, 1), trie.first_nodes[0], device=self.device),
            widths=torch.full((levels, 1), beam_width, device=self.device),
            filters=(self._no_filter(trie.set_words),) * levels,
        )
        found = search(self.model, trie.levels, batch, (beam_width,) * levels, self.ops)
        alive = found.nodes[0] != DEAD
        leaves = found.nodes[0][alive].cpu().numpy() - trie.first_nodes[-1]
        first = self.catalog.codes[self.catalog.trie.leaf_items[leaves]].astype(np.int64)  # of each leaf's items
        tokens = item_tokens(self.sids, torch.from_numpy(first)).tolist()
        return [Beam(tuple(row), one) for row, one in zip(tokens, found.scores[0][alive].tolist(), strict=True)]

    def _inputs(self, prompts: Sequence[np.ndarray]) -> Inputs:
        """Return what the model reads of prompts, on its device."""
        inputs = blank_inputs(self.model.inputs(max(map(len, prompts))), len(prompts))
        nothing = np.full((1, len(self.catalog.codebook_sizes)), -1, np.int64)
        for row, prompt in enumerate(prompts):

            def put(name: str, values: np.ndarray, row: int = row) -> None:
                inputs[name][row].view(-1)[: values.size] = torch.from_numpy(values.ravel())

            self.model.write(Reading(nothing, (), tokens=prompt), put)
        return {name: tensor.to(self.device) for name, tensor in inputs.items()}

    def _no_filter(self, words: int) -> NodeFilter:
        """Return the filter of a request that may be given every item."""
        return NodeFilter(
            torch.zeros(0, dtype=torch.int32, device=self.device),
            torch.zeros(2, dtype=torch.int64, device=self.device),
            torch.zeros(1, words, dtype=torch.int64, device=self.device),
            torch.zeros(1, dtype=torch.bool, device=self.device),
        )
