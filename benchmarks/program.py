"""How a benchmark runs as a program: what a user caused is one line on stderr and exit code 2."""

import sys
from collections.abc import Callable

from octorec.cli.command import ends_in_one_line
from octorec.kernels.device import open_device


def run(main: Callable[[], object], device: str | None = None) -> None:
    """Call `main`. device: what the program cannot do without; its `--help` can."""
    with ends_in_one_line():
        if device is not None and not {"-h", "--help"} & set(sys.argv):
            open_device(device)
        main()
