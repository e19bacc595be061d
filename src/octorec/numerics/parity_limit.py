"""The limit of `octorec import --parity` is told without torch, so that the command line can read it."""

from octorec.errors import InputError

LEAST_DB = 60.0  # float32 against float32 has over 100; another epsilon of a norm, or a table off by a row, has less


def check_least_db(least_db: float) -> None:
    """Raise InputError unless a limit of SQNR is from 0 to 300 dB."""
    if not 0 <= least_db <= 300:
        raise InputError("least_db", least_db, "must be from 0 to 300 dB: 60 for float32, 30 for bfloat16")
