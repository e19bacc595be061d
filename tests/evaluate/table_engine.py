"""An engine whose every answer is known: log-probabilities by the last item of the history, from a table."""

from types import SimpleNamespace

import numpy as np

from octorec.data.splits import Example
from octorec.engine.request import Answer, Request


class TableEngine:
    """log_probs [items, items, levels]: of the column's item after the row's; items are "0", "1", ..."""

    def __init__(self, log_probs, exclude_seen=True):
        self.exclude_seen = exclude_seen
        self.log_probs = np.asarray(log_probs, dtype=np.float32)
        self.catalog = SimpleNamespace(item_ids=[str(item) for item in range(len(log_probs))], interactions=None)
        self.recommended: list[Request] = []

    def recommend(self, requests):
        self.recommended += requests
        return [self._answer(request) for request in requests]

    def score(self, requests, targets):
        return np.stack([self.log_probs[self._last(r), int(t)] for r, t in zip(requests, targets, strict=True)])

    def _answer(self, request):
        sums = self.log_probs[self._last(request)].sum(-1)
        exclude_seen = self.exclude_seen if request.exclude_seen is None else request.exclude_seen
        gone = {*request.exclude, *(request.history if exclude_seen else ())}
        items = [str(item) for item in np.argsort(-sums, kind="stable") if str(item) not in gone]
        items = items[: request.k]
        scores = [float(sums[int(item)]) for item in items]
        return Answer(items, scores, [(int(i), 0) for i in items], items, len(items) == request.k)

    @staticmethod
    def _last(request):
        return int(request.history[-1])


def random_table(rng, items=40, levels=2):
    return np.log(rng.dirichlet(np.ones(items), (items, levels)).transpose(0, 2, 1))


def sampled_examples(rng, engine, users, targets=1):
    """Targets drawn from what the engine itself believes, so that its recall is well above chance."""
    items = len(engine.log_probs)
    out = []
    for user in range(users):
        for _ in range(targets):
            last = int(rng.integers(items))
            p = np.exp(engine.log_probs[last].sum(-1).astype(float))
            p[last] = 0
            out.append(Example(f"u{user}", (str(last),), str(rng.choice(items, p=p / p.sum()))))
    return out
