"""The margin has one default and one pair of bounds. This imports no torch, so that the command line can read it."""

from octorec.errors import InputError

MARGIN = 0.05  # relative loss of recall and NDCG that is accepted, of every verb: 0.05 is 5 %


def check_margin(margin: float) -> None:
    """Raise InputError unless `margin` is above 0 and below 1."""
    if not 0 < margin < 1:
        raise InputError("margin", margin, "must be between 0 and 1: 0.01 allows a loss of 1 %")


def percent(share: float) -> str:
    """Return a margin as people say it, such as `5 %`."""
    return f"{100 * share:.4g} %"
