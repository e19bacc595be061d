"""A server's settings lie in parts, and have flat names in the YAML file and as flags. Imports no torch."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Interval

from octorec.catalog.domain_paths import is_named
from octorec.engine.caps import CAPS, DISTINCT_CODES, MAX_COSINE, read_caps, read_distinct_codes, read_max_cosine
from octorec.engine.limits import (
    DEFAULT_BATCH_TOKENS,
    DEFAULT_EXCLUDE,
    DEFAULT_TOKENS,
    CacheBytes,
    Excluded,
    Items,
    MostRows,
    Rows,
    Tokens,
)
from octorec.engine.model_folder import BASE, CATALOGS, CONTEXT_MODULE, require_module_file
from octorec.engine.request import UNKNOWN_ITEMS, UnknownItems
from octorec.engine.widths import check_default_width, read_beam_width, read_widths
from octorec.errors import InputError, check_known
from octorec.reading import folder_names, read_yaml, require_file
from octorec.settings import (
    DEVICE,
    Seconds,
    Wait,
    check_ascending,
    check_types,
    composed,
    require,
    setting,
    settings_of,
)

QUEUED_BATCHES = 4  # that may wait: enough that none goes short, and what is served waits no longer than five take
MOST_WORKERS = 60  # processes
LONGEST_MS = 3_600_000  # a deadline, as of one request
GPU_PREFIXES, CPU_PREFIXES = 4 * 10**9, 250 * 10**6  # bytes for beginnings of prompts where no setting says how many
HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
LOOPBACK = ("127.0.0.1", "::1", "localhost")

Port = Annotated[int, Interval(ge=0, le=2**16 - 1)]
Many = Annotated[int, Interval(ge=1, le=10**6)]


@dataclass(frozen=True)
class HttpOptions:
    """HttpOptions say how clients reach the server, and what they may send."""

    host: str = setting("127.0.0.1", "Address to listen on.")
    port: Port = setting(8080, "Port to listen on; 0 takes a free one and logs it.")
    model_name: str = setting("octorec", "Name of the model in /v2/models/NAME, and over gRPC.")
    token_file: str | None = setting(
        None, "File of bearer tokens for /v1 and /generate, one a line; none: no token is asked for."
    )
    max_body_bytes: Annotated[int, Interval(ge=1, le=2**40)] = setting(
        2**20, "Largest body; a larger one is answered 413."
    )
    max_list: Many = setting(64, "Requests in one body.")
    keep_alive_s: Seconds = setting(75.0, "How long an idle connection stays open; set it above the gateway's.")
    body_timeout_s: Seconds = setting(10.0, "How long a body may take to arrive; 408 after that.")
    log_requests: bool = setting(True, "Log a line a request.")
    show_prompt: bool = setting(False, "Log each prompt of a model that reads tokens: its text and token ids.")
    head_timeout_s: Seconds = setting(
        10.0, "How long a request's head may take to arrive; 408 after that. A silent new connection is closed."
    )
    answer_timeout_s: Seconds = setting(30.0, "How long a client may take to read what is sent; cut off after that.")
    max_connections: Many = setting(
        1000, "Connections of both ports; of more, the one goes that has waited longest without a whole request."
    )
    trusted_proxies: str | None = setting(
        None, "Addresses or networks of the proxies whose client_header is believed, with commas."
    )
    client_header: str = setting(
        "X-Forwarded-For", "Header in which a trusted proxy names the client; of several names the last counts."
    )
    grpc_port: Port | None = setting(
        None, "Port of the Open Inference Protocol over gRPC; off if not given. Needs the extra grpc."
    )
    http_workers: Annotated[int, Interval(ge=0, le=MOST_WORKERS)] = setting(
        0, "Processes for HTTP and all else of a request but the device; 0: all in one process."
    )
    page: bool = setting(True, "Whether / is a page to try the server with, and the addresses that it asks are there.")
    examples: str | None = setting(
        None, "JSON file of histories to try on the page; examples.json beside the checkpoint's folder if not given."
    )
    spans: bool = setting(
        False, "Send spans by OpenTelemetry, whose variables OTEL_... say where. Needs the extra otel."
    )

    def __post_init__(self) -> None:
        check_types(self)
        _ = self.networks
        require(bool(HEADER.fullmatch(self.client_header)), "client_header", self, "must be the name of a header")

    @property
    def networks(self) -> list[IPv4Network | IPv6Network]:
        """Return the networks of the trusted proxies."""
        given = [] if self.trusted_proxies is None else self.trusted_proxies.split(",")
        try:
            return [ip_network(one.strip(), strict=False) for one in given]
        except ValueError:
            allowed = "must be addresses or networks such as 10.0.0.0/8, with commas"
            raise InputError("trusted_proxies", self.trusted_proxies, allowed) from None


@dataclass(frozen=True)
class EngineOptions:
    """EngineOptions say what is loaded, onto which device, and what its engine is built for."""

    device: Literal["cpu", "cuda"] = setting(DEVICE, "cpu or cuda; of several GPUs CUDA_VISIBLE_DEVICES chooses one.")
    catalog: Any = setting(None, CATALOGS)  # text, several, or an object of paths by domain
    batch_sizes: tuple[Rows, ...] | None = setting(None, "Batch sizes to capture, ascending; the engine's default.")
    beam_widths: tuple[Any, ...] | None = setting(  # each a `Width`
        None,
        "Beam widths to capture, ascending, each a number or one a level such as 128-256-512; the engine's default.",
    )
    default_beam_width: Any = setting(  # a `BeamWidth`, or None
        None, "Beam width of requests that state none: a number, one a level, or auto; the engine's default."
    )
    max_items: Items | None = setting(None, "Room for a catalog that grows; a tenth more than it has if not given.")
    max_exclude: Excluded = setting(
        DEFAULT_EXCLUDE, "Ids in `exclude`; one more is answered 422. A history may be of any length."
    )
    exclude_seen: bool = setting(
        False, "Whether requests that do not say get no item of their history; off where people come back to an item."
    )
    unknown_items: UnknownItems = setting(
        UNKNOWN_ITEMS, "drop: ignore and report item ids that the catalog lacks; refuse: answer 422."
    )
    context_module: str | None = setting(None, CONTEXT_MODULE)
    max_rows: MostRows | None = setting(
        None, "Most rows of a batch, requests times beams: larger buckets are not made; off makes all of them."
    )
    base: str | None = setting(None, BASE)
    max_tokens: Tokens | None = setting(
        None, f"Longest prompt, of models that read tokens; as the model, at most {DEFAULT_TOKENS}, if not given."
    )
    batch_tokens: Tokens | None = setting(
        None,
        "Tokens of the prompts of a batch at most, of models that read tokens; "
        f"{DEFAULT_BATCH_TOKENS}, or as many as the longest prompt has, if not given.",
    )
    prefix_cache: bool = setting(
        True, "Whether the beginnings of prompts stay on the device, so that one that begins alike is read faster."
    )
    prefix_cache_bytes: CacheBytes | None = setting(
        None, f"Memory for them; {GPU_PREFIXES} on a GPU and {CPU_PREFIXES} on a CPU if not given."
    )
    prefix_shared: bool = setting(
        False, "Whether clients with different bearer tokens share them; answering times tell what others asked."
    )
    domain: str | None = setting(None, "Domain of histories and messages that name none, of models that read tokens.")
    task: str | None = setting(None, "Task of histories that name none, of models whose prompts have tasks.")
    compare: str | None = setting(
        None, "Folder of a second checkpoint, loaded beside the first, whose answers the page shows beside its own."
    )
    caps: Any = setting(None, f"{CAPS} Of requests of /v1/recommend and gRPC that name no caps.")
    distinct_codes: int | None = setting(None, f"{DISTINCT_CODES} Of the same requests.")
    max_cosine: float | None = setting(None, f"{MAX_COSINE} Of the same requests.")

    def __post_init__(self) -> None:
        check_types(self)
        object.__setattr__(self, "caps", read_caps(self.caps))
        read_distinct_codes(self.distinct_codes)
        read_max_cosine(self.max_cosine)
        object.__setattr__(self, "catalog", _catalogs(self.catalog))
        check_ascending(self, "batch_sizes")
        if self.beam_widths is not None:
            object.__setattr__(self, "beam_widths", read_widths("beam_widths", self.beam_widths))
        if self.default_beam_width is not None:
            default = read_beam_width("default_beam_width", self.default_beam_width)
            object.__setattr__(self, "default_beam_width", default)
            if self.beam_widths is not None:
                check_default_width(self.beam_widths, default)

    def of_engine(self) -> dict[str, Any]:
        """Return the fields of `EngineConfig` that are set."""
        shapes = ("batch_sizes", "beam_widths", "default_beam_width", "max_rows")
        names = (*shapes, "max_items", "max_exclude", "exclude_seen", "max_tokens", "batch_tokens")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return given | {"prefix_cache_bytes": self._prefix_bytes()}

    def _prefix_bytes(self) -> int:
        most = GPU_PREFIXES if self.device == "cuda" else CPU_PREFIXES
        most = most if self.prefix_cache_bytes is None else self.prefix_cache_bytes
        return most if self.prefix_cache else 0


def _catalogs(given: Any) -> Any:
    """Check what names catalogs; a list of one path is that path."""
    paths = given.values() if isinstance(given, Mapping) else given if isinstance(given, tuple) else (given,)
    if given is not None and (not paths or not all(isinstance(path, str) and path for path in paths)):
        allowed = "must be a path, texts such as video=PATH, or an object of paths by domain"
        raise InputError("catalog", given, allowed)
    return given[0] if isinstance(given, tuple) and len(given) == 1 and not is_named(given[0]) else given


@dataclass(frozen=True)
class BatchOptions:
    """BatchOptions say how requests wait for the device, and for how long."""

    max_batch_size: Rows | None = setting(None, "Requests a batch; the engine's largest batch size if not given.")
    max_queue_delay_ms: Annotated[float, Interval(ge=0, le=LONGEST_MS)] = setting(
        0.0, "How long a request may wait for a fuller batch once a busy engine is free; an idle engine never waits."
    )
    max_queued_requests: Many | None = setting(
        None,
        "Requests that may wait; further ones are answered 503 at once. As many as four batches hold, at least "
        "max_list, if not given.",
    )
    default_deadline_ms: Annotated[float, Interval(gt=0, le=LONGEST_MS)] = setting(
        30_000.0, "Deadline of requests that state none."
    )
    stuck_after_s: Seconds = setting(
        8.0, "A batch longer than this (and than 5 times the slowest of warm-up) means a stuck device: not live."
    )
    max_repeat_share: Annotated[float, Interval(ge=0, le=1)] = setting(
        0.5, "Most of the device's time that goes into repeats of `auto` with wider beams, and into audits."
    )
    audit_share: Annotated[float, Interval(ge=0, le=1)] = setting(
        0.0, "Share of the answers called exact that are searched again at the widest beam, to count differences."
    )

    def __post_init__(self) -> None:
        check_types(self)

    def most_queued(self, max_batch: int, max_list: int) -> int:
        """Return how many requests may wait for batches of `max_batch`: a whole list of `max_list` always."""
        given = self.max_queued_requests
        return max(QUEUED_BATCHES * max_batch, max_list) if given is None else given


@dataclass(frozen=True)
class AdminOptions:
    """AdminOptions are of the second port, on which catalogs and models are changed."""

    admin_port: Port | None = setting(None, "Port of catalog and model operations; off if not given.")
    admin_host: str = setting("127.0.0.1", "Address of the admin port; another than this machine needs a token file.")
    admin_token_file: str | None = setting(None, "File of bearer tokens for the admin port, one a line.")
    catalog_root: str | None = setting(None, "Folder whose subfolders are the catalog versions that may be loaded.")
    model_root: str | None = setting(None, "Folder whose subfolders are the checkpoints that may be loaded.")
    admin_names: tuple[str, ...] | None = setting(
        None, "Names in `Host` that the admin port answers to, besides admin_host, localhost and addresses."
    )
    load_timeout_s: Seconds = setting(600.0, "How long a catalog or checkpoint may take to load; given up after that.")
    max_load_bytes: Annotated[int, Interval(ge=1, le=2**50)] = setting(
        2**37, "Bytes that the files of a catalog or checkpoint may have together."
    )
    refresh_requests: Annotated[int, Interval(ge=0, le=10_000)] = setting(
        64, "Newest answered requests by which weights are compared that are loaded in place; 0: they are not compared."
    )
    refresh_min_overlap: Annotated[float, Interval(ge=0, le=1)] = setting(
        0.5, "Least mean share of the items of those answers that the new weights' answers hold too."
    )
    refresh_max_drift: Annotated[float, Interval(ge=0, le=1e6)] = setting(
        1.0, "Most mean difference of log-probabilities a level, of the items of those answers, in nats."
    )

    def __post_init__(self) -> None:
        check_types(self)
        if self.admin_port is not None and self.admin_host not in LOOPBACK and self.admin_token_file is None:
            raise InputError("admin_token_file", None, f"is required where admin_host is {self.admin_host}")


@dataclass(frozen=True)
class ExperimentOptions:
    """ExperimentOptions name the A/B experiment that the server runs, and who is counted in it."""

    experiment: str | None = setting(None, "YAML file of the experiment to run; needs experiment_root.")
    experiment_root: str | None = setting(None, "Folder whose subfolders hold experiments' records and rows.")
    hold_out_salt: str | None = setting(None, "The deployment's own, for every experiment; needed for a hold_out.")
    unit_field: str = setting("user_id", "Field of `user` that names whom a request is for; text or an integer.")

    def __post_init__(self) -> None:
        check_types(self)
        require(0 < len(self.unit_field) <= 64, "unit_field", self, "must be the name of a user field")
        if self.experiment is not None and self.experiment_root is None:
            raise InputError("experiment_root", None, "is required with experiment: the folder of records and rows")
        salt = self.hold_out_salt
        if salt is not None and (not 0 < len(salt) <= 128 or "\0" in salt):
            raise InputError("hold_out_salt", salt, "must be text of 1 to 128 characters")


@dataclass(frozen=True)
class DrainOptions:
    """DrainOptions say how the server ends."""

    drain_delay_s: Wait = setting(0.0, "After SIGTERM, how long new requests are still taken while ready says 503.")
    drain_timeout_s: Wait = setting(25.0, "After that, the whole way out: what is unanswered near its end gets 503.")

    def __post_init__(self) -> None:
        check_types(self)


@dataclass(frozen=True)
class ServeConfig:
    """ServeConfig has every setting of `octorec serve`, by part.

    None means: off, or the engine's own default where the text says so.
    No two parts have a setting of one name, so that the file and the flags name a setting without its part.
    """

    http: HttpOptions = field(default_factory=HttpOptions)
    engine: EngineOptions = field(default_factory=EngineOptions)
    batch: BatchOptions = field(default_factory=BatchOptions)
    admin: AdminOptions = field(default_factory=AdminOptions)
    ab: ExperimentOptions = field(default_factory=ExperimentOptions)
    drain: DrainOptions = field(default_factory=DrainOptions)

    def __post_init__(self) -> None:
        if self.engine.compare is None:
            return
        needs = {
            "page off": not self.http.page,
            "http_workers": bool(self.http.http_workers),
            "admin_port": self.admin.admin_port is not None,
            "an experiment": self.ab.experiment is not None,
        }
        if with_it := next((name for name, given in needs.items() if given), None):
            allowed = f"does not go with {with_it}: leave one of them out"
            raise InputError("compare", self.engine.compare, allowed)

    @classmethod
    def of(cls, **settings: Any) -> "ServeConfig":
        """Make the configuration from settings by their own names, whatever part they are of."""
        return composed(cls, settings)

    def look_at_paths(self) -> None:
        """Refuse a file or folder that is not there."""
        files = {"token_file": self.http.token_file, "admin_token_file": self.admin.admin_token_file}
        files["examples"] = self.http.examples
        for name, path in (files | {"experiment": self.ab.experiment}).items():
            if path is not None:
                require_file(path, name)
        if self.engine.context_module is not None:
            require_module_file(self.engine.context_module)
        for name, path in (("catalog_root", self.admin.catalog_root), ("model_root", self.admin.model_root)):
            if path is not None:
                folder_names(path, name, "must be a folder whose subfolders are versions")
        if (root := self.ab.experiment_root) is not None:
            folder_names(root, "experiment_root", "must be a folder whose subfolders are experiments")


def read_config(path: str | Path | None, flags: Mapping[str, Any]) -> ServeConfig:
    """Read the settings of a YAML file; the flags that are not None replace them."""
    raw: Any = {}
    if path is not None:
        raw = read_yaml(path, "config")
        raw = {} if raw is None else raw
        check_known(f"config {path}", raw, [*settings_of(ServeConfig)])
    return ServeConfig.of(**{**raw, **{name: value for name, value in flags.items() if value is not None}})
