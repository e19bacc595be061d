"""The three trained folders, made once for all workers of a run."""

import pickle
from collections.abc import Callable
from functools import cache

import pytest
from filelock import FileLock

from tests.qwen.made_models import Made, Training, made_interactions, make_folder


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Callable[[str], Made]:
    """made(name of a layout) -> its folder, trained by the first worker that asks."""
    base = tmp_path_factory.getbasetemp()
    shared = (base if worker_id == "master" else base.parent) / "qwen"
    shared.mkdir(exist_ok=True)

    @cache
    def make(name: str) -> Made:
        folder, kept = shared / name, shared / f"{name}.pickle"
        with FileLock(shared / f"{name}.lock"):
            if not kept.exists():
                kept.write_bytes(pickle.dumps(make_folder(folder, name, made_interactions(), Training())))
            return pickle.loads(kept.read_bytes())

    return make
