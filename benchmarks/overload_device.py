"""A device whose batches all take as long: where the point is who is served, and not how fast the arithmetic is."""

SECONDS, ROWS = 0.2, 4  # of a batch
RATE = ROWS / SECONDS  # requests a second that it can answer

PROGRAM = """
import time
from octorec.engine.engine import Engine
launch, kept = Engine.launch, {}
def timed(self, parsed):
    end = time.monotonic() + SECONDS
    if len(parsed) not in kept:
        kept[len(parsed)] = launch(self, parsed)()
    def found():
        time.sleep(max(0.0, end - time.monotonic()))
        return kept[len(parsed)]
    return found
Engine.launch = timed
from octorec.cli.app import main
main()
"""


def command(python: str, checkpoint: str, *flags: str, seconds: float = SECONDS) -> list[str]:
    """Return the command of `octorec serve` with such a device. seconds: of a batch."""
    program = PROGRAM.replace("SECONDS", str(seconds))
    widths = ("--beam-widths", "16", "--default-beam-width", "16", "--batch-sizes", f"1,{ROWS}")
    return [python, "-c", program, "serve", checkpoint, "--port", "0", "--no-log-requests", *widths, *flags]
