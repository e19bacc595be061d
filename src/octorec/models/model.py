"""The seam between an engine and a family of models is this: all that an engine asks of a model.

Letters: B requests, W beams, L levels of an item's codes, V codes of a level.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from octorec.kernels.ops import Spans
from octorec.models.user import UserField


class InputSpec(NamedTuple):
    """An InputSpec says what one request writes of an input. blank: the value of what no request writes."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    blank: float = 0.0


Inputs = Mapping[str, Tensor]  # of a batch, by name: [B, *shape]


def blank_inputs(specs: Mapping[str, InputSpec], size: int) -> dict[str, Tensor]:
    """Return the inputs of `size` requests that nobody has written yet, on the host."""
    return {name: torch.full((size, *spec.shape), spec.blank, dtype=spec.dtype) for name, spec in specs.items()}


@dataclass(frozen=True)
class Reading:
    """A Reading is what a model is given of one request, after every check.

    codes [n, L] int64: of the newest items of the history, the newest last; one row of -1 for an empty history.
    user: a number for each of the model's user fields, as `UserField.encode` gives it.
    features: an array for each feature of a model that has `features`, as `Feature.encode` gives it.
    tokens [n] int64: the whole prompt of a language model, a begin token last; None for models that read codes.
    """

    codes: np.ndarray
    user: Sequence[float]
    features: Mapping[str, np.ndarray] = field(default_factory=dict)
    tokens: np.ndarray | None = None


def max_tokens(model: object) -> int | None:
    """Return how many tokens of a prompt a model reads; None for a model that reads codes."""
    found: int | None = getattr(model, "max_tokens", None)
    return found


class Logits(NamedTuple):
    """Logits are scores of the next code: values [B, W, V] float32.

    log_norm [B, W] float32: the log-sum-exp over a vocabulary that is larger than the level's codes; None: over these.
    """

    values: Tensor
    log_norm: Tensor | None = None


@dataclass(frozen=True)
class Choose:
    """A Choose is a step of decoding that extends beams by a code of a level of the item trie."""

    level: int


@dataclass(frozen=True)
class Force:
    """A Force is a step of decoding that extends each beam by one given code, such as the token that ends an item.

    code: its place among the values of the step's Logits. scored: its log-probability is added to the beam's score.
    """

    code: int = 0
    scored: bool = True


Step = Choose | Force


class Model(Protocol):
    """A Model answers requests in steps. What it keeps between them, its state, is its own affair.

    Loading and saving ask more of a family's class: `families.Family` says what.

    codebook_sizes: V of each level. codebook_fingerprint: of the codebook that it was trained on; None: not known.
    max_history: items of a history that it reads at most, the newest. user_fields: what it reads of a user.
    steps: of decoding one item; each level is chosen once, in order.
    A model that reads tokens of a prompt says as `max_tokens` how many, and as `sids` (`models.sid_tokens`) which of
    them write items; others have neither. It may be a `TokenModel`, which offers more.
    A model that reads named features of a request says which as `features` (see `models.features`); others need not.
    """

    @property
    def codebook_sizes(self) -> tuple[int, ...]: ...
    @property
    def codebook_fingerprint(self) -> str | None: ...
    @property
    def max_history(self) -> int: ...
    @property
    def user_fields(self) -> tuple[UserField, ...]: ...
    @property
    def steps(self) -> tuple[Step, ...]: ...

    def inputs(self, longest: int) -> dict[str, InputSpec]:
        """Return what a request writes, by name, where histories have at most `longest` items."""
        ...

    def write(self, reading: Reading, put: Callable[[str, np.ndarray], None]) -> None:
        """Write a request's inputs: put(name, values) fills the request's part of an input from its start on."""
        ...

    def prefill(self, inputs: Inputs) -> Any:
        """Read a batch's requests once, and return the state that `decode` goes on from."""
        ...

    def decode(self, step: int, codes: Tensor | None, parents: Tensor | None, state: Any) -> Logits:
        """Return the logits of step number `step` for each beam.

        codes [B, W] extend the beams `parents` [B, W] of the step before. Both are None at the first step: W is 1.
        """
        ...

    def forced(self, inputs: Inputs, codes: Tensor) -> list[Logits]:
        """Return the logits [B, 1, V] of every step, each given the true codes [B, L] of the levels before it."""
        ...

    def data_rows(self, inputs: Inputs) -> Mapping[str, Tensor]:
        """Say which rows [T] bool of a module's input are data and which are padding, where it has padding."""
        ...


class Packed(NamedTuple):
    """A Packed holds tokens of several prompts, one prompt after the other, without padding between them.

    tokens [T] int64; positions [T] int64: of each in its prompt; rows [T] int64: of a pool, where its keys and values
    are to lie. spans: which tokens and which rows are whose.
    """

    tokens: Tensor
    positions: Tensor
    rows: Tensor
    spans: Spans


class TokenModel(Model, Protocol):
    """A TokenModel reads prompts in parts, into a pool that outlives a batch. `prefill` need not be asked then.

    max_tokens: of a prompt. Nothing here reads a value on the host, so that it can be a CUDA graph.
    """

    @property
    def max_tokens(self) -> int: ...

    def check_prompt(self, tokens: np.ndarray) -> None:
        """Raise InputError for tokens [n] int64 that are no prompt of this model."""
        ...

    def pool(self, rows: int) -> Tensor:
        """Return room [layers, 2, rows, G, D] for the keys and values of tokens, not written yet."""
        ...

    def hidden(self, size: int) -> Tensor:
        """Return room [size, C] for what the last token of each prompt leaves, not written yet."""
        ...

    def read(self, packed: Packed, pool: Tensor, hidden: Tensor) -> None:
        """Read tokens [T] with all that is in `pool` of the same prompts; write their keys and values there.

        What the last token here of each request leaves is written to `hidden`; without a token here it stays.
        """
        ...

    def begun(self, hidden: Tensor, pool: Tensor, first: Tensor, lengths: Tensor) -> Any:
        """Return the state that `decode` goes on from, of prompts that lie in `pool`, each from its row `first` [B] on.

        lengths [B]: tokens of each prompt, all of which were read.
        """
        ...


def token_model(model: object) -> TokenModel | None:
    """Return a model that reads prompts in parts; None for any other."""
    return cast(TokenModel, model) if hasattr(model, "begun") else None
