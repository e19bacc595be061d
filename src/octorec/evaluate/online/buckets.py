"""Units fall into integer buckets by a hash, and buckets belong to variants by their shares.

A bucket is made of three texts, in UTF-8 with a zero byte between them:

    digest = SHA-256(salt 00 purpose 00 unit)
    bucket = (the first six bytes of the digest, as a big-endian integer) mod 10,000

Six bytes are exact in a double, so that JavaScript gives the same bucket; no quotient is taken.
docs/online-assignment.md has test vectors.
"""

import math
from collections.abc import Iterable, Mapping
from fractions import Fraction
from hashlib import sha256
from itertools import accumulate, pairwise

BUCKETS = 10_000
VARIANT = "variant"  # the purpose of the hash that chooses it


def bucket(salt: str, purpose: str, unit: str) -> int:
    """Return a bucket in 0..BUCKETS - 1, as the module's text says."""
    digest = sha256(f"{salt}\0{purpose}\0{unit}".encode()).digest()
    return int.from_bytes(digest[:6], "big") % BUCKETS


def borders(shares: Iterable[Fraction]) -> list[int]:
    """Return the first bucket after each variant's own: the sum of the shares so far x BUCKETS, rounded up."""
    return [math.ceil(share * BUCKETS) for share in accumulate(shares)]


def drawn(shares: Mapping[str, Fraction]) -> dict[str, Fraction]:
    """Return the shares that are really drawn, which are whole buckets.

    Three times 1/3 become 3334, 3333 and 3333 of 10,000.
    """
    counts = (end - start for start, end in pairwise([0, *borders(shares.values())]))
    return {name: Fraction(count, BUCKETS) for name, count in zip(shares, counts, strict=True)}
