"""The limits of `octorec parity` are told without torch, so that the command line can read them."""

from octorec.errors import InputError

TOLERANCE = 1e-4  # nats; what sums in another order differ by in float32, of small models, is a tenth of that
BEAM_WIDTH, REQUESTS = 32, 16
LENGTH_PENALTIES = (0.0, 1.0)


def check_beam_width(beam_width: int) -> None:
    """Raise InputError for fewer than two beams, of which transformers makes no beam search."""
    if beam_width < 2:
        raise InputError("beam_width", beam_width, "must be 2 or more: of one beam transformers tells no score")


def check_tolerance(tolerance: float) -> None:
    """Raise InputError unless the tolerance is a positive number."""
    if not 0 < tolerance < 1:
        raise InputError("tolerance", tolerance, "must be above 0 and below 1, in nats")
