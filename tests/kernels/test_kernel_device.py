"""The device that a user names is one that this machine has."""

import pytest
import torch

from octorec.errors import InputError
from octorec.kernels.device import open_device

OTHERS = ("gpu", "", "cpu:3", "cuda:99", "cuda:200", "cuda:-1", "cuda:x", "meta", "mps", "\x1b[2J", None, 3)


@pytest.mark.parametrize("name", OTHERS, ids=repr)
def test_another_device_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="device: got"):
        open_device(name)


def test_a_gpu_is_opened_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_device("cpu") == open_device(torch.device("cpu")) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    assert open_device("cuda:1").index == 1
    with pytest.raises(InputError, match="finds 2 GPUs: cuda:0 to cuda:1"):
        open_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"or take cpu|install one with it"):
        open_device("cuda")
