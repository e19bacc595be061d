"""`Ops` is the contract of the operations that a model is built from; `reference` and `fused` fulfil it.

A module whose functions have these names and signatures is an `Ops`, and so is an object with such methods. A model
takes one as its argument `ops`. `ops_for(device)` in `kernels.device` gives the one that serves on a device.

All products accumulate in float32 and return to the activations' type; logits stay float32.

Letters: B requests, W beams, T = B * W rows (or tokens), S context items, H heads, G KV groups, D head width, C = H * D
model width, P positions, R rows of a pool of contexts, E experts, F expert width, V codes a level, N and K the output
and input width of a weight [N, K].
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from octorec.kernels.fp8 import Granularity, Quantized

Operand = Tensor | Quantized
DEAD = 2**31 - 1  # the trie node of a dead beam: larger than every node, so that beams stay ascending


class Spans(NamedTuple):
    """Spans say which rows of packed tensors belong to each request.

    queries [B + 1] int32, ascending: request b's new tokens are rows queries[b] .. queries[b + 1] - 1 of q. first [B]
    int32: the row of keys and values at which its context begins. lengths [B] int32: tokens of its context, the new
    ones last.
    """

    queries: Tensor
    first: Tensor
    lengths: Tensor


class Kept(NamedTuple):
    """A Kept says where keys and values of tokens go: the pools keys, values [R, G, D], and rows [T] int64."""

    keys: Tensor
    values: Tensor
    rows: Tensor


class Routing(NamedTuple):
    """A Routing says which experts each row goes to.

    experts [T, R] int64, weights [T, R] float32; R counts the shared ones too.
    """

    experts: Tensor
    weights: Tensor


class TrieLevel(NamedTuple):
    """A TrieLevel holds the children of one level's trie nodes, as flat arrays; nodes are numbered in
    ascending prefix order.

    child_start [nodes + 1] int32: node n's children are the nodes child_start[n] .. child_start[n+1]-1 of the next
    level. child_code [children] int16 or int32: the code that leads there. child_live [children] int32: live items
    below. child_sets [children, words] int64 or None: bit s of the words says that a live item of named set s is below.
    """

    child_start: Tensor
    child_code: Tensor
    child_live: Tensor
    child_sets: Tensor | None


class Beams(NamedTuple):
    """Beams are W prefixes a request, as columns [B, W].

    scores float32, -inf for a dead one; nodes int64 trie nodes, DEAD for a dead one; parents int64, the beam of the
    level before that it extends; codes int64, the code it extends it by.

    dropped [B] float32: the highest score among the extensions that the step could have kept and did not; -inf where it
    kept them all. All scores of a request are NaN, this one too, and its beams dead, once the model gave it scores that
    are no finite numbers.
    """

    scores: Tensor
    nodes: Tensor
    parents: Tensor
    codes: Tensor
    dropped: Tensor


class NodeFilter(NamedTuple):
    """A NodeFilter says what each request forbids among the children of a level.

    banned [X] int32: nodes below which no item may be returned, those of request b from first[b] up to first[b + 1], in
    any order. first [B + 1] int64, ascending. allowed_sets [B, words] int64: bits of the named sets that may be
    returned. restricted [B] bool: whether allowed_sets counts for this request.
    """

    banned: Tensor
    first: Tensor
    allowed_sets: Tensor
    restricted: Tensor


class Sizes(NamedTuple):
    """Sizes are what limits of kernels depend on in a model.

    heads: widths of attention heads. rows: widths of rows that are normed or activated. experts: numbers of routed
    experts, and of those that a row goes to.
    """

    heads: set[int]
    rows: set[int]
    experts: set[tuple[int, int]]


class Ops(Protocol):
    """An Ops has every operation of a model and of its beam search.

    Tensors are contiguous. `into` is a tensor that the result is added to, and may be written over: it is the caller's
    no longer. `quantize_to` is how the next product wants its input; None leaves it in 16 bit (or float32).
    """

    def check_device(self, device: torch.device) -> None:
        """Raise InputError, which says what to take instead, where these operations do not run on `device`."""

    def check_sizes(self, sizes: Sizes) -> None:
        """Raise InputError where these operations do not take a model of these sizes: before its weights are read."""

    def check_beams(self, beams: int, vocabulary: int, out_width: int) -> None:
        """Raise InputError where `beam_step` cannot choose `out_width` of `beams` x `vocabulary` candidates."""

    def linear(self, x: Operand, weight: Operand, into: Tensor | None = None) -> Tensor:
        """Return `into` [T, N] plus x [T, K] times weight [N, K] transposed -> [T, N] in x's type.

        FP8 values multiply exactly, sums are float32; `into`, in x's type, is added before the one rounding.
        """
        ...

    def head(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return logits: x [T, C] and weight [V, C] in 16 bit (or float32) -> [T, V] float32, never
        rounded to 16 bit.
        """
        ...

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float, quantize_to: Granularity | None = None) -> Operand:
        """Return x / sqrt(mean(x^2) + eps) * weight over the last dimension: x [..., C], weight [C].

        It is computed in float32, rounded to x's type and then quantized, so that FP8 and 16 bit see the same numbers.
        A row whose squares float32 cannot add up is NaN: divided by infinity it would be zeros, which look sound.
        """
        ...

    def swiglu(self, gate_up: Tensor, quantize_to: Granularity | None) -> Operand:
        """Return silu(gate) * up for gate_up [T, 2F] = [gate | up] -> [T, F].

        Computed in float32 and rounded once to gate_up's type, before it is quantized.
        """
        ...

    def cross_attention(
        self, q: Tensor, keys: Tensor, values: Tensor, lengths: Tensor, quantize_to: Granularity | None
    ) -> Operand:
        """Attend with a request's beams over its one context (OneRec-V2 section 3: no mask but the length).

        q [B, W, H, D]; keys, values [B, S, G, D], head h reads group h * G // H; lengths [B] integers in 1..S
        -> [B*W, C]. Scores, softmax and sums are float32.
        """
        ...

    def self_attention(
        self, qkv: Tensor, past: list[Tensor], ancestors: list[Tensor], quantize_to: Granularity | None
    ) -> Operand:
        """Attend with each beam over its own earlier positions and itself, without moving any cache.

        qkv [B, W, 3, H, D]: this level's q, k, v. past[s] [B, W_s, 3, H, D]: level s's, as it was computed there.
        ancestors[s] [B, W] integers: which of level s's beams each beam descends from. -> [B*W, C].
        """
        ...

    def causal_attention(self, qkv: Tensor) -> Tensor:
        """Attend over all target positions at once, for training: qkv [B, L, 3, H, D] -> [B*L, C]."""
        ...

    def rope(
        self,
        qkv: Tensor,
        turns: Tensor,
        positions: Tensor,
        heads: int,
        norms: tuple[Tensor, Tensor] | None,
        eps: float,
        kept: Kept | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Split each row into q, k and v, and turn the heads of q and k by the row's position (arXiv 2104.09864).

        qkv [T, (H + 2G) * D] = [q | k | v]; positions [T] int64. turns [P, D] float32: of each position the cosines of
        D / 2 angles, then their sines. Value d of a head turns with value d + D / 2: Hugging Face's convention.
        norms: weights [D] of an RMS norm of each head of q, and of k, that comes first (Qwen3). It is all computed in
        float32 and rounded once -> q [T, H, D], k [T, G, D], v [T, G, D]. With `kept`, k and v are written to its rows,
        and its pools [R, G, D] are returned in their place.
        """
        ...

    def prefill_attention(
        self, q: Tensor, keys: Tensor, values: Tensor, spans: Spans, quantize_to: Granularity | None
    ) -> Operand:
        """Attend with each token of a prompt over itself and the tokens before it.

        q [T, H, D]; keys, values [R, G, D], head h reads group h * G // H -> [T, C]. Of a request's n new tokens,
        token i sees the first lengths[b] - n + i + 1 rows of its context. Rows of q from queries[B] on are padding:
        what they get is finite, and not specified. Scores, softmax and sums are float32.
        """
        ...

    def beam_attention(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        past: list[tuple[Tensor, Tensor]],
        ancestors: list[Tensor],
        keys: Tensor,
        values: Tensor,
        first: Tensor,
        lengths: Tensor,
        quantize_to: Granularity | None,
    ) -> Operand:
        """Attend with each beam over its request's context, its own earlier positions and itself, in one softmax.

        q [B, W, H, D]; k, v [B, W, G, D] of this position. past[s]: k and v [B, W_s, G, D] that position s left;
        ancestors[s] [B, W] integers: which beam of position s each beam descends from. keys, values [R, G, D]: the
        contexts, once a request: lengths[b] >= 1 rows from first[b] on, both [B] integers. Head h reads group
        h * G // H -> [B*W, C]. Scores, softmax and sums are float32.
        """
        ...

    def log_norm(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the log-sum-exp of each row's logits over a whole vocabulary, without keeping the logits.

        x [T, C] and weight [V, C] in 16 bit (or float32) -> [T] float32; the logits are those of `head`.
        """
        ...

    def route(self, x: Tensor, gate: Tensor, bias: Tensor, top_k: int, n_shared: int) -> Routing:
        """Route as DeepSeek-V3 does: sigmoid scores, `bias` used for the choice alone, weights
        normalised over the top-k.

        x [T, C], gate [E, C], bias [E] float32. The top_k come by descending biased score, a tie to the lower expert;
        then the shared experts E .. E+n_shared-1 with weight 1, so that they ride in the same grouped product.
        """
        ...

    def moe(
        self,
        x: Tensor,
        routing: Routing,
        gate_up: Operand,
        down: Operand,
        quantize_to: Granularity | None,
        into: Tensor | None = None,
    ) -> Tensor:
        """Return `into` plus the sum over a row's experts of weight * down(swiglu(gate_up(x))): all [T, C].

        gate_up [E, 2F, C], down [E, C, F], in 16 bit, or in FP8 with `quantize_to` as the activations' granularity.
        Each expert's output is rounded to x's type; the weighted sum is float32, in the order of the experts' numbers,
        `into` last.
        """
        ...

    def beam_step(
        self,
        logits: Tensor,
        scores: Tensor,
        nodes: Tensor,
        level: TrieLevel,
        widths: Tensor,
        out_width: int,
        node_filter: NodeFilter | None = None,
        ranked: bool = False,
    ) -> Beams:
        """Do one step of beam search over the item trie: the best `widths[b]` of a request's W x V extensions.

        logits [B, W, V] float32; scores and nodes [B, W] of the beams they extend, nodes ascending; widths [B].
        Log-softmax over the whole codebook, then the trie masks (as Hugging Face's constrained search); a beam's score
        is the sum over levels of log-probabilities, each at most 0 after rounding too. So no extension scores above the
        beam that it extends, and `Beams.dropped` bounds every item below what the step drops. A tie goes to the lower
        flat index w * V + v, which is the order of the code tuples. Beams come back in ascending prefix order, the dead
        ones last; with `ranked`, as after the last level, by score descending, prefix ascending. node_filter: children
        of this level that a request may not extend to; None: all may be.

        NaN and infinity are told, not searched: a request of which a live beam's row of log-probabilities is not finite
        throughout (a logit is NaN, inf or -inf, in the trie or not), or of which a beam's score is NaN already, gets
        dead beams that all score NaN. What dead beams' rows hold does not matter, nor what other requests' do.
        """
        ...

    def maybe_quantize(self, x: Tensor, granularity: Granularity | None) -> Operand:
        """Return `x` [T, K] itself, or quantized with `granularity`."""
        ...


OPERATIONS = tuple(name for name in vars(Ops) if not name.startswith(("_", "check_")))


class Variant:
    """A Variant has the operations of `base`, but for those given by name and for a subclass's own methods.

    mypy takes it for an `Ops`, and checks a subclass's methods against the contract.
    """

    def __init__(self, base: Ops, **others: Callable[..., Any]):
        unknown = others.keys() - set(OPERATIONS)
        assert not unknown, f"no operations: {unknown}"
        self.__dict__.update(others)
        self.base = base

    def __getattr__(self, name: str) -> Any:
        return getattr(self.base, name)
