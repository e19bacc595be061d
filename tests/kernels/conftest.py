"""Kernels run on the GPU where there is one, in Triton's interpreter elsewhere; what they leave unwritten is NaN."""

from collections.abc import Callable
from typing import Any

import interpreter
import pytest
import torch
from torch import Tensor
from torch.utils._device import _device_constructors

_device_constructors()  # caches torch.empty as it is: were it poisoned, later meta models would take memory
ON_GPU = torch.cuda.is_available()
if not ON_GPU:
    interpreter.install()


@pytest.fixture
def device() -> str:
    """Where a kernel test puts its tensors."""
    return "cuda" if ON_GPU else "cpu"


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh memory holds NaN, or 0x7f bytes where a type has none: an output that nobody wrote cannot pass."""
    for owner, name in ((torch, "empty"), (torch, "empty_like"), (Tensor, "new_empty")):
        monkeypatch.setattr(owner, name, _poisoned(getattr(owner, name)))


def _poisoned(allocate: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def wrapper(*args: Any, **kwargs: Any) -> Tensor:
        tensor = allocate(*args, **kwargs)
        if tensor.is_meta:
            return tensor
        if tensor.is_floating_point() and tensor.itemsize > 1:
            return tensor.fill_(float("nan"))
        if tensor.dtype != torch.bool and tensor.numel():
            tensor.view(torch.uint8).fill_(0x7F)  # NaN in E4M3
        return tensor

    return wrapper
