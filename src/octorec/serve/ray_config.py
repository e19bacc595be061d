"""The config file of `serve run` and `serve deploy`, made from a server's settings. Imports neither Ray nor torch."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Interval

from octorec.engine.limits import DEFAULT_BATCH_SIZES
from octorec.errors import InputError
from octorec.serve.config import ServeConfig
from octorec.settings import check_types, require, setting, settings_of

APP, DEPLOYMENT = "octorec", "OctoRec"
IMPORT_PATH = "octorec.serve.ray:app"
BATCHES = 2  # that a busy replica has: one on its device, one whose requests arrive or are told
HEALTH_PERIOD_S, HEALTH_TIMEOUT_S = 2.0, 10.0
AFTER_DRAIN_S = 5.0  # for closing, after drain_timeout_s
UP_S, DOWN_S = 10.0, 300.0  # a load must last before replicas come or go
SURGE = 25  # percent of the replicas that may be there beyond their number while a change rolls
PATHS = (
    "catalog",
    "token_file",
    "catalog_root",
    "model_root",
    "base",
    "experiment",
    "experiment_root",
    "compare",
    "examples",
)
SINGLE = "admin_port"  # of one process: an operation on one replica would leave the others behind

Replicas = Annotated[int, Interval(ge=1, le=10_000)]
Cpus = Annotated[float, Interval(gt=0, le=1024)]


@dataclasses.dataclass(frozen=True)
class RayOptions:
    """RayOptions say what Ray Serve runs of a server, beside the server's own settings."""

    manifest: str | None = setting(
        None, "File that all replicas follow, on a shared folder or as a URL such as s3://bucket/manifest.json."
    )
    min_replicas: Replicas = setting(1, "Replicas at least.")
    max_replicas: Replicas = setting(1, "Replicas at most; above min_replicas they follow the load.")
    replica_cpus: Cpus = setting(1.0, "Cores of a replica; on a GPU each has one GPU of its own too.")

    def __post_init__(self) -> None:
        check_types(self)
        require(self.max_replicas >= self.min_replicas, "max_replicas", self, "must be min_replicas or more")


def of_deployment(config: ServeConfig, options: RayOptions) -> dict[str, Any]:
    """Return the options of the deployment.

    Ray sends a replica more requests than wait in it at most, so that its own queue decides who waits and who is
    refused; Ray's default of 5 would leave every batch nearly empty.
    """
    batch = config.batch.max_batch_size or (config.engine.batch_sizes or DEFAULT_BATCH_SIZES)[-1]
    queued = config.batch.most_queued(batch, config.http.max_list)
    scaling: dict[str, Any] = {"min_replicas": options.min_replicas, "max_replicas": options.max_replicas}
    scaling |= {"target_ongoing_requests": batch, "upscale_delay_s": UP_S, "downscale_delay_s": DOWN_S}
    fixed = options.min_replicas == options.max_replicas
    actor = {"num_cpus": options.replica_cpus} | ({"num_gpus": 1} if config.engine.device == "cuda" else {})
    return {
        "max_ongoing_requests": queued + BATCHES * batch,
        "max_queued_requests": queued,
        "backpressure_config": {"status_code": 503, "retry_after_s": 1},
        **({"num_replicas": options.min_replicas} if fixed else {"autoscaling_config": scaling}),
        "ray_actor_options": actor,
        "health_check_period_s": HEALTH_PERIOD_S,
        "health_check_timeout_s": HEALTH_TIMEOUT_S,
        "graceful_shutdown_wait_loop_s": 1.0,
        "graceful_shutdown_timeout_s": config.drain.drain_timeout_s + AFTER_DRAIN_S,
        "max_surge_percent": SURGE,
    }


def config_file(checkpoint: str | Path, config: ServeConfig, options: RayOptions) -> dict[str, Any]:
    """Return the content of the config file. Paths are absolute, as replicas run elsewhere."""
    refuse_single(config)
    args = {"checkpoint": str(Path(checkpoint).resolve()), **_given(config)}
    if options.manifest is not None:
        args["manifest"] = absolute(options.manifest)
    deployment = {"name": DEPLOYMENT, **of_deployment(config, options)}
    app = {"name": APP, "route_prefix": "/", "import_path": IMPORT_PATH, "args": args, "deployments": [deployment]}
    http = {"host": config.http.host, "port": config.http.port}
    http["keep_alive_timeout_s"] = max(1, round(config.http.keep_alive_s))
    at_once = {"RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS": "1"}  # a stuck device answers nobody it would be waited for
    return {
        "proxy_location": "EveryNode",
        "http_options": http,
        "controller_options": {"runtime_env": {"env_vars": at_once}},
        "logging_config": {"enable_access_log": False},  # a replica logs its requests itself
        "applications": [app],
    }


def refuse_single(config: ServeConfig) -> None:
    """Refuse what only one process can have."""
    if config.admin.admin_port is not None:
        allowed = "is of one process, and replicas are many: change what they serve by the manifest"
        raise InputError(SINGLE, config.admin.admin_port, allowed)


def absolute(path: str) -> str:
    """Return a path that means the same in any folder; a URL as it is."""
    return path if "://" in path else str(Path(path).resolve())


def _given(config: ServeConfig) -> dict[str, Any]:
    """Return the settings that are not the defaults, as YAML writes them."""
    parts = [getattr(config, part.name) for part in dataclasses.fields(config)]
    values = {name: value for part in parts for name, value in vars(part).items()}
    changed = {name: values[name] for name, field in settings_of(ServeConfig).items() if values[name] != field.default}
    return {name: _plain(_elsewhere(name, value)) for name, value in changed.items()}


def _elsewhere(name: str, value: Any) -> Any:
    """Return a setting as it reads in another folder."""
    if name == "context_module":
        file, _, kind = value.rpartition(":")
        return f"{absolute(file)}:{kind}"
    if name not in PATHS:
        return value
    if isinstance(value, Mapping):
        return {domain: absolute(path) for domain, path in value.items()}
    if isinstance(value, tuple):
        return tuple(_of_domain(one) for one in value)
    return _of_domain(value) if name == "catalog" else absolute(value)


def _of_domain(text: str) -> str:
    """Return a path, or DOMAIN=PATH, with an absolute path."""
    domain, equals, path = text.rpartition("=")
    return f"{domain}{equals}{absolute(path)}" if equals and not Path(text).exists() else absolute(text)


def _plain(value: Any) -> Any:
    return [_plain(one) for one in value] if isinstance(value, tuple) else value
