"""Ray Serve on a real local cluster of this machine, with replicas by `octorec ray config`, and clients of them."""

import asyncio
import os
import secrets
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import ray
from ray import serve
from ray._raylet import Config
from ray.cluster_utils import Cluster
from ray.serve._private.api import serve_start
from ray.serve.context import _get_global_client as get_client
from ray.serve.schema import ServeDeploySchema

from octorec.engine.load import load
from octorec.engine.request import Request
from octorec.serve.config import ServeConfig
from octorec.serve.ray_config import APP, DEPLOYMENT, RayOptions, config_file

STORE = 80 * 2**20  # bytes of a node's object store
WIDTHS: dict[str, Any] = {"batch_sizes": (1, 8), "beam_widths": (16,), "default_beam_width": 16}
QUESTIONS = [{"history": [f"i{n}", f"i{3 * n + 1}"], "k": 5} for n in range(40)]
TOKEN = secrets.token_hex(32)  # of all clusters of this process, as Ray keeps the first
LOCAL = {"object_store_memory": STORE}


@contextmanager
def cluster(*cpus: int) -> Iterator[Cluster]:
    """A cluster of a head, which runs the entrance alone, and a node with so many cores for replicas each."""
    folder = tempfile.mkdtemp(prefix="r", dir="/tmp")  # short: Ray's sockets lie below it
    os.environ["RAY_TMPDIR"] = folder
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"] = "token", TOKEN
    Config.initialize("")  # read by now, as ray is imported
    head = {**LOCAL, "num_cpus": 0, "include_dashboard": False, "temp_dir": f"{folder}/ray"}
    Path(folder, "ray").mkdir()
    nodes = Cluster(initialize_head=True, head_node_args=head)
    try:
        for number in cpus:
            nodes.add_node(num_cpus=number, **LOCAL)
        ray.init(address=nodes.address, namespace="serve", log_to_driver=False, logging_level="warning")
        yield nodes
    finally:
        if ray.is_initialized():
            serve.shutdown()
            ray.shutdown()
        nodes.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


@dataclass
class Deployed:
    """What was deployed, and where it answers."""

    content: dict[str, Any]
    port: int
    url: str = field(init=False)

    def __post_init__(self) -> None:
        self.url = f"http://127.0.0.1:{self.port}"

    @property
    def deployment(self) -> dict[str, Any]:
        return self.content["applications"][0]["deployments"][0]

    def deploy(self) -> None:
        """What `serve deploy` does, without the dashboard."""
        schema = ServeDeploySchema.model_validate(self.content)
        environment = self.content["controller_options"]
        where = self.content["proxy_location"]
        http = self.content["http_options"]
        client = serve_start(http_options=http, controller_options=environment, proxy_location=where)
        client.deploy_apps(schema, _blocking=False)

    def status(self) -> Any:
        return serve.status().applications[APP]

    def running(self) -> int:
        return self.status().deployments[DEPLOYMENT].replica_states.get("RUNNING", 0)

    def pids(self) -> list[int]:
        """The processes of the replicas that run."""
        found = get_client().get_serve_details()["applications"][APP]["deployments"][DEPLOYMENT]["replicas"]
        return [one["pid"] for one in found if one["state"] == "RUNNING"]

    def until(self, condition: Callable[[], bool], what: str, timeout_s: float = 120) -> float:
        """Wait; return the seconds that it took."""
        start = time.monotonic()
        while not condition():
            assert time.monotonic() < start + timeout_s, f"{what}: {self.status()}"
            time.sleep(0.1)
        return time.monotonic() - start


def deployed(checkpoint: Path, replicas: int = 1, most: int | None = None, **settings: Any) -> Deployed:
    """Deploy a checkpoint and wait until all its replicas answer."""
    port = free_port()
    manifest, scaling = settings.pop("manifest", None), settings.pop("scaling", {})
    config = ServeConfig.of(port=port, log_requests=False, **{**WIDTHS, **settings})
    options = RayOptions(manifest=manifest, min_replicas=replicas, max_replicas=most or replicas)
    content = config_file(checkpoint, config, options)
    content["proxy_location"] = "HeadOnly"  # nodes of one machine would share the port
    found = Deployed(content, port)
    found.deployment.get("autoscaling_config", {}).update(scaling)
    found.deploy()
    found.until(lambda: found.status().status == "RUNNING", "it runs")
    return found


def expected(checkpoint: Path, questions: list[dict[str, Any]], catalog: Path | None = None) -> dict[str, Any]:
    """The version of the catalog, and the items that answer each question, by an engine of this process."""
    engine = load(checkpoint, catalog, **WIDTHS)
    asked = [Request(history=tuple(one["history"]), k=one["k"]) for one in questions]
    return {
        "model": checkpoint.name,
        "catalog": engine.catalog.version,
        "items": [tuple(answer.items) for answer in engine.recommend(asked)],
    }


@dataclass
class Seen:
    """What clients saw: answers as (question, model, catalog, items), and everything that was none."""

    answers: list[tuple[int, str, str, tuple[str, ...]]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    stopped: bool = False


async def ask(url: str, questions: list[dict[str, Any]], seen: Seen, clients: int, headers: Any = None) -> None:
    """Let `clients` ask in turn until `seen.stopped`."""

    async def client(number: int, session: aiohttp.ClientSession) -> None:
        while not seen.stopped:
            number = (number + 1) % len(questions)
            try:
                async with session.post(f"{url}/v1/recommend", json=questions[number]) as response:
                    body = await response.json(content_type=None)
                    if response.status != 200:
                        seen.failed.append(f"{response.status} {body}")
                        await asyncio.sleep(0.05)
                        continue
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                seen.failed.append(repr(error))
                await asyncio.sleep(0.05)
                continue
            seen.answers.append((number, body["model"], body["catalog"], tuple(body["items"])))

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(60), headers=headers) as session:
        await asyncio.gather(*(client(number * 7, session) for number in range(clients)))


@contextmanager
def under_load(
    url: str, questions: list[dict[str, Any]], clients: int = 6, headers: dict[str, str] | None = None
) -> Iterator[Seen]:
    """Clients that ask from a thread of their own while the block runs."""
    seen = Seen()
    thread = threading.Thread(target=lambda: asyncio.run(ask(url, questions, seen, clients, headers)))
    thread.start()
    try:
        yield seen
    finally:
        seen.stopped = True
        thread.join(90)


def require_right(seen: Seen, *versions: dict[str, Any]) -> None:
    """Assert that each answer is wholly that of the versions which it states."""
    right = {(one["model"], one["catalog"]): one["items"] for one in versions}
    assert seen.answers
    for question, model, catalog, items in seen.answers:
        assert items == right[model, catalog][question], (model, catalog, question)
