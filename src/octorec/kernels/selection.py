# mypy: allow-untyped-defs
"""Choose the k largest of values that a program holds in registers, without sorting them.

Values become integers of the same order; a bisection counts how many reach a value, until exactly k do. What was chosen
is written in the order of position, so that of equal values the first are taken.
"""

import triton
import triton.language as tl

_NONE = tl.constexpr(-2139095041)  # sortable(-inf)


@triton.jit
def choose(x, wanted, chosen_ptr, left_ptr, K, SLOTS: tl.constexpr):
    """Write where in x its `wanted` largest above -inf are, of equal ones the first: ascending, then -1 up to K.

    left_ptr gets the largest of the others, -inf where there are none. x float32 of fewer than 2^16 values; wanted <= K
    <= SLOTS, a power of two, and below 2^15.
    """
    key = sortable(x)
    threshold = _threshold(key, wanted)
    above = (key > threshold).to(tl.int32)
    equal = ((key == threshold) & (key > _NONE)).to(tl.int32)
    quota = wanted - tl.sum(above, 0)
    below = tl.max(tl.where(key < threshold, key, _NONE), 0)  # and stored before the count below takes all registers
    left = tl.where(tl.sum(equal, 0) > quota, threshold, below)
    tl.store(left_ptr, (left ^ ((left >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True))
    pair = (above << 16) | equal  # both counts fit: above < wanted, and fewer than 2^16 keys
    before = tl.cumsum(pair, 0) - pair
    above_before, equal_before = before >> 16, before & 0xFFFF
    taken = (above > 0) | ((equal > 0) & (equal_before < quota))
    place = above_before + tl.minimum(equal_before, quota)
    tl.store(chosen_ptr + place, tl.arange(0, x.numel), mask=taken)
    rest = tl.arange(0, SLOTS)
    unused = (rest >= tl.sum(taken.to(tl.int32), 0)) & (rest < K)
    tl.store(chosen_ptr + rest, tl.full((SLOTS,), -1, tl.int32), mask=unused)


@triton.jit
def sortable(x):
    """Return float32 as int32 of the same order, -0.0 and 0.0 being equal."""
    bits = tl.where(x == 0.0, 0.0, x).to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def _threshold(key, wanted):
    """Return a value that exactly `wanted` keys reach; else the wanted-th largest key, or with too few
    keys the smallest.

    Bisection between the smallest and the largest key, at most 32 counts and about 14 on keys without ties.
    """
    low = tl.min(tl.where(key > _NONE, key, 0x7FFFFFFF), 0).to(tl.int64)
    high = tl.max(key, 0).to(tl.int64) + 1
    count = tl.sum((key > _NONE).to(tl.int32), 0)
    while (high - low > 1) & (count > wanted):
        middle = low + (high - low) // 2
        reached = tl.sum((key >= middle.to(tl.int32)).to(tl.int32), 0)
        enough = reached >= wanted
        low, high = tl.where(enough, middle, low), tl.where(enough, high, middle)
        count = tl.where(enough, reached, count)
    return low.to(tl.int32)
