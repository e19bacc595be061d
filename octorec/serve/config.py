"""How a server is set up: one dataclass is the YAML file, the flags and their documentation. Imports no torch."""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from octorec.errors import InputError, check_keys
from octorec.reading import read_yaml

NUMBERS = {int: "integers", float: "numbers"}
MOST = 2**31  # above any number that is meant: a month in milliseconds has less
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def setting(default: Any, text: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class ServeConfig:
    """Every setting of `octorec serve`. None means: off, or the engine's own default where the text says so."""

    host: str = setting("127.0.0.1", "Address to listen on.")
    port: int = setting(8080, "Port to listen on; 0 takes a free one and logs it.")
    device: str = setting("cpu", "cpu or cuda; of several GPUs CUDA_VISIBLE_DEVICES chooses one.")
    catalog: str | None = setting(None, "Catalog folder; the checkpoint's own if not given.")
    model_name: str = setting("octorec", "Name of the model in /v2/models/NAME.")
    token_file: str | None = setting(None, "File of bearer tokens for /v1, one a line; none: no token is asked for.")

    max_batch_size: int | None = setting(None, "Requests a batch; the engine's largest batch size if not given.")
    max_queue_delay_ms: float = setting(
        0.0, "How long a request may wait for a fuller batch once a busy engine is free; an idle engine never waits."
    )
    max_queued_requests: int = setting(256, "Requests that may wait; further ones are answered 503 at once.")
    default_deadline_ms: float = setting(30_000.0, "Deadline of requests that state none.")
    unknown_items: str = setting("drop", "drop: ignore and report item ids that the catalog lacks; refuse: answer 422.")

    batch_sizes: tuple[int, ...] | None = setting(None, "Batch sizes to capture, ascending; the engine's default.")
    beam_widths: tuple[int, ...] | None = setting(None, "Beam widths to capture, ascending; the engine's default.")
    default_beam_width: int | None = setting(None, "Beam width of requests that state none; the engine's default.")
    max_banned: int | None = setting(None, "Code tuples that one request's exclusions may empty; the engine's default.")
    max_items: int | None = setting(None, "Room for a catalog that grows; a tenth more than it has if not given.")

    max_body_bytes: int = setting(2**20, "Largest body; a larger one is answered 413.")
    max_history: int = setting(10_000, "Ids in a history; of those the model's context keeps the newest.")
    max_exclude: int = setting(10_000, "Ids in an exclusion list.")
    max_list: int = setting(64, "Requests in one body.")
    keep_alive_s: float = setting(75.0, "How long an idle connection stays open; set it above the gateway's.")
    body_timeout_s: float = setting(10.0, "How long a body may take to arrive; 408 after that.")

    admin_port: int | None = setting(None, "Port of catalog and model operations; off if not given.")
    admin_host: str = setting("127.0.0.1", "Address of the admin port; another than this machine needs a token file.")
    admin_token_file: str | None = setting(None, "File of bearer tokens for the admin port, one a line.")
    catalog_root: str | None = setting(None, "Folder whose subfolders are the catalog versions that may be loaded.")
    model_root: str | None = setting(None, "Folder whose subfolders are the checkpoints that may be loaded.")

    stuck_after_s: float = setting(
        8.0, "A batch longer than this (and than 5 times the slowest of warm-up) means a stuck device: not live."
    )
    drain_delay_s: float = setting(0.0, "After SIGTERM, how long new requests are still taken while ready says 503.")
    drain_timeout_s: float = setting(25.0, "After that, how long accepted requests may take before the process ends.")
    log_requests: bool = setting(True, "Log a line a request.")

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            value = typed(name, kind, getattr(self, name))
            object.__setattr__(self, name, value)
            for number in value if isinstance(value, tuple) else (value,):
                require(not isinstance(number, (int, float)) or abs(number) < MOST, name, self, "is too large")
        for name in ("max_queued_requests", "max_history", "max_exclude", "max_list", "max_body_bytes"):
            require(getattr(self, name) >= 1, name, self, "must be an integer above 0")
        for name in ("default_deadline_ms", "stuck_after_s", "keep_alive_s", "body_timeout_s"):
            require(getattr(self, name) > 0, name, self, "must be above 0")
        for name in ("max_queue_delay_ms", "drain_delay_s", "drain_timeout_s"):
            require(getattr(self, name) >= 0, name, self, "must be 0 or more")
        for name in ("port", "admin_port"):
            require(0 <= (getattr(self, name) or 0) < 2**16, name, self, "must be 0 to 65535")
        require(self.max_batch_size is None or self.max_batch_size >= 1, "max_batch_size", self, "must be above 0")
        require(self.device in ("cpu", "cuda"), "device", self, "allowed: cpu, cuda")
        require(self.unknown_items in ("drop", "refuse"), "unknown_items", self, "allowed: drop, refuse")
        if self.admin_port is not None and self.admin_host not in LOOPBACK and self.admin_token_file is None:
            raise InputError("admin_token_file", None, f"is required where admin_host is {self.admin_host}")

    def engine_options(self) -> dict[str, Any]:
        """The fields of `EngineConfig` that are set."""
        names = ("batch_sizes", "beam_widths", "default_beam_width", "max_banned", "max_items")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


def read_config(path: str | Path | None, flags: dict[str, Any]) -> ServeConfig:
    """The settings of a YAML file, and over them the flags that are not None."""
    raw: Any = {}
    if path is not None:
        raw = read_yaml(path, "config")
        raw = {} if raw is None else raw
        check_keys(f"config {path}", raw, ServeConfig, required=())
    return ServeConfig(**{**raw, **{name: value for name, value in flags.items() if value is not None}})


def typed(name: str, kind: Any, value: Any) -> Any:
    """`value` where it is of type `kind`: an int may stand for a float, a list or "1,8" for a tuple."""
    kinds = get_args(kind) if NoneType in get_args(kind) else (kind,)
    if value is None and NoneType in kinds:
        return None
    wanted = kinds[0]
    if get_origin(wanted) is tuple:
        return _numbers(name, get_args(wanted)[0], value)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(name, value, "must be finite")
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        raise InputError(name, value, f"must be of type {wanted.__name__}")
    return value


def _numbers(name: str, kind: type, value: Any) -> tuple[Any, ...]:
    """The numbers of a list, each of type `kind`, or of a text such as "1,8"."""
    try:
        if isinstance(value, str):
            return tuple(kind(part) for part in value.split(","))
        if isinstance(value, (list, tuple)):
            return tuple(typed(name, kind, part) for part in value)
    except ValueError:  # also an InputError of `typed`: the whole value is named
        pass
    raise InputError(name, value, f"must be {NUMBERS[kind]}, with commas")


def require(condition: bool, name: str, config: Any, allowed: str) -> None:
    """Raise InputError for the field `name` of a config unless `condition`."""
    if not condition:
        raise InputError(name, getattr(config, name), allowed)
