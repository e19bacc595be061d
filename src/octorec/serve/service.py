"""The server without its HTTP: an engine's life from loading to draining."""

import asyncio
import gc
import logging
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from octorec.catalog.catalog import Catalog
from octorec.engine.buckets import Bucket
from octorec.engine.caps import caps_of
from octorec.engine.engine import Engine
from octorec.engine.prompted import refuse_prompt
from octorec.engine.request import Request
from octorec.engine.widths import as_width
from octorec.errors import InputError
from octorec.serve.batcher import Batcher
from octorec.serve.config import ServeConfig
from octorec.serve.encode import encode_answer
from octorec.serve.experiment import begin
from octorec.serve.experiment_metrics import ExperimentMetrics
from octorec.serve.front import Front
from octorec.serve.guard import GuardTask
from octorec.serve.loads import beside
from octorec.serve.metrics import Metrics
from octorec.serve.pending import Serving
from octorec.serve.variants import Answering, Variants, about_variant
from octorec.serve.versions import load_engine

logger = logging.getLogger(__name__)
STOP_S = 5.0  # for the device thread to end; what was accepted has been waited for before
LEAST_S = 0.1  # of it, whatever is left of the way out
SWITCH_S = 1e-4  # the device thread gets the interpreter back this soon from a busy event loop, not after 5 ms
SLOWER_THAN_WARM_UP = 5  # a batch so many times slower than the slowest of warm-up is stuck


class Service(Front):
    """A Service serves what `make_engine` loads; `start` runs that and warms the engine up in the background.

    variants: of the experiment to run; None for none. running, guard: that experiment, once every variant is
    warm, and what stops it by itself.
    """

    def __init__(
        self, make_engine: Callable[[], Engine], model: str, config: ServeConfig, variants: Variants | None = None
    ):
        metrics = Metrics()
        self.batcher = Batcher(
            config.batch.most_queued(1, config.http.max_list),  # until the engine is known
            config.batch.max_queue_delay_ms / 1e3,
            config.batch.stuck_after_s,
            config.engine.unknown_items == "drop",
            metrics,
        )
        super().__init__(model, config, metrics, self.batcher, variants)
        self.batcher.spans = self.spans
        self.stopped = True  # False once the device thread would not end
        self._make_engine = make_engine

    async def start(self) -> None:
        """Begin to load; `loaded` is done when the service is ready or has failed."""
        share_the_host()
        self.loaded = asyncio.create_task(self._load())

    async def stop(self) -> None:
        """Answer what is in the queue, then end the device thread."""
        self.drain()
        self.loaded.cancel()
        if self.guard is not None:
            await self.guard.stop()
        self.stopped = await asyncio.to_thread(self.batcher.stop, min(STOP_S, max(LEAST_S, self.left_s / 2)))
        if self.running is not None:
            await self.running.close(self.left_s)
        await self.spans_sent()

    @property
    def engines(self) -> list[Engine]:
        """Whose catalogs hold the items that answers may have, the server's own first."""
        others = () if self.running is None or self.running.over else self.batcher.others
        return [one.engine for one in (self.serving, *others)]

    async def announce(self, serving: Serving, catalog: Catalog) -> None:
        """Tell other processes what is to answer from a switch on; here there are none."""

    def now_serving(self, serving: Serving) -> None:
        """Set what answers from the next batch on; called on the device thread."""
        self.batcher.serving = serving
        self.metrics.now_serving(serving.model, serving.engine.catalog.version)

    async def warm_up(self, engine: Engine) -> None:
        """Make every bucket of `engine` ready; on a GPU one by one between batches, as nothing may run beside a
        capture. Elsewhere nothing is captured, and the smallest and the largest batches run."""
        elsewhere = self.batcher.between_batches if engine.device.type == "cuda" else beside
        slowest = 0.0
        for room in reversed(engine.rooms):
            await elsewhere(partial(engine.capture_room, room))
        for bucket in engine.buckets() if engine.rows_are_fixed else engine.policy.buckets.ends():
            seconds = await elsewhere(partial(warm_up, engine, bucket))
            slowest = max(slowest, seconds)
            self.batcher.pace(engine).add(bucket.widths, bucket.size, seconds)
            _log_bucket(engine, bucket, seconds)
        if engine.device.type == "cuda":
            await elsewhere(engine.measure_margin)
        self.batcher.stuck_after_s = max(self.config.batch.stuck_after_s, SLOWER_THAN_WARM_UP * slowest)

    async def _load(self) -> None:
        try:
            engine, max_batch = await beside(self._loaded_engine)
            serving = Serving(engine, self.model)
            answering = {} if self.variants is None else await beside(partial(self.variants.load, serving))
            self.compared = await beside(self._loaded_compared)
            self.domains = {
                one: Serving(one, of.model)
                for of in (serving, self.compared)
                if of is not None
                for one in of.engine.domains.values()
                if one is not of.engine
            }
            others = tuple(dict.fromkeys(one.serving for one in answering.values() if one.serving is not serving))
            others += (*self.domains.values(), *(() if self.compared is None else (self.compared,)))
            waits = lambda: self.batcher.running, lambda: self.batcher.waiting
            self.metrics.watch(*waits, self._prefix_bytes, engine.device.type == "cuda")
            await self.announce(serving, engine.catalog)
            self.batcher.queue.most = self.config.batch.most_queued(max_batch, self.config.http.max_list)
            self.batcher.start(serving, max_batch, asyncio.get_running_loop(), others)
            self.now_serving(serving)
            for one in (engine, *self.domains, *(() if self.compared is None else (self.compared.engine,))):
                await self.warm_up(one)
            if self.variants is not None:
                await self._begin(self.variants, answering)
        except Exception as error:
            self.state, self.error = "failed", error
            return
        keep_for_good()
        if self.state == "loading":
            self.state = "ready"
            logger.info("ready", extra={"model": self.model, "catalog": engine.catalog.version})

    def _prefix_bytes(self) -> int:
        kept = self.serving.engine.prefixes
        return 0 if kept is None else kept.nbytes

    async def _begin(self, variants: Variants, answering: Mapping[str, Answering]) -> None:
        """Make every variant's engine ready, then begin the experiment, or go on with it."""
        warm = {self.serving}
        for name, one in answering.items():
            if one.serving not in warm:
                before = self.batcher.stuck_after_s
                with about_variant(self.config, variants.experiment.variants[name], "checkpoint"):
                    await self.warm_up(one.serving.engine)
                self.batcher.stuck_after_s = max(before, self.batcher.stuck_after_s)
                warm.add(one.serving)
        metrics = ExperimentMetrics(self.metrics.registry)
        self.writing = True
        try:
            self.running = await asyncio.to_thread(begin, variants.experiment, answering, self.config, metrics)
        finally:
            self.writing = False
        self.running.switch.look()
        self.guard = GuardTask(self.running)
        self.guard.start()

    def _check_defaults(self, engine: Engine) -> None:
        """Refuse a domain, task or caps of the settings that `engine` would refuse in each request."""
        asked = self._with_defaults(Request())
        for one in dict.fromkeys([engine, *engine.domains.values()]):
            caps_of(one.catalog, asked.caps, asked.distinct_codes, asked.max_cosine)
        if engine.prompts is None:
            refuse_prompt(asked)
            return
        if asked.domain:
            engine.prompts.domain_of(asked.domain)
        if asked.task is not None:
            engine.prompts.require_task(asked.task, asked.domain)

    def _loaded_compared(self) -> Serving | None:
        """Load what answers beside the server's own engine, if anything does."""
        path = self.config.engine.compare
        if path is None:
            return None
        try:
            return Serving(load_engine(path, self.config.engine.catalog, self.config), Path(path).resolve().name)
        except InputError as error:
            raise InputError(f"compare: {error.field}", error.value, error.allowed) from error

    def _loaded_engine(self) -> tuple[Engine, int]:
        engine = self._make_engine()
        largest = engine.config.batch_sizes[-1]
        max_batch = largest if self.config.batch.max_batch_size is None else self.config.batch.max_batch_size
        if max_batch > largest:
            raise InputError("max_batch_size", max_batch, f"at most the engine's largest batch size {largest}")
        if len({*engine.domains.values()}) > 1 and self.config.admin.admin_port is not None:
            allowed = "changes one catalog, and this model answers from several: leave it out, or serve one domain"
            raise InputError("admin_port", self.config.admin.admin_port, allowed)
        self._check_defaults(engine)
        share = self.config.batch.audit_share
        if share and not engine.policy.buckets.fixed:
            raise InputError("audit_share", share, "this engine has schedules alone: give it a fixed width too")
        return engine, max_batch


def share_the_host() -> None:
    """Let the device thread and the event loop of this process get in each other's way as little as can be.

    On the CPU the engine's arithmetic leaves a core to HTTP already, see `octorec.threads`.
    """
    sys.setswitchinterval(SWITCH_S)


def keep_for_good() -> None:
    """Spare what is loaded now from the garbage collector, which would stop every thread to walk millions of ids."""
    gc.collect()
    gc.freeze()


def _log_bucket(engine: Engine, bucket: Bucket, seconds: float) -> None:
    width = as_width(bucket.widths)
    line = {"batch_size": bucket.size, "beam_width": width, "batch_ms": round(seconds * 1e3, 1)}
    cost = engine.cost(bucket)
    if cost is not None:
        line |= {"capture_s": round(cost.seconds, 2), "megabytes": round(cost.megabytes)}
    logger.info("bucket", extra=line)


def warm_up(engine: Engine, bucket: Bucket) -> float:
    """Make one bucket ready and run it, so that no request is slower than the next; seconds of a batch in it.

    Raises NonFiniteError where the model answers with scores that are no numbers, InputError where no item is live.
    """
    parsed = [engine.parse(engine.any_request(as_width(bucket.widths)))] * bucket.size
    if engine.device.type == "cuda":
        engine.search(parsed)  # compiles and captures
    start = time.monotonic()
    found = engine.search(parsed)
    seconds = time.monotonic() - start
    ranked = found.ranked(0, parsed[0])
    if not len(ranked.item_indices):
        raise InputError("catalog", f"version {engine.catalog.version}", "must have an item that may be returned")
    encode_answer(ranked, "", True, "")
    return seconds
