# mypy: allow-untyped-defs
"""Triton kernels of `Ops.beam_step`: the best widths[b] of W x V extensions in one read of the logits.

A candidate is a child of a beam's trie node. Candidates are numbered in ascending prefix order and compared by
(total descending, number ascending), which is a strict order; "the best k" are the k first in it. They are found in
three selections, each of k from a fixed number of keys that fit in registers, whatever the data:

    children in tiles of 256 -> the k best tiles -> the k best subtiles of 16 in them -> the k best candidates

A tile (and a subtile) is a run of consecutive candidates, represented by its best total. Where a request has more tiles
than a selection has room for, the k best of each part of them are chosen first, and of these the k best.

Why this is exact. Order the tiles by (best total descending, position ascending), and choose the k first. Take any
candidate c of a tile that was not chosen, and any chosen tile with best candidate m. Either m's total is above the best
total of c's tile, and so above c's; or they are equal and m's tile stands before c's, so that m's total is at least c's
and m's number is lower. Both ways m comes before c. So k candidates, one a chosen tile, come before c, and c is not
among the k best. Where fewer than k tiles hold a candidate, all of them are chosen. The same holds of the subtiles in
the chosen tiles. Ties need no extra room: exactly k tiles are chosen, of equal ones the first.

Why one read. Within a row, total = ((logit - max) - log sum exp(logit - max)) + score never falls as the logit rises,
rounding included. So a tile's best total is the total of its largest logit: the pass over the rows keeps largest logits
and the row's two statistics, and only the chosen tiles (k x 256 values a request) are read again.

What is dropped. Each selection tells the largest of the keys that it leaves out, which are totals of candidates; the
largest of all these is that of all candidates that are not among the k best.

Which children count. The child with a tile's largest logit is looked up, and all of the tile only where that one has no
live, permitted item. So a trie costs its codes (2 bytes a child) and about a sector a tile. Banned nodes are taken out
before that: each program compares its request's list with the range of children at hand.

Scores that are no numbers. A row's sum of exponentials is NaN where any of its log-probabilities is not finite. The
last selection looks at all rows' sums; what was selected of such a request counts for nothing, and stays in bounds.

Sums are made in a fixed order and nothing is synchronised with the host: a request's result is a function of that
request alone, and the launches can be captured in a CUDA graph.

Letters: B requests, W beams, V codes a level, K = out_width.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from octorec.kernels.beam_tiling import MOST_KEYS, Tiling, tiling_for
from octorec.kernels.ops import DEAD, Beams, NodeFilter, TrieLevel
from octorec.kernels.overlap import overlaps, wait_for_inputs
from octorec.kernels.returnable import (
    filter_arguments,
    is_limited,
    largest_returnable,
    next_banned,
    returnable,
    without_banned,
)
from octorec.kernels.selection import choose, sortable

_DEAD = tl.constexpr(DEAD)


def beam_step(
    logits: Tensor,
    scores: Tensor,
    nodes: Tensor,
    level: TrieLevel,
    widths: Tensor,
    out_width: int,
    node_filter: NodeFilter | None = None,
    ranked: bool = False,
    tiling: Tiling | None = None,
) -> Beams:
    """Do what `Ops.beam_step` does: the same arguments, and the same result up to the rounding of the totals.

    logits [B, W, V] float32, scores [B, W] float32, nodes [B, W] int64, all contiguous; widths [B] integers in
    1..out_width. 1024 of 1024 x 16384 candidates fit; what does not is an InputError. Moves 4 * B * W * V bytes and
    little else, in four launches, one more with `ranked` and one with parts.
    """
    batch, beams, vocabulary = logits.shape
    assert all(t.is_contiguous() for t in (logits, scores, nodes))
    assert logits.dtype == torch.float32
    tiling = tiling or tiling_for(beams, vocabulary, out_width)
    tiles, subtiles, slots = (
        -(-vocabulary // tiling.tile),
        tiling.tile // tiling.subtile,
        triton.next_power_of_2(out_width),
    )
    keys = tiling.keys(beams, vocabulary, out_width)
    filters, words = filter_arguments(level, node_filter)
    trie = (level.child_code, level.child_live, *filters)
    shape = {"V": vocabulary, "TILE": tiling.tile, "TILES": tiles, "WORDS": words}

    def scratch(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(batch, *size, dtype=dtype, device=logits.device)

    rows = (scratch(beams), scratch(beams), scratch(beams, dtype=torch.int32), scratch(beams, dtype=torch.int32))
    tile_best = scratch(beams, tiles)
    _scan_rows[(batch * beams,)](
        logits, scores, nodes, level.child_start, *trie, *rows, tile_best, beams, **shape,
        BLOCK=min(tiling.block, max(triton.next_power_of_2(vocabulary), tiling.tile)),
        CHUNK=max(tiling.chunk, tiling.tile), TILES_PAD=triton.next_power_of_2(tiles),
        launch_pdl=overlaps(logits.device, batch * beams), num_warps=tiling.scan_warps,
    )  # fmt: skip
    chosen, left, dropped = scratch(out_width, dtype=torch.int32), scratch(tiling.lefts), scratch()
    apart = chosen if tiling.parts == 1 else scratch(tiling.parts * out_width, dtype=torch.int32)
    part = tiling.part(beams, vocabulary)
    _choose_tiles[(batch, tiling.parts)](
        tile_best, widths, apart, left, beams * tiles, part, out_width, KEYS=keys[0], SLOTS=slots, LEFTS=tiling.lefts,
        launch_pdl=overlaps(logits.device, batch * beams), num_warps=tiling.choose_warps,
    )  # fmt: skip
    if tiling.parts > 1:
        _choose_among_parts[(batch,)](
            tile_best, widths, apart, chosen, left, beams * tiles, part, out_width,
            KEYS=triton.next_power_of_2(tiling.parts * out_width), SLOTS=slots, PARTS=tiling.parts, LEFTS=tiling.lefts,
            launch_pdl=overlaps(logits.device, batch * beams), num_warps=tiling.choose_warps,
        )  # fmt: skip
    totals, subtile_best = scratch(out_width, tiling.tile), scratch(out_width, subtiles)
    _read_tiles[(batch, out_width)](
        logits, scores, *rows, *trie, chosen, totals, subtile_best, beams, out_width, **shape, SUBTILE=tiling.subtile,
        launch_pdl=overlaps(logits.device, batch * beams), num_warps=max(1, tiling.tile // 256),
    )  # fmt: skip
    out_nodes, parents, codes = (scratch(out_width, dtype=torch.int64) for _ in range(3))
    found = Beams(scratch(out_width), out_nodes, parents, codes, dropped)
    _choose_candidates[(batch,)](
        totals, subtile_best, widths, chosen, rows[2], level.child_code, scores, rows[1],
        scratch(2, out_width, dtype=torch.int32), *found[:-1], left, dropped, beams, out_width, TILE=tiling.tile,
        TILES=tiles, SUBTILE=tiling.subtile, KEYS=keys[1], CANDIDATES=keys[2], SLOTS=slots, LEFTS=tiling.lefts,
        BEAMS=triton.next_power_of_2(beams),
        launch_pdl=overlaps(logits.device, batch * beams), num_warps=tiling.choose_warps,
    )  # fmt: skip
    return _ranked(found) if ranked else found


def _ranked(found: Beams) -> Beams:
    """Sort beams by score descending, position ascending."""
    batch, width = found.scores.shape
    slots = triton.next_power_of_2(width)
    part = min(32, slots, MOST_KEYS // slots)
    ranked = [torch.empty_like(field) for field in found[:-1]]
    _rank[(batch, slots // part)](
        *found[:-1], *ranked, width, SLOTS=slots, PART=part,
        launch_pdl=overlaps(found.scores.device, batch * width), num_warps=4,
    )  # fmt: skip
    scores, nodes, parents, codes = ranked
    return Beams(scores, nodes, parents, codes, found.dropped)


@triton.jit
def _scan_rows(
    logits_ptr, scores_ptr, nodes_ptr, child_start_ptr, child_code_ptr, child_live_ptr, child_sets_ptr, banned_ptr,
    first_banned_ptr, allowed_ptr, restricted_ptr, top_ptr, log_sum_ptr, start_ptr, count_ptr, tile_best_ptr, W,
    V: tl.constexpr, TILE: tl.constexpr, TILES: tl.constexpr, WORDS: tl.constexpr,
    BLOCK: tl.constexpr, CHUNK: tl.constexpr, TILES_PAD: tl.constexpr,
):  # fmt: skip
    """Write, a program a row, its maximum, log sum exp, its node's children, and the best total of each tile of them.

    The log sum exp is NaN where a log-probability of the row is not finite.
    """
    wait_for_inputs()
    row = tl.program_id(0).to(tl.int64)
    request = row // W
    logits_ptr += row * V
    tile_best_ptr += row * TILES
    node = tl.load(nodes_ptr + row)
    start = tl.load(child_start_ptr + node, mask=node != _DEAD, other=0)
    count = tl.load(child_start_ptr + node + 1, mask=node != _DEAD, other=0) - start

    RUN: tl.constexpr = min(TILE, 128)  # what one warp reads at once: its maximum needs no other warp
    run = tl.arange(0, BLOCK // RUN)
    code = run[:, None] * RUN + tl.arange(0, RUN)[None, :]
    x = tl.load(logits_ptr + code, mask=code < V, other=float("-inf"))  # [BLOCK / RUN, RUN]
    run_best = tl.max(x, 1)
    top = tl.max(run_best, 0)
    total = tl.sum(tl.sum(_exp(x - top, code < V), 1), 0)
    for first in range(BLOCK, V, BLOCK):
        more = tl.load(logits_ptr + first + code, mask=first + code < V, other=float("-inf"))
        higher = tl.maximum(top, tl.max(tl.max(more, 1), 0))
        total = total * tl.exp(top - higher) + tl.sum(tl.sum(_exp(more - higher, first + code < V), 1), 0)
        top = higher
    score, log_sum = tl.load(scores_ptr + row), tl.log(total)
    tl.store(top_ptr + row, top)
    tl.store(log_sum_ptr + row, log_sum)
    tl.store(start_ptr + row, start)
    tl.store(count_ptr + row, count)

    if banned_ptr is not None:
        first_banned_ptr += request
    if WORDS > 0:
        allowed_ptr += request * WORDS
    limited = is_limited(restricted_ptr, request)
    todo = count
    if (BLOCK >= V) & (count == V) & (next_banned(banned_ptr, first_banned_ptr, start - 1) >= start + V):
        largest = start + run * RUN + tl.argmax(x, 1)  # every code is a child: its logit is at hand
        ok = returnable(largest, run * RUN < V, child_live_ptr, child_sets_ptr, allowed_ptr, limited, WORDS)
        if tl.sum(ok.to(tl.int32), 0) == tl.cdiv(V, RUN):
            best = _total(tl.max(tl.reshape(run_best, (BLOCK // TILE, TILE // RUN)), 1), top, log_sum, score)
            tile = tl.arange(0, BLOCK // TILE)
            tl.store(tile_best_ptr + tile, best, mask=tile < TILES)
            todo = 0

    if todo > TILE:
        _best_of_tiles(
            logits_ptr, top, log_sum, score, start, count, child_code_ptr, child_live_ptr, child_sets_ptr, banned_ptr,
            first_banned_ptr, allowed_ptr, limited, tile_best_ptr, TILE, WORDS, CHUNK,
        )  # fmt: skip
    elif todo > 0:
        _best_of_tiles(
            logits_ptr, top, log_sum, score, start, count, child_code_ptr, child_live_ptr, child_sets_ptr, banned_ptr,
            first_banned_ptr, allowed_ptr, limited, tile_best_ptr, TILE, WORDS, TILE,
        )  # fmt: skip
    every = tl.arange(0, TILES_PAD)
    tl.store(tile_best_ptr + every, float("-inf"), mask=(every >= tl.cdiv(count, TILE)) & (every < TILES))


@triton.jit
def _best_of_tiles(
    logits_ptr, top, log_sum, score, start, count, child_code_ptr, child_live_ptr, child_sets_ptr, banned_ptr,
    first_banned_ptr, allowed_ptr, limited, tile_best_ptr, TILE: tl.constexpr, WORDS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """Write the best total of each tile of a row's children, CHUNK children at once."""
    part = tl.arange(0, CHUNK // TILE)
    for chunk in range(0, count, CHUNK):
        child = chunk + tl.arange(0, CHUNK)
        child_code = tl.load(child_code_ptr + start + child, mask=child < count, other=0)
        logit = tl.load(logits_ptr + child_code, mask=child < count, other=float("-inf"))
        logit = without_banned(logit, start + child, start + chunk, banned_ptr, first_banned_ptr)
        logit = tl.reshape(logit, (CHUNK // TILE, TILE))
        first_slot = start + chunk + part * TILE
        largest = largest_returnable(logit, first_slot, child_live_ptr, child_sets_ptr, allowed_ptr, limited, WORDS)
        at = chunk // TILE + part
        tl.store(tile_best_ptr + at, _total(largest, top, log_sum, score), mask=at < tl.cdiv(count, TILE))


@triton.jit
def _choose_tiles(
    tile_best_ptr, widths_ptr, chosen_ptr, left_ptr, tiles, part, K,
    KEYS: tl.constexpr, SLOTS: tl.constexpr, LEFTS: tl.constexpr,
):  # fmt: skip
    """Write, a program a part of a request, which of the part's tiles may hold one of the best, ascending, then -1.

    left [B, LEFTS]: the best total in the other tiles of the request, what the two choices after the tiles' leave, and
    the best total in the other tiles of each part where there are several.
    """
    wait_for_inputs()
    request, nth = tl.program_id(0).to(tl.int64), tl.program_id(1)
    wanted = tl.minimum(tl.load(widths_ptr + request).to(tl.int32), K)
    index = tl.arange(0, KEYS)
    inside = (index < part) & (nth * part + index < tiles)
    best = tl.load(tile_best_ptr + request * tiles + nth * part + index, mask=inside, other=float("-inf"))
    left_ptr += request * LEFTS + (3 + nth if LEFTS > 3 else 0)
    choose(best, wanted, chosen_ptr + (request * tl.num_programs(1) + nth) * K, left_ptr, K, SLOTS)


@triton.jit
def _choose_among_parts(
    tile_best_ptr, widths_ptr, apart_ptr, chosen_ptr, left_ptr, tiles, part, K,
    KEYS: tl.constexpr, SLOTS: tl.constexpr, PARTS: tl.constexpr, LEFTS: tl.constexpr,
):  # fmt: skip
    """Write, a program a request, the best of the tiles that were chosen of its parts, ascending, then -1."""
    wait_for_inputs()
    request = tl.program_id(0).to(tl.int64)
    wanted = tl.minimum(tl.load(widths_ptr + request).to(tl.int32), K)
    apart_ptr += request * PARTS * K
    chosen_ptr += request * K
    index = tl.arange(0, KEYS)
    tile = tl.load(apart_ptr + index, mask=index < PARTS * K, other=-1)
    at = request * tiles + index // K * part + tile
    best = tl.load(tile_best_ptr + at, mask=tile >= 0, other=float("-inf"))
    choose(best, wanted, chosen_ptr, left_ptr + request * LEFTS, K, SLOTS)
    tl.debug_barrier()

    slot = tl.arange(0, SLOTS)
    place = tl.load(chosen_ptr + slot, mask=slot < K, other=-1)  # among those of the parts
    tile = tl.load(apart_ptr + place, mask=place >= 0, other=0) + place // K * part
    tl.debug_barrier()
    tl.store(chosen_ptr + slot, tl.where(place >= 0, tile, -1), mask=slot < K)


@triton.jit
def _read_tiles(
    logits_ptr, scores_ptr, top_ptr, log_sum_ptr, start_ptr, count_ptr, child_code_ptr, child_live_ptr, child_sets_ptr,
    banned_ptr, first_banned_ptr, allowed_ptr, restricted_ptr, chosen_ptr, totals_ptr, subtile_best_ptr, W, K,
    V: tl.constexpr, TILE: tl.constexpr, TILES: tl.constexpr, WORDS: tl.constexpr,
    SUBTILE: tl.constexpr,
):  # fmt: skip
    """Write, a program a chosen tile, its candidates' totals, -inf for what is none, and the best of each subtile."""
    wait_for_inputs()
    request = tl.program_id(0).to(tl.int64)
    tile = request * K + tl.program_id(1)
    chosen = tl.load(chosen_ptr + tile)
    row = request * W + tl.maximum(chosen, 0) // TILES
    first = tl.maximum(chosen, 0) % TILES * TILE
    start = tl.load(start_ptr + row)
    child = first + tl.arange(0, TILE)
    inside = (child < tl.load(count_ptr + row)) & (chosen >= 0)
    slot = start + child
    code = tl.load(child_code_ptr + slot, mask=inside, other=0)
    x = tl.load(logits_ptr + row * V + code, mask=inside, other=float("-inf"))
    if banned_ptr is not None:
        first_banned_ptr += request
    x = without_banned(x, slot, start + first, banned_ptr, first_banned_ptr)
    if WORDS > 0:
        allowed_ptr += request * WORDS
    limited = is_limited(restricted_ptr, request)
    ok = returnable(slot, inside, child_live_ptr, child_sets_ptr, allowed_ptr, limited, WORDS)
    total = _total(x, tl.load(top_ptr + row), tl.load(log_sum_ptr + row), tl.load(scores_ptr + row))
    total = tl.where(ok, total, float("-inf"))
    tl.store(totals_ptr + tile * TILE + tl.arange(0, TILE), total)
    best = tl.max(tl.reshape(total, (TILE // SUBTILE, SUBTILE)), 1)
    tl.store(subtile_best_ptr + tile * (TILE // SUBTILE) + tl.arange(0, TILE // SUBTILE), best)


@triton.jit
def _choose_candidates(
    totals_ptr, subtile_best_ptr, widths_ptr, chosen_ptr, start_ptr, child_code_ptr, scores_ptr, log_sum_ptr, best_ptr,
    out_scores_ptr, out_nodes_ptr, out_parents_ptr, out_codes_ptr, left_ptr, dropped_ptr, W, K,
    TILE: tl.constexpr, TILES: tl.constexpr, SUBTILE: tl.constexpr,
    KEYS: tl.constexpr, CANDIDATES: tl.constexpr, SLOTS: tl.constexpr, LEFTS: tl.constexpr, BEAMS: tl.constexpr,
):  # fmt: skip
    """Write, a program a request, the best subtiles of the chosen tiles, their best candidates, and these as beams.

    left [B, LEFTS] holds the best total that each choice left out, dropped [B] gets the best of these.
    best [B, 2, K] is where the two choices are put, so that each thread can read what others chose. All beams are dead
    and score NaN where a beam's score is NaN, or a live one's log sum exp.
    """
    wait_for_inputs()
    request = tl.program_id(0).to(tl.int64)
    totals_ptr += request * K * TILE
    subtile_best_ptr += request * K * (TILE // SUBTILE)
    best_ptr += request * 2 * K
    wanted = tl.minimum(tl.load(widths_ptr + request).to(tl.int32), K)

    index = tl.arange(0, KEYS)
    inside = index < K * (TILE // SUBTILE)
    subtile_best = tl.load(subtile_best_ptr + index, mask=inside, other=float("-inf"))
    choose(subtile_best, wanted, best_ptr, left_ptr + request * LEFTS + 1, K, SLOTS)
    tl.debug_barrier()

    index = tl.arange(0, CANDIDATES)
    subtile = tl.load(best_ptr + index // SUBTILE, mask=index < K * SUBTILE, other=-1)
    candidate = subtile * SUBTILE + index % SUBTILE  # in totals [K, TILE]
    total = tl.load(totals_ptr + candidate, mask=subtile >= 0, other=float("-inf"))
    choose(total, wanted, best_ptr + K, left_ptr + request * LEFTS + 2, K, SLOTS)
    tl.debug_barrier()

    beam = tl.arange(0, BEAMS)
    score = tl.load(scores_ptr + request * W + beam, mask=beam < W, other=float("-inf"))
    both = score + tl.load(log_sum_ptr + request * W + beam, mask=beam < W, other=0.0)
    finite = tl.max(((both != both) & (score != float("-inf"))).to(tl.int32), 0) == 0
    slot = tl.arange(0, SLOTS)
    index = tl.load(best_ptr + K + slot, mask=slot < K, other=-1)  # among the candidates
    real = (index >= 0) & finite
    candidate = tl.load(best_ptr + index // SUBTILE, mask=real, other=0) * SUBTILE + index % SUBTILE
    tile = tl.load(chosen_ptr + request * K + candidate // TILE, mask=real, other=0)
    parent = tile // TILES
    node = tl.load(start_ptr + request * W + parent, mask=real, other=0) + tile % TILES * TILE + candidate % TILE
    code = tl.load(child_code_ptr + node, mask=real, other=0)
    out = request * K + slot
    score = tl.load(totals_ptr + candidate, mask=real, other=float("-inf"))
    choice = tl.arange(0, 8)
    left = tl.load(left_ptr + request * LEFTS + choice, mask=choice < LEFTS, other=float("-inf"))
    tl.store(dropped_ptr + request, tl.where(finite, tl.max(left, 0), float("nan")))
    tl.store(out_scores_ptr + out, tl.where(finite, score, float("nan")), mask=slot < K)
    tl.store(out_nodes_ptr + out, tl.where(real, node, _DEAD).to(tl.int64), mask=slot < K)
    tl.store(out_parents_ptr + out, parent.to(tl.int64), mask=slot < K)
    tl.store(out_codes_ptr + out, code.to(tl.int64), mask=slot < K)


@triton.jit
def _rank(
    scores_ptr, nodes_ptr, parents_ptr, codes_ptr, out_scores_ptr, out_nodes_ptr, out_parents_ptr, out_codes_ptr, K,
    SLOTS: tl.constexpr, PART: tl.constexpr,
):  # fmt: skip
    """Sort PART of a request's beams a program: each goes where as many stand before it by score, then position."""
    wait_for_inputs()
    first = tl.program_id(0).to(tl.int64) * K
    other, mine = tl.arange(0, SLOTS), tl.program_id(1) * PART + tl.arange(0, PART)
    key = sortable(tl.load(scores_ptr + first + other, mask=other < K, other=float("-inf")))[None, :]
    score = tl.load(scores_ptr + first + mine, mask=mine < K, other=float("-inf"))
    my_key = sortable(score)[:, None]
    before = (key > my_key) | ((key == my_key) & (other[None, :] < mine[:, None]))
    out = first + tl.sum(before.to(tl.int32), 1)
    tl.store(out_scores_ptr + out, score, mask=mine < K)
    tl.store(out_nodes_ptr + out, tl.load(nodes_ptr + first + mine, mask=mine < K), mask=mine < K)
    tl.store(out_parents_ptr + out, tl.load(parents_ptr + first + mine, mask=mine < K), mask=mine < K)
    tl.store(out_codes_ptr + out, tl.load(codes_ptr + first + mine, mask=mine < K), mask=mine < K)


@triton.jit
def _total(logit, top, log_sum, score):
    """Return a candidate's total, at most `score`; the order of the operations makes it rise with the logit and agree
    wherever it is made."""
    return tl.minimum((logit - top) - log_sum, 0.0) + score


@triton.jit
def _exp(x, inside):
    """Return e^x, to the bit, for a finite x; NaN for -inf too where it is inside, as 0 * -inf is."""
    return tl.exp(x) + tl.where(inside, x, 0.0) * 0.0
