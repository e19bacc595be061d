"""A replica follows the manifest: withdrawn items at once, versions loaded beside the service, each refused as a whole.

What cannot be followed changes nothing in what answers; the replica says why beside the manifest.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from prometheus_client import Gauge

from octorec.errors import InputError
from octorec.reading import reason
from octorec.serve.loads import within
from octorec.serve.manifest import FIELD, Followed, Manifest, forget_followed, read_manifest, say_followed
from octorec.serve.operations import Operations
from octorec.serve.refusal import Refusal
from octorec.serve.service import Service

Made = TypeVar("Made")
logger = logging.getLogger(__name__)
LOOK_EVERY_S = 2.0  # at the manifest
REACH_S = 5.0  # that reading or writing on the shared folder may take
SAY_EVERY_S = 10.0  # that the replica is there
RETRY_S = 10.0  # after a load that failed, not one that was refused
STARTED_WITH = "null is what replicas are started with: name a version, or deploy again"
NEW_REPLICAS = "another experiment needs new replicas: deploy again"


class Follower:
    """A Follower makes one service do what the manifest at `path` says.

    replica: its name. wanted: the manifest as it was read last. model, catalog: names of the manifest's that answer;
    None for what the replica was started with. experiment: the file that it was started with.
    """

    def __init__(self, service: Service, path: str, replica: str, first: Manifest):
        self.service, self.path, self.replica, self.wanted = service, path, replica, first
        self.operations = Operations(service)
        self.model: str | None = None
        self.catalog: str | None = None
        self.experiment = service.config.ab.experiment
        self.look_every_s = LOOK_EVERY_S
        self._faults: dict[str, str] = {}  # by what could not be done
        self._tried: tuple[str | None, str | None] | None = None  # versions that were refused
        self._retry_at = 0.0
        self._reloaded = first.generation
        self._said: Followed | None = None
        self._telling = threading.Lock()  # a write that was given up goes on in its thread
        self._ended = False
        self._loading: asyncio.Task[None] | None = None
        self._following: asyncio.Task[None] | None = None
        of: Any = {"namespace": "octorec", "registry": service.metrics.registry}
        self._generation = Gauge("manifest_generation", "Of the manifest as it was read last.", **of)
        self._read_at = time.monotonic()
        age = Gauge("manifest_age_seconds", "Since the manifest was read last.", **of)
        age.set_function(lambda: time.monotonic() - self._read_at)

    async def start(self) -> None:
        """Withdraw what is withdrawn before anybody is answered, then follow in the background."""
        self._generation.set(self.wanted.generation)
        if self.wanted.withdrawn:
            await self.operations.withdraw_only(self.wanted.withdrawn)
        self._following = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """End following; a load that runs is left."""
        for task in (self._following, self._loading):
            if task is not None:
                task.cancel()
        with suppress(Exception):
            await self._reach(self._forget)

    async def look(self) -> None:
        """Read the manifest and do what is new in it; loads go on after this returns."""
        await self._read()
        await self._withdraw()
        self._check_experiment()
        self._begin_to_load()
        await self._say()

    async def _follow(self) -> None:
        while True:
            try:
                await self.look()
            except Exception:  # the next look may find it otherwise
                logger.exception("the manifest could not be followed")
            await asyncio.sleep(self.look_every_s)

    async def _read(self) -> None:
        try:
            found = await self._reach(partial(read_manifest, self.path))
        except (InputError, Refusal) as error:
            self._fault("read", str(error))
            return
        self._fault("read", None)
        self._read_at = time.monotonic()
        if found != self.wanted:
            logger.info("manifest", extra={"generation": found.generation, "model": found.model})
            self.wanted, self._tried = found, None
            self._generation.set(found.generation)

    async def _withdraw(self) -> None:
        if self.wanted.withdrawn == self.operations.withdrawn:
            self._fault("withdraw", None)
            return
        try:
            await self.operations.withdraw_only(self.wanted.withdrawn)
        except (InputError, Refusal) as error:
            self._fault("withdraw", str(error))
        else:
            self._fault("withdraw", None)

    def _check_experiment(self) -> None:
        """Read the running experiment's file again where the manifest is new; another experiment cannot begin here."""
        wanted, running = self.wanted, self.service.running
        if wanted.experiment not in (None, self.experiment):
            self._fault("experiment", f"experiment: {NEW_REPLICAS}")
        elif running is not None and not running.over and wanted.generation != self._reloaded:
            self._reloaded = wanted.generation
            running.switch.reload().add_done_callback(lambda done: self._fault("experiment", _why(done.exception())))

    def _begin_to_load(self) -> None:
        wanted = self.wanted.model, self.wanted.catalog
        if wanted == (self.model, self.catalog):
            self._fault("load", None)
        elif not self.is_loading and wanted != self._tried and time.monotonic() >= self._retry_at:
            self._loading = asyncio.create_task(self._load(*wanted))

    @property
    def is_loading(self) -> bool:
        """Tell whether a version is being loaded."""
        return self._loading is not None and not self._loading.done()

    async def _load(self, model: str | None, catalog: str | None) -> None:
        try:
            for name, new, now in (("model", model, self.model), ("catalog", catalog, self.catalog)):
                if new is None and now is not None:
                    raise InputError(f"{FIELD} {self.path}: {name}", None, STARTED_WITH)
            other = None if catalog == self.catalog else catalog
            if model is not None and model != self.model:
                await self.operations.load_model(model, other)
            elif other is not None:
                await self.operations.load_catalog(other)
        except InputError as error:
            self._tried = model, catalog
            self._fault("load", str(error))
        except Refusal as refusal:
            self._retry_at = time.monotonic() + RETRY_S
            self._fault("load", refusal.message)
        else:
            self.model, self.catalog = model, catalog
            self._fault("load", None)

    async def _say(self) -> None:
        """Say beside the manifest what this replica has done, where it is new or a while ago."""
        if self.is_loading and self._said is not None and time.time() - self._said.time < SAY_EVERY_S:
            return
        serving, fault = self.service.serving, "; ".join(self._faults.values()) or None
        done = (self.wanted.model, self.wanted.catalog) == (self.model, self.catalog) or fault is not None
        before = 0 if self._said is None else self._said.generation
        generation = self.wanted.generation if done and not self.is_loading else before
        withdrawn = len(self.operations.withdrawn)
        said = Followed(
            self.replica, generation, serving.model, serving.engine.catalog.version, withdrawn, fault, time.time()
        )
        if self._said is not None and _same(said, self._said) and said.time - self._said.time < SAY_EVERY_S:
            return
        try:
            await self._reach(partial(self._tell, said))
        except (InputError, Refusal) as error:
            self._fault("say", str(error))
        else:
            self._said = said
            self._faults.pop("say", None)

    def _tell(self, said: Followed) -> None:
        with self._telling:
            if not self._ended:
                say_followed(self.path, said)

    def _forget(self) -> None:
        with self._telling:
            self._ended = True
            forget_followed(self.path, self.replica)

    async def _reach(self, work: Callable[[], Made]) -> Made:
        """Return what `work()` gives, which may hang on the shared folder."""
        return await within(REACH_S, work, FIELD, self.path, "a look's limit")

    def _fault(self, what: str, why: str | None) -> None:
        """Keep why something could not be done, and log it once."""
        if why is None:
            self._faults.pop(what, None)
        elif self._faults.get(what) != why:
            self._faults[what] = why
            logger.error("the manifest is not followed", extra={"what": what, "reason": why})


def _same(one: Followed, other: Followed) -> bool:
    return {**vars(one), "time": 0} == {**vars(other), "time": 0}


def _why(error: BaseException | None) -> str | None:
    return None if error is None else reason(error) if isinstance(error, Exception) else repr(error)
