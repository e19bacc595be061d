"""The engine: a model and a catalog that answer requests.

The same code runs on the CPU through the reference operations and on a GPU through the kernels.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from octorec.catalog.catalog import Catalog
from octorec.engine.batch import Limits, LookedUp, ParsedRequest, model_inputs, parse, parse_all
from octorec.engine.batches import fitting, searched_once
from octorec.engine.buckets import Bucket
from octorec.engine.config import EngineConfig as EngineConfig
from octorec.engine.desk import Desk, wider
from octorec.engine.device_catalog import DeviceCatalog
from octorec.engine.graph import BucketCost, GraphedSearch
from octorec.engine.items import lookup
from octorec.engine.limits import MOST_SEEN
from octorec.engine.policy import BeamStarts, Policy
from octorec.engine.prefix_cache import PrefixCache
from octorec.engine.probe import any_request, measured_margin
from octorec.engine.prompted import domain_of, prompting
from octorec.engine.rank import Found, Ranked
from octorec.engine.reader import Memory, Reader
from octorec.engine.request import Answer, Request, id_list, request_list
from octorec.engine.search import SearchBatch, Searched, score, scored, search, searched
from octorec.engine.staging import Staging
from octorec.engine.widths import Width, Widths
from octorec.errors import InputError, NonFiniteError
from octorec.kernels import reference
from octorec.kernels.ops import Ops
from octorec.models.features import Features, features_of
from octorec.models.model import Inputs, Model, max_tokens, token_model
from octorec.models.prompts import Prompts
from octorec.models.user import UserField


class Engine:
    """An Engine answers requests with `model` over `catalog`. `octorec.load` makes one from a checkpoint folder.

    checkpoint: how errors name the model, its folder. starts: how wide `auto` begins; None: nothing was measured.
    prompts: of a model that reads tokens; None: it reads codes. reader: another engine's of the same weights; None
    makes one, where the model reads prompts in parts.
    domains: engines by domain, where a model has several catalogs: this one and others of the same weights. `recommend`
    of any of them asks the one that a request is for.
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
        prompts: Prompts | None = None,
        reader: Reader | None = None,
    ):
        self.model, self.config, self.ops, self.checkpoint = model, config, ops, checkpoint
        self.device = torch.device(device)
        ops.check_device(self.device)
        config.check(model, ops)
        self.device_catalog = DeviceCatalog(catalog, config.room(catalog), self.device)
        buckets = config.buckets(len(model.codebook_sizes))
        self.policy = Policy(buckets, config.default_beam_width, starts or BeamStarts())
        self._graphs: dict[Bucket, GraphedSearch] = {}
        self.graphed = self.rows_are_fixed  # without graphs kernels are launched one by one, as for a comparison
        self.margin = 0.0
        self.prompts = prompts
        self.reader = self._new_reader() if reader is None else reader
        self.domains: Mapping[str, Engine] = {}

    @property
    def max_history(self) -> int:
        """Return how many items of a history are read, the newest."""
        return self.config.max_history(self.model)

    @property
    def longest(self) -> int:
        """Return how much the model is given of a request: items of a history, or tokens of a prompt."""
        return self.config.longest(self.model)

    @property
    def most_tokens(self) -> int:
        """Return how many tokens the prompts of a batch have at most; 0 for a model that reads codes."""
        return 0 if max_tokens(self.model) is None else self.config.most_tokens(self.model)

    @property
    def prefixes(self) -> PrefixCache | None:
        """Return what keeps the beginnings of prompts; None where nothing does."""
        return None if self.reader is None else self.reader.cache

    @property
    def user_fields(self) -> tuple[UserField, ...]:
        """Return the user fields that the model reads."""
        return self.model.user_fields

    @property
    def features(self) -> Features:
        """Return the features that the model reads of a request, by name."""
        return features_of(self.model)

    @property
    def catalog(self) -> Catalog:
        """Return the catalog version that answers."""
        return self.device_catalog.catalog

    @property
    def exclude_seen(self) -> bool:
        """Say whether requests that do not say are given no item of their history."""
        return self.config.exclude_seen

    def of(self, request: Request) -> "Engine":
        """Return the engine whose catalog answers a request; this one where there are no others.

        Raises InputError for a request that names no domain where one must be named, or one without a catalog.
        """
        if not self.domains:
            return self
        assert self.prompts is not None
        return self.domains[domain_of(request, self.prompts)]

    @property
    def own_domains(self) -> list[str]:
        """Return the domains that this engine's catalog answers, where there are several engines."""
        return [domain for domain, engine in self.domains.items() if engine is self]

    def check_catalog(self, catalog: Catalog) -> None:
        """Raise what `replace_catalog` would, and change nothing."""
        self.device_catalog.check(catalog)

    def replace_catalog(self, catalog: Catalog) -> None:
        """Let another version of the catalog answer from the next call on; not while `recommend` runs.

        It captures nothing again. Raises MismatchError for another codebook and InputError where `max_items` is too
        few; the old version then goes on.
        """
        self.device_catalog.replace(catalog)

    @torch.inference_mode()
    def warm_up(self) -> list[BucketCost]:
        """Compile and capture every bucket, so that no request waits for it. On the CPU there is nothing to do."""
        if not self.rows_are_fixed:
            return []
        costs = [self.captured(bucket).cost for bucket in self.buckets()]
        for room in reversed(self.rooms):
            self.capture_room(room)
        self.measure_margin()
        return costs

    def measure_margin(self) -> None:
        """Measure by how much scores differ between buckets, and call no answer exact from now on that is within that.

        `margin` becomes twice the largest difference of a code tuple's score, among the beams that some items of the
        catalog as histories get in every bucket. It is 0 where products give a row the same bits in every batch.
        """
        self.margin = 0.0
        self.margin = measured_margin(self)

    def captured(self, bucket: Bucket) -> GraphedSearch:
        """Return the search of a bucket as a CUDA graph, on a GPU alone; it is captured now if it was not."""
        if bucket not in self._graphs:
            first = None if self.reader is None else self.reader.graph_pool
            pool = next((graph.graph.pool() for graph in self._graphs.values()), first)
            example = self.staged([self.parse(self.any_request())], bucket.size)
            run = partial(self._search, widths=bucket.widths)
            self._graphs[bucket] = GraphedSearch(run, bucket, example, self.device, pool)
        return self._graphs[bucket]

    @property
    def rooms(self) -> tuple[int, ...]:
        """Return for how many tokens of a batch's prompts a CUDA graph is captured, ascending; of most engines none."""
        return () if self.reader is None else self.reader.rooms

    @torch.inference_mode()
    def capture_room(self, room: int) -> None:
        """Make the CUDA graph that reads `room` tokens, one of `rooms`, if it is not there."""
        assert self.reader is not None
        self.reader.capture(room)

    def cost(self, bucket: Bucket) -> BucketCost | None:
        """Return what capturing a bucket cost; None where nothing was captured, as on the CPU."""
        graph = self._graphs.get(bucket)
        return None if graph is None else graph.cost

    def buckets(self) -> list[Bucket]:
        """Return every shape of a batch, the largest first: its capture makes the memory pool of the others."""
        return self.policy.buckets.all()

    @torch.inference_mode()
    def recommend(self, requests: Sequence[Request]) -> list[Answer]:
        """Return the best items of each request; a request's answer does not depend on the others beside it.

        What is no list of Requests, and any request that is wrong, is an InputError. One without a history, user fields
        and features is answered by popularity, not by the device. While the device runs a batch, the host makes the
        answers of the one before and checks the requests of the next.
        Where the model's scores of a request are NaN or infinity, a NonFiniteError says of which, and brings the
        others' answers.
        """
        return self._each(requests, Ranked.answer)

    @torch.inference_mode()
    def lists(self, requests: Sequence[Request], of: Callable[[Ranked], Any] = Ranked.items) -> list[Any]:
        """Return `items` of each answer of `recommend`, and make no more of it: codes and titles of long lists cost."""
        return self._each(requests, of)

    def _each(self, requests: Sequence[Request], made_of: Callable[[Ranked], Any]) -> list[Any]:
        """Search for each request, and return what `made_of` makes of the items that were found; see `recommend`."""
        requests = request_list(requests)
        answers: list[Any] = [None] * len(requests)
        broken: list[int] = []
        for engine, numbers in self._by_engine(requests).items():
            parsed = engine.parse_all([requests[number] for number in numbers])
            again = searched_once(engine, zip(numbers, parsed, strict=True), made_of, answers, broken)
            while again:
                again = searched_once(engine, again.items(), made_of, answers, broken)
        if broken:
            broken.sort()
            whose = _whose(requests, broken[0])
            raise NonFiniteError(self.checkpoint, broken, whose, answers)
        return answers

    def _by_engine(self, requests: Sequence[Request]) -> "dict[Engine, Sequence[int]]":
        """Return the numbers of the requests that each engine answers."""
        if not self.domains:
            return {self: range(len(requests))}
        found = defaultdict[Engine, list[int]](list)
        for number, request in enumerate(requests):
            found[self.of(request)].append(number)
        return {**found}

    def fitting(self, parsed: Sequence[ParsedRequest]) -> int:
        """Return how many of the first of some requests a batch has room for, by their prompts: one at least."""
        return fitting(parsed, self.most_tokens)

    def wider(self, ranked: Ranked) -> ParsedRequest | None:
        """Return the same request with wider beams, where it asks for an exact answer and this one is not certified."""
        return wider(self.policy, ranked)

    def desk(self, catalog: Catalog) -> Desk:
        """Return what parses for this engine beside it, were `catalog` the one that answers."""
        return Desk(catalog, self._limits(), self.checkpoint)

    def any_request(self, beam_width: Width = 1) -> Request:
        """Make a request that the engine can surely answer: the first item, and zeros for what must be given."""
        return any_request(self, beam_width)

    def parse(self, request: Request, drop_unknown: bool = False, looked_up: LookedUp | None = None) -> ParsedRequest:
        """Check a request against the catalog that answers now, on the host. See `batch.parse`."""
        return parse(request, self.catalog, self._limits(), drop_unknown, looked_up)

    def parse_all(self, requests: Sequence[Request]) -> Iterator[ParsedRequest]:
        """Check requests one by one as they are taken, each as `parse` does."""
        return parse_all(requests, self.catalog, self._limits())

    def _limits(self) -> Limits:
        excluded = self.config.max_exclude, self.config.exclude_seen
        return Limits(self.max_history, self.user_fields, self.policy, *excluded, self.features, prompting(self))

    def search(self, parsed: Sequence[ParsedRequest]) -> Found:
        """Find the beams of the requests of one batch, parsed with the catalog that answers now.

        This alone needs the device; `Found.ranked` makes the answers, on any thread.
        """
        return self.launch(parsed)()

    @torch.inference_mode()
    def launch(self, parsed: Sequence[ParsedRequest]) -> Callable[[], Found]:
        """Start a search, and get what waits for its end: one at a time. Without a GPU all the work is in the wait."""
        assert all(request.catalog is self.catalog for request in parsed), "parse again after replace_catalog"
        bucket = self.bucket_of(parsed)
        searched_in = self.device_catalog.first_nodes[-1], self.catalog
        if self.graphed:
            graph = self.captured(bucket)
            _, cached = self._read(parsed)
            self._fill(graph.staging, parsed)
            wait = graph.launch()
            search = lambda: (wait(), cached)  # noqa: E731
        else:
            search = partial(self._searched, self.staged(parsed, bucket.size), parsed, bucket.widths)

        def found() -> Found:
            searched, cached = search()
            scores, nodes, bounds = (column.cpu().numpy() for column in searched)
            return Found(scores, nodes, bounds, *searched_in, self.checkpoint, self.margin, cached)

        return found

    @property
    def rows_are_fixed(self) -> bool:
        """Say whether a batch takes as long with fewer requests than its bucket holds: with graphs alone."""
        return self.device.type == "cuda"

    def bucket_of(self, parsed: Sequence[ParsedRequest]) -> Bucket:
        """Return the shape of the batch that these requests make: on a GPU the smallest bucket, else what they take."""
        widths = [request.widths for request in parsed]
        if not self.rows_are_fixed:
            return Bucket(len(parsed), tuple(map(max, zip(*widths, strict=True))))
        beams = self.policy.buckets.together(widths)
        return Bucket(self.policy.buckets.size_of(len(parsed), beams), beams)

    @torch.inference_mode()
    def score(self, requests: Sequence[Request], targets: Sequence[str]) -> np.ndarray:
        """Return teacher-forced log-probabilities of the targets' codes given the histories: [n, scored steps] float32.

        targets: an item id for each request; as in a history, text, or integers that are read as text.

        Raises NonFiniteError where a level's log-probabilities, of the target or of another code, are not finite.
        """
        requests, targets, size = request_list(requests), id_list("targets", targets), self._scored_at_once()
        if len(targets) != len(requests):
            raise InputError("targets", f"{len(targets)} of {len(requests)} requests", "give one item id a request")
        out = [np.zeros((0, len(scored(self.model.steps))), dtype=np.float32)]
        for start in range(0, len(requests), size):
            chunk = requests[start : start + size]
            room = next(room for room in (*self.config.batch_sizes, size) if room >= len(chunk))
            inputs, codes = self.forced_batch(chunk, targets[start : start + size], room)
            out.append(score(self.model, inputs, codes)[: len(chunk)].cpu().numpy())
        scores = np.concatenate(out)
        broken = np.flatnonzero(np.isnan(scores).any(1)).tolist()
        if broken:
            raise NonFiniteError(self.checkpoint, broken, _whose(requests, broken[0]))
        return scores

    def _scored_at_once(self) -> int:
        most = self.config.batch_sizes[-1]
        if max_tokens(self.model) is not None:
            return min(most, max(1, self.most_tokens // self.longest))
        return most if not self.rows_are_fixed else self.config.scored_at_once(self.longest, self.buckets())

    def forced_batch(
        self, requests: Sequence[Request], targets: Sequence[str], size: int | None = None
    ) -> tuple[Inputs, torch.Tensor]:
        """Return what a model reads of requests, and the codes [B, levels] of their true answers.

        The batch is filled up to `size` requests; None: as many as there are.
        """
        codes = self.catalog.codes[lookup(self.catalog, "targets", targets)].astype(np.int64)
        parsed = [*self.parse_all(requests)]
        if any(request.source != "model" for request in parsed):
            allowed = "nothing to score by: give at least one item, or user fields or features of the model"
            raise InputError("history", [], allowed)
        size = len(parsed) if size is None else size
        forced = np.zeros((size, codes.shape[1]), dtype=np.int64)
        forced[: len(codes)] = codes
        inputs = model_inputs(self.model, parsed, size, self.longest, self.device)
        return inputs, torch.from_numpy(forced).to(self.device)

    def staged(self, parsed: Sequence[ParsedRequest], size: int) -> Staging:
        """Return the tensors of a batch of up to `size` requests, on the host."""
        fixed = self.rows_are_fixed  # a graph's staging serves all batches, another this one alone
        most = size * (self.config.max_exclude + MOST_SEEN)
        room = most if fixed else sum(len(nodes) for request in parsed for nodes in request.banned)
        set_words = self.device_catalog.set_words
        how = {"pinned": self.device.type == "cuda", "prompts": self.reader is not None}
        staging = Staging(self.model, self.longest, size, room, set_words, **how)
        self._fill(staging, parsed)
        return staging

    def _fill(self, staging: Staging, parsed: Sequence[ParsedRequest]) -> None:
        staging.fill(parsed, self.device_catalog.first_nodes)

    def _new_reader(self) -> Reader | None:
        if (model := token_model(self.model)) is None:
            return None
        most = self.config.batch_sizes[-1], self.most_tokens
        return Reader(model, self.device, *most, self.config.prefix_cache_bytes)

    def _read(self, parsed: Sequence[ParsedRequest]) -> tuple[Memory | None, Sequence[int]]:
        """Read the prompts of a batch, where the model is read in parts; how much of each was there already."""
        if self.reader is None:
            return None, ()
        prompts = [request.tokens for request in parsed if request.tokens is not None]
        return self.reader.read(prompts, [request.scope for request in parsed])

    def _search(self, batch: SearchBatch, widths: Widths, memory: Memory | None = None) -> Searched:
        trie, how = self.device_catalog.levels, (batch, widths, self.ops)
        if self.reader is None:
            return search(self.model, trie, *how)
        return searched(self.model, self.reader.state(memory, len(batch.roots)), trie, *how)

    @torch.inference_mode()
    def _searched(
        self, staging: Staging, parsed: Sequence[ParsedRequest], widths: Widths
    ) -> tuple[Searched, Sequence[int]]:
        """Run the search of a staged batch without a graph."""
        memory, cached = self._read(parsed)
        return self._search(staging.batch(staging.block.to(self.device)), widths, memory), cached


def _whose(requests: Sequence[Request], number: int) -> str:
    history = requests[number].history
    ends = f", whose history ends with {history[-1][:40]!r}" if history else ""
    return f"request {number + 1} of {len(requests)}{ends}"
