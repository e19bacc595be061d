# mypy: allow-untyped-defs
"""Which children of a trie node may be returned: live ones, of an allowed set, not banned.

Children are told by their slot, their place in the level's flat arrays. Letters: X banned leaves a request.
"""

import triton
import triton.language as tl
from torch import Tensor

from octorec.kernels.reference import DEAD, LeafFilter, TrieLevel

_DEAD = tl.constexpr(DEAD)


def filter_arguments(level: TrieLevel, leaf_filter: LeafFilter | None) -> tuple[tuple[Tensor | int | None, ...], int]:
    """What kernels take of a filter: child_sets, banned, X, allowed_sets, restricted (None without); words of sets."""
    if leaf_filter is None:
        return (None, None, 0, None, None), 0
    banned = leaf_filter.banned.contiguous()
    if level.child_sets is None:
        return (None, banned, banned.shape[1], None, None), 0
    allowed = leaf_filter.allowed_sets.contiguous()
    return (level.child_sets, banned, banned.shape[1], allowed, leaf_filter.restricted), allowed.shape[1]


@triton.jit
def largest_returnable(x, first_slot, child_live_ptr, child_sets_ptr, allowed_ptr, limited, WORDS: tl.constexpr):
    """The largest x of each row that may be returned; all of a row are looked up only where its very largest may not.

    x [rows, columns] float32, -inf where there is no child; first_slot [rows]: the slot of each row's first column.
    """
    largest, at = tl.max(x, 1, return_indices=True)
    some = largest > float("-inf")
    ok = returnable(first_slot + at, some, child_live_ptr, child_sets_ptr, allowed_ptr, limited, WORDS)
    missing = some & (ok == 0)
    if tl.max(missing.to(tl.int32), 0) > 0:
        slot = first_slot[:, None] + tl.arange(0, x.shape[1])[None, :]
        rest = (x > float("-inf")) & missing[:, None]
        rest = returnable(slot, rest, child_live_ptr, child_sets_ptr, allowed_ptr, limited, WORDS)
        largest = tl.where(missing, tl.max(tl.where(rest, x, float("-inf")), 1), largest)
    return largest


@triton.jit
def returnable(slot, mask, child_live_ptr, child_sets_ptr, allowed_ptr, limited, WORDS: tl.constexpr):
    """Whether a live item lies below a child, and one of the allowed sets where the request is limited to some."""
    live = tl.load(child_live_ptr + slot, mask=mask, other=0) > 0
    if WORDS > 0:
        common = tl.zeros(slot.shape, tl.int64)
        for word in tl.static_range(WORDS):
            sets = tl.load(child_sets_ptr + slot.to(tl.int64) * WORDS + word, mask=live & limited, other=0)
            common |= sets & tl.load(allowed_ptr + word)
        live = live & ((common != 0) | ~limited)
    return live


@triton.jit
def next_banned(banned_ptr, after, X):
    """The lowest banned leaf above `after`; _DEAD if there is none. banned_ptr: the request's X leaves, or None."""
    lowest = tl.full((), _DEAD, tl.int32)
    if banned_ptr is not None:
        for first in range(0, X, 512):
            place = first + tl.arange(0, 512)
            leaf = tl.load(banned_ptr + place, mask=place < X, other=_DEAD).to(tl.int32)
            lowest = tl.minimum(lowest, tl.min(tl.where(leaf > after, leaf, _DEAD), 0))
    return lowest


@triton.jit
def without_banned(x, slot, first, banned_ptr, X):
    """x, -inf where the child is a banned leaf; `first` is the lowest slot."""
    if banned_ptr is not None:
        leaf = next_banned(banned_ptr, first - 1, X)
        while leaf < first + x.numel:
            x = tl.where(slot == leaf, float("-inf"), x)
            leaf = next_banned(banned_ptr, leaf, X)
    return x


@triton.jit
def is_limited(restricted_ptr, request):
    """Whether a request may be given only items of its allowed sets."""
    limited = False
    if restricted_ptr is not None:
        limited = tl.load(restricted_ptr + request) != 0
    return limited
