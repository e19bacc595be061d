"""Where there is no GPU: Triton interprets its kernels, and tests marked `gpu` are skipped and say so."""

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # has to be set before triton is first imported


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 9):
        return
    skip = pytest.mark.skip(reason="needs a CUDA GPU of compute capability 8.9 or more, and there is none here")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)
