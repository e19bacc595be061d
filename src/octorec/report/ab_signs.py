"""A run of `octorec ab` knows by these signs the pages and plots of an earlier one, which it may replace."""

from pathlib import Path

PAGE, PLOT = "OctoRec A/B report", "OctoRec A/B power"  # texts that stand in every page, and in every plot's title
MOST_BYTES = 2**24  # most bytes of a file that is read


def is_page(path: Path) -> bool:
    """Tell whether a file is a page of an A/B report."""
    return _holds(path, PAGE)


def is_plot(path: Path) -> bool:
    """Tell whether a file is a plot of power against units."""
    return _holds(path, PLOT)


def _holds(path: Path, sign: str) -> bool:
    with path.open("rb") as file:
        return sign.encode() in file.read(MOST_BYTES)
