"""The scheme of an address says over which protocol a server is asked."""

from importlib import import_module
from types import ModuleType

GRPC = "grpc://"


def way_of(url: str) -> ModuleType:
    """Return the module that asks a server, whose library is an extra: `over` opens the way there, `asked_of` says what
    is sent, and `about` which versions answer."""
    if url.startswith(GRPC):
        return import_module("octorec.bench.over_grpc")
    return import_module("octorec.bench.over_http")
