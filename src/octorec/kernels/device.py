"""This module opens the devices that users name, gives the operations of each, and tells kernels about it."""

import functools
import warnings

import torch

from octorec.errors import InputError
from octorec.kernels import reference
from octorec.kernels.ops import Ops
from octorec.kernels.products import INTERPRETER, Card, card_with


def open_device(name: str | torch.device) -> torch.device:
    """Return the device that a user named: `cpu`, or `cuda` or `cuda:N` where this machine has that GPU
    and it is new enough.

    Raises InputError, which says what to do, for everything else.
    """
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError, ValueError, OverflowError):
        raise InputError("device", name, "allowed: cpu, cuda, cuda:N") from None
    index = device.index or 0
    if device.type not in ("cpu", "cuda") or (device.type == "cpu" and index) or index < 0:
        raise InputError("device", str(name), "allowed: cpu, cuda, cuda:N")
    if device.type == "cuda":
        _check_gpu(str(name), index)
    return device


def _check_gpu(name: str, index: int) -> None:
    """Refuse a GPU that is not there, and one on which neither bfloat16 nor our kernels run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own words about a driver, over several lines
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus == 0 and torch.version.cuda is None:
        raise InputError("device", name, "this torch was built without CUDA: install one with it, or take cpu")
    if gpus == 0:
        why = f"torch {torch.__version__} finds no GPU: check with nvidia-smi that there is one and that its driver is"
        raise InputError("device", name, f"{why} new enough for CUDA {torch.version.cuda}, or take cpu")
    if index >= gpus:
        raise InputError("device", name, f"torch finds {gpus} GPUs: cuda:0 to cuda:{gpus - 1}")
    try:
        card_with(torch.cuda.get_device_capability(index))
    except InputError as error:
        card = torch.cuda.get_device_name(index)
        raise InputError("device", name, f"{card} has compute capability {error.value}; {error.allowed}") from None


def ops_for(device: torch.device) -> Ops:
    """Return the operations that serve on a device: Triton's kernels on a GPU, the references elsewhere."""
    if device.type != "cuda":
        return reference
    from octorec.kernels import fused  # imports triton, which not every machine has

    return fused


def shapes_for(device: torch.device) -> Ops:
    """Return operations for meta tensors: on a GPU's behalf they allocate what the kernels do there,
    and compute nothing.
    """
    if device.type != "cuda":
        return reference
    from octorec.kernels.fused_shapes import Shapes

    return Shapes(card_of(device))


def check_device(device: torch.device) -> None:
    """Refuse devices on which Triton does not run: all but CUDA, and the CPU while Triton's interpreter is on."""
    if device.type == "cuda":
        return
    import triton

    if device.type != "cpu" or not triton.knobs.runtime.interpret:
        allowed = "the kernels need a CUDA GPU; elsewhere hand the model octorec.kernels.reference as its operations"
        raise InputError("device", str(device), allowed)


def check_fp8(device: torch.device) -> None:
    """Refuse FP8 products on a GPU that has no FP8 tensor cores."""
    if device.type == "cuda" and not (card := card_of(device)).fp8:
        allowed = f"{card.name} cards have no FP8 tensor cores: take the 16-bit checkpoint here, or cpu"
        raise InputError("device", torch.cuda.get_device_name(device), allowed)


def card_of(device: torch.device) -> Card:
    """Return the card's record; of meta tensors that of the card which Triton compiles for.

    Raise InputError for an unknown card.
    """
    if device.type == "cuda":
        return card_with(torch.cuda.get_device_capability(device))
    if device.type == "meta":
        from triton.runtime import driver

        return card_with(divmod(driver.active.get_current_target().arch, 10))
    return INTERPRETER


@functools.cache
def processors(device: torch.device) -> int:
    """Return the number of multiprocessors: a persistent kernel starts that many programs.

    On a CPU it is 3: Triton's interpreter runs programs one after another.
    """
    if device.type == "meta":
        return 132  # an H100's: a launch is compiled as there
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 3
