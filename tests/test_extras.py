"""A module that only an extra brings is asked for with the command that installs it."""

import sys
import tomllib
from pathlib import Path

import pytest

from octorec.extras import EXTRA_OF, how_to_install
from tests.cli.test_command import said_at_the_end

ROOT = Path(__file__).parent.parent
MODULES = {
    "compressed-tensors": "compressed_tensors",
    "fastapi-offline": "fastapi_offline",
    "grpcio": "grpc",
    "grpcio-health-checking": "grpc_health",
    "opentelemetry-exporter-otlp-proto-http": "opentelemetry",
    "opentelemetry-sdk": "opentelemetry",
    "prometheus-client": "prometheus_client",
    "protobuf": "google",
    "pyzmq": "zmq",
    "ray[serve,data]": "ray",
    "sgl-deep-gemm": "deep_gemm",
}  # named unlike their distributions
NOT_OF_THE_PACKAGE = {"dev", "docs"}  # what no module of the package imports


@pytest.mark.parametrize(
    ("arguments", "missing", "needs_it", "extra"),
    [
        (["serve", "."], "uvicorn", "octorec.serve.run", "serve"),
        (["serve", "."], "fastapi", "octorec.serve.run", "serve"),
        (["serve", ".", "--grpc-port", "0"], "grpc", "octorec.serve.oip_server", "grpc"),
        (["bench", "serve", "http://[::1]:9", "--requests", "r.jsonl"], "aiohttp", "octorec.bench.over_http", "bench"),
        (["bench", "serve", "grpc://127.0.0.1:9", "--requests", "r.jsonl"], "grpc", "octorec.bench.over_grpc", "grpc"),
        (["parity", ".", "--data", "r.jsonl"], "transformers", "octorec.parity.theirs", "parity"),
    ],
)
def test_a_verb_says_what_to_install(
    arguments: list[str], missing: str, needs_it: str, extra: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "catalog").mkdir()
    for name in ("r.jsonl", "config.json", "model.safetensors", "catalog/catalog.json", "catalog/items.parquet"):
        (tmp_path / name).write_text("{}")
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, needs_it, raising=False)
    code, said = said_at_the_end(arguments)
    assert (code, said) == (2, f"error: {missing} is not installed: run pip install 'octorec[{extra}]'\n")


def test_every_package_of_an_extra_is_known() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra in set(extras) - NOT_OF_THE_PACKAGE:
        for requirement in extras[extra]:
            package = requirement.partition(">")[0]
            assert EXTRA_OF[MODULES.get(package, package)] in extras, requirement
    assert set(EXTRA_OF.values()) == set(extras) - NOT_OF_THE_PACKAGE


def test_a_module_that_no_extra_brings_is_a_fault_of_ours() -> None:
    assert how_to_install(ModuleNotFoundError("No module named 'x'", name="x")) is None
    assert how_to_install(ModuleNotFoundError("no name")) is None
