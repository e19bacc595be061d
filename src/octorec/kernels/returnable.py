# mypy: allow-untyped-defs
"""A beam may be extended to some children of a trie node: those with a live item below, one of an allowed set, and not
banned.

Children are told by their slot, their place in the level's flat arrays.
"""

import triton
import triton.language as tl
from torch import Tensor

from octorec.kernels.ops import DEAD, NodeFilter, TrieLevel

_DEAD = tl.constexpr(DEAD)


def filter_arguments(level: TrieLevel, node_filter: NodeFilter | None) -> tuple[tuple[Tensor | int | None, ...], int]:
    """Return what kernels take of a filter: child_sets, banned, first, allowed_sets, restricted (or
    None); words of sets.
    """
    if node_filter is None:
        return (None, None, None, None, None), 0
    banned, first = node_filter.banned.contiguous(), node_filter.first.contiguous()
    if level.child_sets is None:
        return (None, banned, first, None, None), 0
    allowed = node_filter.allowed_sets.contiguous()
    return (level.child_sets, banned, first, allowed, node_filter.restricted), allowed.shape[1]


@triton.jit
def largest_returnable(x, first_slot, child_live_ptr, child_sets_ptr, allowed_ptr, limited, WORDS: tl.constexpr):
    """Return the largest x of each row that may be returned; all of a row are looked up only where its
    very largest may not.

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
    """Tell whether a live item lies below a child, and one of the allowed sets where the request is limited to some."""
    live = tl.load(child_live_ptr + slot, mask=mask, other=0) > 0
    if WORDS > 0:
        common = tl.zeros(slot.shape, tl.int64)
        for word in tl.static_range(WORDS):
            sets = tl.load(child_sets_ptr + slot.to(tl.int64) * WORDS + word, mask=live & limited, other=0)
            common |= sets & tl.load(allowed_ptr + word)
        live = live & ((common != 0) | ~limited)
    return live


@triton.jit
def next_banned(banned_ptr, first_ptr, after):
    """Return the lowest node above `after` that a request bans; _DEAD if there is none.

    banned_ptr: all requests' nodes, or None; first_ptr: where the request's begin, and behind it where they end. Both
    are loaded again, as that costs less than to keep them in registers.
    """
    lowest = tl.full((), _DEAD, tl.int32)
    if banned_ptr is not None:
        end = tl.load(first_ptr + 1)
        for first in range(tl.load(first_ptr), end, 512):
            place = first + tl.arange(0, 512)
            node = tl.load(banned_ptr + place, mask=place < end, other=_DEAD)
            lowest = tl.minimum(lowest, tl.min(tl.where(node > after, node, _DEAD), 0))
    return lowest


@triton.jit
def without_banned(x, slot, first, banned_ptr, first_ptr):
    """Return x, -inf where the child is a banned node; `first` is the lowest slot."""
    if banned_ptr is not None:
        node = next_banned(banned_ptr, first_ptr, first - 1)
        while node < first + x.numel:
            x = tl.where(slot == node, float("-inf"), x)
            node = next_banned(banned_ptr, first_ptr, node)
    return x


@triton.jit
def is_limited(restricted_ptr, request):
    """Tell whether a request may be given only items of its allowed sets."""
    limited = False
    if restricted_ptr is not None:
        limited = tl.load(restricted_ptr + request) != 0
    return limited
