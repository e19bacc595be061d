"""The engine: a model and a catalog that answer requests.

The same code runs on the CPU through the reference operations and on a GPU through the kernels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from octorec.catalog.catalog import Catalog
from octorec.engine.batch import Limits, ParsedRequest, model_inputs, parse
from octorec.engine.buckets import Bucket
from octorec.engine.config import EngineConfig as EngineConfig
from octorec.engine.device_catalog import DeviceCatalog
from octorec.engine.graph import BucketCost, GraphedSearch
from octorec.engine.items import lookup
from octorec.engine.limits import MOST_SEEN
from octorec.engine.policy import BeamStarts, Policy
from octorec.engine.rank import Found, Ranked, by_popularity
from octorec.engine.request import Answer, Request, id_list, request_list
from octorec.engine.search import SearchBatch, Searched, score, scored, search
from octorec.engine.staging import Staging
from octorec.engine.widths import Width, Widths
from octorec.errors import InputError, NonFiniteError
from octorec.kernels import reference
from octorec.kernels.ops import Ops
from octorec.models.features import Features, any_features, features_of
from octorec.models.model import Inputs, Model
from octorec.models.user import UserField


class Engine:
    """Answers requests with `model` over `catalog`. `octorec.load` makes one from a checkpoint folder.

    checkpoint: how errors name the model, its folder. starts: how wide `auto` begins; None: nothing was measured.
    """

    def __init__(
        self,
        model: Model,
        catalog: Catalog,
        config: EngineConfig,
        device: str | torch.device = "cpu",
        ops: Ops = reference,
        checkpoint: str = "of this engine",
        starts: BeamStarts | None = None,
    ):
        self.model, self.config, self.ops, self.checkpoint = model, config, ops, checkpoint
        self.device = torch.device(device)
        ops.check_device(self.device)
        config.check(model, ops)
        self.device_catalog = DeviceCatalog(catalog, config.room(catalog), self.device)
        buckets = config.buckets(len(model.codebook_sizes))
        self.policy = Policy(buckets, config.default_beam_width, starts or BeamStarts())
        self._graphs: dict[Bucket, GraphedSearch] = {}

    @property
    def max_history(self) -> int:
        """How many items of a history are read, the newest."""
        return self.config.longest(self.model)

    @property
    def user_fields(self) -> tuple[UserField, ...]:
        """What the model reads of a user."""
        return self.model.user_fields

    @property
    def features(self) -> Features:
        """What the model reads of a request by name."""
        return features_of(self.model)

    @property
    def catalog(self) -> Catalog:
        """The version that answers."""
        return self.device_catalog.catalog

    @property
    def exclude_seen(self) -> bool:
        """Whether requests that do not say are given no item of their history."""
        return self.config.exclude_seen

    def check_catalog(self, catalog: Catalog) -> None:
        """Raise what `replace_catalog` would, and change nothing."""
        self.device_catalog.check(catalog)

    def replace_catalog(self, catalog: Catalog) -> None:
        """Answer from another version of the catalog from the next call on; not while `recommend` runs.

        Captures nothing again. Raises MismatchError for another codebook and InputError where `max_items` is too few;
        the old version then goes on.
        """
        self.device_catalog.replace(catalog)

    @torch.inference_mode()
    def warm_up(self) -> list[BucketCost]:
        """Compile and capture every bucket, so that no request waits for it. Nothing to do on the CPU."""
        if self.device.type != "cuda":
            return []
        return [self.captured(bucket).cost for bucket in self.buckets()]

    def captured(self, bucket: Bucket) -> GraphedSearch:
        """The search of a bucket as a CUDA graph; it is captured now if it was not. On a GPU alone."""
        if bucket not in self._graphs:
            pool = next((graph.graph.pool() for graph in self._graphs.values()), None)
            example = self.staged([self.parse(self.any_request())], bucket.size)
            run = partial(self._search, widths=bucket.widths)
            self._graphs[bucket] = GraphedSearch(run, bucket, example, self.device, pool)
        return self._graphs[bucket]

    def cost(self, bucket: Bucket) -> BucketCost | None:
        """What capturing a bucket cost; None where nothing was captured, as on the CPU."""
        graph = self._graphs.get(bucket)
        return None if graph is None else graph.cost

    def buckets(self) -> list[Bucket]:
        """Every shape of a batch, the largest first: its capture makes the memory pool of the others."""
        return self.policy.buckets.all()

    @torch.inference_mode()
    def recommend(self, requests: Sequence[Request]) -> list[Answer]:
        """The best items of each request; a request's answer does not depend on the others beside it.

        All are checked before the first is searched for; what is no list of Requests is an InputError. One without a
        history, user fields and features is answered by popularity, not by the device. A batch's answers are made while
        the device runs the next.
        Where the model's scores of a request are NaN or infinity, a NonFiniteError says of which, and brings the
        others' answers.
        """
        requests = request_list(requests)
        parsed = [self.parse(request) for request in requests]
        answers: list[Any] = [None] * len(parsed)
        broken: list[int] = []
        todo = {number: one for number, one in enumerate(parsed) if one.source == "model"}
        while todo:
            todo = self._searched_once(todo, answers, broken)
        for number, one in enumerate(parsed):
            if one.source == "popularity":
                answers[number] = by_popularity(one).answer()
        if broken:
            broken.sort()
            whose = _whose(requests, broken[0])
            raise NonFiniteError(self.checkpoint, broken, whose, answers)
        return answers

    def _searched_once(
        self, todo: Mapping[int, ParsedRequest], answers: list[Any], broken: list[int]
    ) -> dict[int, ParsedRequest]:
        """Search for each request once, and put its answer or its number in its place; what is to be repeated wider.

        A batch is answered while the device runs the next.
        """
        again: dict[int, ParsedRequest] = {}

        def answer(batch: Sequence[int], found: Found) -> None:
            for row, number in enumerate(batch):
                if not found.finite(row):
                    broken.append(number)
                    continue
                ranked = found.ranked(row, todo[number])
                if (wider := self.wider(ranked)) is None:
                    answers[number] = ranked.answer()
                else:
                    again[number] = wider

        before = None
        for batch in self.policy.buckets.batches({number: one.widths for number, one in todo.items()}):
            wait = self.launch([todo[number] for number in batch])
            if before is not None:
                answer(*before)
            before = batch, wait()
        if before is not None:
            answer(*before)
        return again

    def wider(self, ranked: Ranked) -> ParsedRequest | None:
        """The same request with wider beams, where it asks for an exact answer and this one is not certified."""
        request = ranked.request
        if not request.auto or ranked.exact:
            return None
        widths = self.policy.wider(request.widths, ranked.scores.tolist(), request.k)
        return None if widths is None else replace(request, widths=widths)

    def any_request(self, beam_width: Width = 1) -> Request:
        """A request that the engine can surely answer: the catalog's first item, and zeros for what must be given."""
        features = any_features(self.features)
        return Request([self.catalog.item_ids[0]], k=1, beam_width=beam_width, features=features)

    def parse(self, request: Request, drop_unknown: bool = False) -> ParsedRequest:
        """Check a request against the catalog that answers now, on the host. See `batch.parse`."""
        config = self.config
        excluded = config.max_exclude, config.exclude_seen
        limits = Limits(self.max_history, self.user_fields, self.policy, *excluded, self.features)
        return parse(request, self.catalog, limits, drop_unknown)

    def search(self, parsed: Sequence[ParsedRequest]) -> Found:
        """The beams of the requests of one batch, parsed with the catalog that answers now.

        This alone needs the device; `Found.ranked` makes the answers, on any thread.
        """
        return self.launch(parsed)()

    @torch.inference_mode()
    def launch(self, parsed: Sequence[ParsedRequest]) -> Callable[[], Found]:
        """Start a search, and get what waits for its end: one at a time. Without a GPU all the work is in the wait."""
        assert all(request.catalog is self.catalog for request in parsed), "parse anew after replace_catalog"
        bucket = self.bucket_of(parsed)
        first_leaf = self.device_catalog.first_nodes[-1]
        if self.device.type == "cuda":
            graph = self.captured(bucket)
            self._fill(graph.staging, parsed)
            search = graph.launch()
        else:
            search = partial(self._searched, self.staged(parsed, bucket.size), bucket.widths)

        def found() -> Found:
            searched = search()
            columns = searched.scores.numpy(), searched.nodes.numpy(), searched.bounds.numpy()
            return Found(*columns, first_leaf, self.checkpoint)

        return found

    def bucket_of(self, parsed: Sequence[ParsedRequest]) -> Bucket:
        """The shape of the batch that these requests make: on a GPU the smallest bucket, else what they take."""
        widths = [request.widths for request in parsed]
        if self.device.type != "cuda":
            return Bucket(len(parsed), tuple(map(max, zip(*widths, strict=True))))
        beams = self.policy.buckets.together(widths)
        return Bucket(self.policy.buckets.size_of(len(parsed), beams), beams)

    @torch.inference_mode()
    def score(self, requests: Sequence[Request], targets: Sequence[str]) -> np.ndarray:
        """Teacher-forced log-probabilities of the targets' codes given the histories: [n, scored steps] float32.

        targets: an item id for each request; as in a history, text, or integers that are read as text.
        Raises NonFiniteError where a level's log-probabilities, of the target or of another code, are not finite.
        """
        requests, targets, size = request_list(requests), id_list("targets", targets), self.config.batch_sizes[-1]
        if len(targets) != len(requests):
            raise InputError("targets", f"{len(targets)} of {len(requests)} requests", "give one item id a request")
        out = [np.zeros((0, len(scored(self.model.steps))), dtype=np.float32)]
        for start in range(0, len(requests), size):
            chunk = requests[start : start + size]
            room = next(room for room in self.config.batch_sizes if room >= len(chunk))
            inputs, codes = self.forced_batch(chunk, targets[start : start + size], room)
            out.append(score(self.model, inputs, codes)[: len(chunk)].cpu().numpy())
        scores = np.concatenate(out)
        broken = np.flatnonzero(np.isnan(scores).any(1)).tolist()
        if broken:
            raise NonFiniteError(self.checkpoint, broken, _whose(requests, broken[0]))
        return scores

    def forced_batch(
        self, requests: Sequence[Request], targets: Sequence[str], size: int | None = None
    ) -> tuple[Inputs, torch.Tensor]:
        """What a model reads of requests, and the codes [B, levels] of their true answers.

        Filled up to `size` requests; None: as many as there are.
        """
        codes = self.catalog.codes[lookup(self.catalog, "targets", targets)].astype(np.int64)
        parsed = [self.parse(request) for request in requests]
        if any(request.source != "model" for request in parsed):
            allowed = "nothing to score by: give at least one item, or user fields or features of the model"
            raise InputError("history", [], allowed)
        size = len(parsed) if size is None else size
        forced = np.zeros((size, codes.shape[1]), dtype=np.int64)
        forced[: len(codes)] = codes
        inputs = model_inputs(self.model, parsed, size, self.max_history, self.device)
        return inputs, torch.from_numpy(forced).to(self.device)

    def staged(self, parsed: Sequence[ParsedRequest], size: int) -> Staging:
        """The tensors of a batch of up to `size` requests, on the host."""
        on_gpu = self.device.type == "cuda"  # there once for all batches, else for this one
        most = size * (self.config.max_exclude + MOST_SEEN)
        room = most if on_gpu else sum(len(nodes) for request in parsed for nodes in request.banned)
        set_words = self.device_catalog.set_words
        staging = Staging(self.model, self.max_history, size, room, set_words, pinned=on_gpu)
        self._fill(staging, parsed)
        return staging

    def _fill(self, staging: Staging, parsed: Sequence[ParsedRequest]) -> None:
        staging.fill(parsed, self.device_catalog.first_nodes)

    def _search(self, batch: SearchBatch, widths: Widths) -> Searched:
        return search(self.model, self.device_catalog.levels, batch, widths, self.ops)

    @torch.inference_mode()
    def _searched(self, staging: Staging, widths: Widths) -> Searched:
        """The same without a graph."""
        return self._search(staging.batch(), widths)


def _whose(requests: Sequence[Request], place: int) -> str:
    history = requests[place].history
    ends = f", whose history ends with {history[-1][:40]!r}" if history else ""
    return f"request {place + 1} of {len(requests)}{ends}"
