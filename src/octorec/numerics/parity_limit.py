"""The limit of `octorec import --parity` is told without torch, so that the command line can read it."""

from octorec.errors import InputError

LEAST_DB = 80.0  # float32 against float32 has over 100; a norm with an epsilon of 1e-4 in the place of 1e-6 has 67


def check_least_db(least_db: float) -> None:
    """Raise InputError unless a limit of SQNR is from 0 to 300 dB."""
    if not 0 <= least_db <= 300:
        raise InputError("least_db", least_db, "must be from 0 to 300 dB: 80 for float32, 30 for bfloat16")
