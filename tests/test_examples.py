"""Each file of examples/ is run as its first line says, against one server of a small checkpoint."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from octorec.catalog.catalog import Catalog
from octorec.catalog.codebook import Codebook
from tests.serve.served import SIZES, Process, save_checkpoint

EXAMPLES = Path(__file__).parent.parent / "examples"
IDS = ["50", "181", "172", "1", "7", "12", "56", "302", "100", *map(str, range(1000, 1050))]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator = np.random.default_rng(0)
    codes = np.stack([generator.integers(0, size, len(IDS)) for size in SIZES], 1)
    columns = {
        "item_id": IDS,
        "title": [f"Film {one}" for one in IDS],
        "codes": pa.array(codes.tolist(), pa.list_(pa.int32())),
        "sets": pa.array([["Comedy"] if n % 2 else ["Drama"] for n in range(len(IDS))], pa.list_(pa.string())),
    }
    codebook = Codebook(tuple(np.zeros((size, 2), np.float32) for size in SIZES))
    folder = tmp_path_factory.mktemp("examples") / "model"
    save_checkpoint(folder, Catalog.of_items(pa.table(columns), SIZES, codebook))
    return folder


@pytest.fixture(scope="module")
def ports(checkpoint: Path) -> Iterator[tuple[int, int]]:
    server = Process(checkpoint, "--grpc-port", "0", "--beam-widths", "32", "--default-beam-width", "32")
    try:
        server.line("ready")
        listening = {line["application"]: line["port"] for line in server.lines if line["message"] == "listening"}
        yield listening["OctoRec"], next(port for name, port in listening.items() if name != "OctoRec")
    finally:
        server.process.kill()
        server.process.wait()


def ran(name: str, *arguments: str) -> str:
    program = "sh" if name.endswith(".sh") else sys.executable
    done = subprocess.run([program, str(EXAMPLES / name), *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_ask(ports: tuple[int, int]) -> None:
    said = ran("ask.py", f"http://127.0.0.1:{ports[0]}").splitlines()
    assert len(said) == 7
    assert all(re.fullmatch(r" *\d+ +-\d+\.\d{3} Film \d+", line) for line in said[:5])
    assert said[-1].startswith("refused, because of k: k:")


def test_ask_many(ports: tuple[int, int]) -> None:
    said = ran("ask_many.py", f"http://127.0.0.1:{ports[0]}").splitlines()
    assert [line.partition(":")[0] for line in said] == [
        "who likes space", "who likes mysteries", "who wants a comedy", "who is wrong",
    ]  # fmt: skip
    assert said[0].count("Film") == 3
    assert "no such genre" in said[3]


def test_ask_by_curl(ports: tuple[int, int]) -> None:
    said = ran("ask.sh", f"http://127.0.0.1:{ports[0]}").splitlines()
    assert said[0] == '{"ready":true}'
    assert '"titles":["Film' in said[1]
    assert said[2].startswith('{"answers":[{"items":[')
    assert '"field":"k"' in said[3]


def test_ask_over_grpc(ports: tuple[int, int]) -> None:
    said = ran("ask_grpc.py", f"127.0.0.1:{ports[1]}")
    assert "item_indices (2, 20) int64" in said
    assert "scores (2, 20) float32" in said
    assert "counts (2,) int64" in said


def test_own_features(checkpoint: Path) -> None:
    said = [line.partition("[")[2] for line in ran("own_features.py", str(checkpoint)).splitlines()]
    without, zeros, morning, evening = said
    assert without == zeros
    assert len({without, morning, evening}) == 3


def test_own_model(checkpoint: Path) -> None:
    first, drama, scored = ran("own_model.py", str(checkpoint / "catalog")).splitlines()
    assert first.count("Film") == drama.count("Film") == 5
    films = [int(IDS.index(one) % 2) for one in re.findall(r"Film (\d+)", drama)]
    assert films == [0] * 5
    assert "Film 100'" not in drama
    assert len(re.findall(r"-\d+\.\d+", scored)) == 3


def test_every_example_is_listed() -> None:
    files = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".sh")}
    assert files == set(re.findall(r"^\| \[(.+?)\]", (EXAMPLES / "README.md").read_text(), re.M))
