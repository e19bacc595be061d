"""OctoRec: FP8 inference for generative recommenders, with proof that recommendations did not get worse.

import octorec

engine = octorec.load("runs/demo/fp8")
answer = engine.recommend([octorec.Request(history=["50", "181"], k=5)])[0]
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from octorec.engine.engine import Engine
    from octorec.engine.load import load
    from octorec.engine.request import Answer, Request
    from octorec.models.features import Feature

from octorec.threads import share_the_cores

share_the_cores()  # before anything imports torch

__version__ = "0.1.0"
__all__ = ["Answer", "Engine", "Feature", "Request", "__version__", "load"]

if not TYPE_CHECKING:  # a type checker that saw this would take any misspelt name for one that is made here

    def __getattr__(name):
        """Import torch and the engine when first asked for, so that `import octorec` stays quick."""
        if name == "load":
            from octorec.engine.load import load

            return load
        if name in ("Request", "Answer"):
            from octorec.engine import request

            return getattr(request, name)
        if name == "Feature":
            from octorec.models.features import Feature

            return Feature
        if name == "Engine":
            from octorec.engine.engine import Engine

            return Engine
        raise AttributeError(f"module 'octorec' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
