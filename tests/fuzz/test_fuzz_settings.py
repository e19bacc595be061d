"""The server's settings: YAML files of `octorec serve --config`."""

import random
from pathlib import Path

import pytest
import yaml
from harness import fuzz
from mutate import broken_bytes, mutated

from octorec.serve.config import ServeConfig, read_config
from octorec.settings import settings_of

SETTINGS = {
    field.name: list(field.default) if isinstance(field.default, tuple) else field.default
    for field in settings_of(ServeConfig).values()
}
SETTINGS |= {"batch_sizes": [1, 8], "beam_widths": "32,128", "admin_port": 8081, "max_batch_size": 8}


def make(folder: Path) -> None:
    (folder / "serve.yaml").write_text(yaml.dump(SETTINGS))


def broken(folder: Path, rng: random.Random) -> str:
    some = {name: SETTINGS[name] for name in rng.sample(sorted(SETTINGS), rng.randrange(1, len(SETTINGS)))}
    if rng.random() < 0.7:
        text = yaml.dump(mutated(some, rng)).encode("utf-8", "surrogateescape")
    else:
        text = broken_bytes(yaml.dump(some).encode(), rng)
    (folder / "serve.yaml").write_bytes(text)
    return repr(text)


def read(folder: Path) -> object:
    config = read_config(folder / "serve.yaml", {})
    return config.engine.of_engine() or config


@pytest.mark.slow
def test_broken_settings_are_refused_in_one_line() -> None:
    fuzz("test_fuzz_settings")
