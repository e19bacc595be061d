"""One dataclass is the file, the flags and the documentation; and every log line is JSON."""

import json
import logging
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import typer.testing
import yaml

from octorec.cli import app as cli
from octorec.errors import InputError
from octorec.serve.config import (
    AdminOptions,
    BatchOptions,
    DrainOptions,
    EngineOptions,
    ExperimentOptions,
    HttpOptions,
    ServeConfig,
    read_config,
)
from octorec.serve.logs import JsonFormatter
from octorec.serve.run import listen
from octorec.settings import settings_of


def test_every_field_is_a_flag_with_its_help_and_default() -> None:
    parameters = {p.name: p for p in typer.main.get_command(cli.app).commands["serve"].params}  # type: ignore[attr-defined]
    for field in settings_of(ServeConfig).values():
        help_text = parameters[field.name].help
        assert field.metadata["help"] in help_text
        assert help_text.endswith(field.metadata["help"] if field.default is None else f"Default: {field.default}.")
    assert set(parameters) == {"checkpoint", "config", *settings_of(ServeConfig)}


def test_flags_go_before_the_file_and_the_file_before_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "serve.yaml").write_text("port: 9000\nmax_list: 5\nbatch_sizes: [1, 4]\nlog_requests: false\n")
    seen: list[ServeConfig] = []
    monkeypatch.setattr("octorec.serve.run.serve", lambda checkpoint, config: seen.append(config))
    for name in ("config.json", "model.safetensors", "catalog/catalog.json"):
        (tmp_path / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "model" / name).write_text("{}")
    model = str(tmp_path / "model")
    arguments = ["serve", model, "--config", str(tmp_path / "serve.yaml"), "--port", "9001", "--beam-widths", "8,16"]
    result = typer.testing.CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    expected = ServeConfig.of(port=9001, max_list=5, batch_sizes=(1, 4), beam_widths=(8, 16), log_requests=False)
    assert seen == [expected]
    options = {"batch_sizes": (1, 4), "beam_widths": (8, 16), "max_exclude": 10_000, "exclude_seen": False}
    options["prefix_cache_bytes"] = 250_000_000
    assert seen[0].engine.of_engine() == options
    assert read_config(None, {}) == ServeConfig()
    assert ServeConfig().http.host == "127.0.0.1"
    assert ServeConfig().admin.admin_port is None


FILE = """
host: 0.0.0.0
port: 9000
device: cuda
catalog: catalogs/a
model_name: shop
token_file: tokens
max_batch_size: 8
max_queue_delay_ms: 2
max_queued_requests: 100
default_deadline_ms: 500
exclude_seen: true
unknown_items: refuse
context_module: mine.py:Mine
batch_sizes: [1, 8]
beam_widths: 32,128
default_beam_width: 32
max_items: 1000
max_body_bytes: 4096
max_exclude: 10
max_list: 2
keep_alive_s: 5
body_timeout_s: 1.5
admin_port: 9001
admin_host: localhost
admin_token_file: secret
catalog_root: catalogs
model_root: models
experiment: ab.yaml
experiment_root: experiments
hold_out_salt: salt
unit_field: member
stuck_after_s: 3
drain_delay_s: 4
drain_timeout_s: 6
log_requests: false
spans: true
max_rows: 4096
max_repeat_share: 0.25
audit_share: 0.01
base: parent
max_tokens: 2048
batch_tokens: 8192
prefix_cache: false
prefix_cache_bytes: 1000000
prefix_shared: true
domain: video
task: ad
caps: {Sci-Fi: 3}
distinct_codes: 2
max_cosine: 0.9
show_prompt: true
head_timeout_s: 2
answer_timeout_s: 7
max_connections: 300
admin_names: [octorec.internal]
trusted_proxies: 10.0.0.0/8, ::1
client_header: X-Client
grpc_port: 9003
http_workers: 3
page: false
examples: e.json
compare: null
load_timeout_s: 60
max_load_bytes: 1000
refresh_requests: 16
refresh_min_overlap: 0.7
refresh_max_drift: 0.3
"""


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ({}, 250_000_000),
        ({"device": "cuda"}, 4_000_000_000),
        ({"prefix_cache_bytes": 7}, 7),
        ({"prefix_cache_bytes": 0}, 0),
        ({"prefix_cache": False, "prefix_cache_bytes": 7}, 0),
    ],
)
def test_beginnings_of_prompts_are_kept_in_the_memory_that_is_given(given: dict[str, Any], size: int) -> None:
    assert ServeConfig.of(**given).engine.of_engine()["prefix_cache_bytes"] == size


def test_a_file_of_flat_names_is_read_into_parts(tmp_path: Path) -> None:
    (tmp_path / "serve.yaml").write_text(FILE)
    config = read_config(tmp_path / "serve.yaml", {"port": 9002})
    assert config == ServeConfig(
        HttpOptions(
            *("0.0.0.0", 9002, "shop", "tokens", 4096, 2, 5.0, 1.5, False, True, 2.0, 7.0, 300),
            *("10.0.0.0/8, ::1", "X-Client", 9003, 3, False, "e.json", True),
        ),
        EngineOptions(
            *(
                "cuda",
                "catalogs/a",
                (1, 8),
                (32, 128),
                32,
                1000,
                10,
                True,
                "refuse",
                "mine.py:Mine",
                4096,
                "parent",
                2048,
                8192,
                False,
                1000000,
                True,
                "video",
                "ad",
                None,
                {"Sci-Fi": 3},
                2,
                0.9,
            )
        ),
        BatchOptions(8, 2.0, 100, 500.0, 3.0, 0.25, 0.01),
        AdminOptions(
            9001, "localhost", "secret", "catalogs", "models", ("octorec.internal",), 60.0, 1000, 16, 0.7, 0.3
        ),
        ExperimentOptions("ab.yaml", "experiments", "salt", "member"),
        DrainOptions(4.0, 6.0),
    )
    assert set(yaml.safe_load(FILE)) == set(settings_of(ServeConfig))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot: 1", "unknown key; known: host, port"),
        ("port: x", r"port: got 'x'; must be of type int"),
        ("port: true", "port: got True"),
        ("port: 70000", "must be an integer from 0 to 65535"),
        ("max_list: 0", "must be an integer from 1 to 1000000"),
        ("max_queue_delay_ms: -1", "must be from 0 to 3600000"),
        ("default_deadline_ms: 0", "must be above 0, at most 3600000"),
        ("default_deadline_ms: .nan", "must be finite"),
        ("batch_sizes: a,b", "must be integers, with commas"),
        ("batch_sizes: [1.9, 8.2]", "must be integers, with commas"),
        ("batch_sizes: [true, 8]", "must be integers, with commas"),
        ("batch_sizes: {1: 8}", "must be integers, with commas"),
        ("batch_sizes: 8", "must be integers, with commas"),
        ("admin_names: [null]", "must be texts, with commas"),
        ("batch_sizes: [[1]]", "must be integers, with commas"),
        ("batch_sizes: [1, 99999999999999999999]", "must be"),
        ("keep_alive_s: 1.0e+300", "must be"),
        ("max_list: 99999999999999999999", "must be"),
        ("port: 1\nport: 2", "'port' stands twice"),
        ("port: 2026-99-99", "is no YAML"),
        ("host: &a [*a]", "must be of type str"),
        ("[" * 999, "nested too deeply"),
        ("unknown_items: keep", "allowed: drop, refuse"),
        ("device: cuda:1", "allowed: cpu, cuda"),
        ("admin_host: 0.0.0.0\nadmin_port: 9", "admin_token_file: got None; is required"),
        ("- 1", "must have the keys host, port"),
        (": :", "is no YAML"),
    ],
)
def test_a_wrong_file_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "serve.yaml").write_text(text)
    with pytest.raises(InputError, match=said):
        read_config(tmp_path / "serve.yaml", {})


def test_log_lines_are_json_with_what_came_along() -> None:
    record = logging.getLogger("x").makeRecord(
        "x",
        logging.INFO,
        "file",
        1,
        "a %s",
        ("request",),
        None,
        extra={"request_id": "r1", "path": Path("/a"), "_ns": 1},
    )
    line = json.loads(JsonFormatter().format(record))
    assert line.pop("time").endswith("Z")
    assert line == {"level": "info", "message": "a request", "request_id": "r1", "path": "/a"}


def test_an_address_that_cannot_be_listened_on_is_said_before_anything_is_loaded() -> None:
    with closing(listen("127.0.0.1", 0, "host")[0]) as taken:
        port = taken.getsockname()[1]
        for host, at in (("127.0.0.1", port), ("nowhere.invalid", 0), ("999.1.1.1", 0), ("a\0b", 0), ("a" * 300, 0)):
            with pytest.raises(InputError, match=r"admin_host: got .*; cannot be listened on"):
                listen(host, at, "admin_host")
