"""How a server is set up: one dataclass is the YAML file, the flags and their documentation. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octorec.engine.limits import MOST_EXCLUDE, MOST_ITEMS, MOST_ROWS
from octorec.engine.request import check_unknown_items
from octorec.errors import InputError, check_keys
from octorec.reading import folder_names, read_yaml, require_file
from octorec.settings import LONGEST_S, check_ascending, check_range, check_types, require, setting

LONGEST_MS = 3_600_000  # a deadline, as of one request
LOOPBACK = ("127.0.0.1", "::1", "localhost")


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
    exclude_seen: bool = setting(
        False, "Whether requests that do not say get no item of their history; off where people come back to an item."
    )
    unknown_items: str = setting("drop", "drop: ignore and report item ids that the catalog lacks; refuse: answer 422.")

    batch_sizes: tuple[int, ...] | None = setting(None, "Batch sizes to capture, ascending; the engine's default.")
    beam_widths: tuple[int, ...] | None = setting(None, "Beam widths to capture, ascending; the engine's default.")
    default_beam_width: int | None = setting(None, "Beam width of requests that state none; the engine's default.")
    max_items: int | None = setting(None, "Room for a catalog that grows; a tenth more than it has if not given.")

    max_body_bytes: int = setting(2**20, "Largest body; a larger one is answered 413.")
    max_exclude: int = setting(10_000, "Ids in `exclude`; one more is answered 422. A history may be of any length.")
    max_list: int = setting(64, "Requests in one body.")
    keep_alive_s: float = setting(75.0, "How long an idle connection stays open; set it above the gateway's.")
    body_timeout_s: float = setting(10.0, "How long a body may take to arrive; 408 after that.")

    admin_port: int | None = setting(None, "Port of catalog and model operations; off if not given.")
    admin_host: str = setting("127.0.0.1", "Address of the admin port; another than this machine needs a token file.")
    admin_token_file: str | None = setting(None, "File of bearer tokens for the admin port, one a line.")
    catalog_root: str | None = setting(None, "Folder whose subfolders are the catalog versions that may be loaded.")
    model_root: str | None = setting(None, "Folder whose subfolders are the checkpoints that may be loaded.")

    experiment: str | None = setting(None, "YAML file of the experiment to run; needs experiment_root.")
    experiment_root: str | None = setting(None, "Folder whose subfolders hold experiments' records and rows.")
    hold_out_salt: str | None = setting(None, "The deployment's own, for every experiment; needed for a hold_out.")
    unit_field: str = setting("user_id", "Field of `user` that names whom a request is for; text or an integer.")

    stuck_after_s: float = setting(
        8.0, "A batch longer than this (and than 5 times the slowest of warm-up) means a stuck device: not live."
    )
    drain_delay_s: float = setting(0.0, "After SIGTERM, how long new requests are still taken while ready says 503.")
    drain_timeout_s: float = setting(25.0, "After that, how long accepted requests may take before the process ends.")
    log_requests: bool = setting(True, "Log a line a request.")

    def __post_init__(self) -> None:
        check_types(self)
        check_range(self, 1, 10**6, "max_queued_requests", "max_list")
        check_range(self, 1, MOST_EXCLUDE, "max_exclude")
        check_range(self, 1, 2**40, "max_body_bytes")
        check_range(self, 0, LONGEST_MS, "default_deadline_ms", above=True)
        check_range(self, 0, LONGEST_MS, "max_queue_delay_ms")
        check_range(self, 0, LONGEST_S, "stuck_after_s", "keep_alive_s", "body_timeout_s", above=True)
        check_range(self, 0, LONGEST_S, "drain_delay_s", "drain_timeout_s")
        check_range(self, 0, 2**16 - 1, "port", "admin_port")
        check_ascending(self, "batch_sizes", "beam_widths")
        check_range(self, 1, MOST_ROWS, "max_batch_size", "batch_sizes", "beam_widths", "default_beam_width")
        check_range(self, 1, MOST_ITEMS, "max_items")
        if self.beam_widths is not None and self.default_beam_width is not None:
            widest = self.beam_widths[-1]
            require(self.default_beam_width <= widest, "default_beam_width", self, f"1 to {widest}")
        require(self.device in ("cpu", "cuda"), "device", self, "allowed: cpu, cuda")
        check_unknown_items(self.unknown_items)
        self._check_experiment()
        if self.admin_port is not None and self.admin_host not in LOOPBACK and self.admin_token_file is None:
            raise InputError("admin_token_file", None, f"is required where admin_host is {self.admin_host}")

    def _check_experiment(self) -> None:
        require(0 < len(self.unit_field) <= 64, "unit_field", self, "must be the name of a user field")
        if self.experiment is not None and self.experiment_root is None:
            raise InputError("experiment_root", None, "is required with experiment: the folder of records and rows")
        salt = self.hold_out_salt
        if salt is not None and (not 0 < len(salt) <= 128 or "\0" in salt):
            raise InputError("hold_out_salt", salt, "must be text of 1 to 128 characters")

    def look_at_paths(self) -> None:
        """Refuse a file or folder that is not there."""
        for name in ("token_file", "admin_token_file", "experiment"):
            if (path := getattr(self, name)) is not None:
                require_file(path, name)
        for name in ("catalog_root", "model_root"):
            if (path := getattr(self, name)) is not None:
                folder_names(path, name, "must be a folder whose subfolders are versions")
        if self.experiment_root is not None:
            folder_names(self.experiment_root, "experiment_root", "must be a folder whose subfolders are experiments")

    def engine_options(self) -> dict[str, Any]:
        """The fields of `EngineConfig` that are set."""
        names = ("batch_sizes", "beam_widths", "default_beam_width", "max_items", "max_exclude", "exclude_seen")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


def read_config(path: str | Path | None, flags: dict[str, Any]) -> ServeConfig:
    """The settings of a YAML file, and over them the flags that are not None."""
    raw: Any = {}
    if path is not None:
        raw = read_yaml(path, "config")
        raw = {} if raw is None else raw
        check_keys(f"config {path}", raw, ServeConfig, required=())
    return ServeConfig(**{**raw, **{name: value for name, value in flags.items() if value is not None}})
