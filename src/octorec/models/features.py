"""Named features of a request: what a context module of the user's declares, and the arrays made of a request's values.

Imports no torch, as a request is checked on the host.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Interval

from octorec.errors import InputError
from octorec.models.user import LONGEST_NAME
from octorec.settings import check_types

MOST_VALUES = 2**20  # of one feature of one request
MOST_AXES = 4
FLOAT32 = float(np.finfo(np.float32).max)
Length = Annotated[int, Interval(ge=1, le=MOST_VALUES)]
Blank = Annotated[float, Interval(ge=-1e30, le=1e30)]


@dataclass(frozen=True)
class Feature:
    """A Feature is one named tensor of a request.

    shape: of one request's values, () for a single number. dtype: of the tensor that the module is given.
    blank: stands for what a request leaves out; None: every request must give the feature.
    categories: the numbers are categories, 0 to categories - 1, of dtype int64. blank may be another, such as -1.
    shorter: a request may give fewer entries than shape[0], as of a list of categories; the rest are blank.

    Raises InputError for what no tensor can have, and for a blank that the dtype does not hold.
    """

    shape: tuple[Length, ...] = ()
    dtype: Literal["float32", "int64"] = "float32"
    blank: Blank | None = None
    categories: Annotated[int, Interval(ge=1, le=2**53)] | None = None
    shorter: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        if len(self.shape) > MOST_AXES or math.prod(self.shape) > MOST_VALUES:
            raise InputError("shape", self.shape, f"at most {MOST_AXES} dimensions and {MOST_VALUES:,} values")
        if self.categories is not None and self.dtype != "int64":
            raise InputError("categories", self.categories, "are integers: say dtype='int64'")
        if (
            self.dtype == "int64"
            and self.blank is not None
            and not (self.blank.is_integer() and abs(self.blank) < 2**53)
        ):
            raise InputError("blank", self.blank, "must be an integer, as dtype is int64")
        if self.shorter and (self.blank is None or not self.shape):
            raise InputError("shorter", True, "needs a shape with a first dimension, and a blank for what is left out")

    @property
    def allowed(self) -> str:
        """Say what a request may give."""
        kind = "numbers, finite in float32" if self.dtype == "float32" else "integers"
        if self.categories is not None:
            kind = f"integers from 0 to {self.categories - 1:,}"
        if not self.shape:
            return f"must be a single one of {kind}"
        shape = " x ".join(f"{length:,}" for length in self.shape)
        return f"must be a list of {'at most ' if self.shorter else ''}{shape} {kind}"

    def encode(self, name: str, value: Any) -> np.ndarray:
        """Return the array [*shape] of dtype that the model reads; None counts as left out.

        Raises InputError by `name`.
        """
        where = f"features.{name}"
        if value is None and self.blank is None:
            raise InputError(where, None, f"is required: {self.allowed}")
        found = np.full(self.shape, 0 if self.blank is None else self.blank, self.dtype)
        if value is not None:
            given = self._numbers(where, value)
            found[tuple(map(slice, given.shape))] = given
        return found

    def _numbers(self, where: str, value: Any) -> np.ndarray:
        """Return `value` as numbers of dtype, each of them allowed, in a shape that is allowed."""
        try:
            given = np.array(value.tolist() if hasattr(value, "tolist") else value, dtype=object)  # of NumPy and torch
        except ValueError:  # lists of several lengths and depths
            raise InputError(where, value, self.allowed) from None
        kind = Real if self.dtype == "float32" else Integral
        wrong = {one for one in set(map(type, given.flat)) if one is bool or not issubclass(one, kind)}
        if wrong:
            raise InputError(where, next(one for one in given.flat if type(one) in wrong), self.allowed)
        if not self._fits(given.shape):
            raise InputError(where, f"shape {list(given.shape)}" if given.shape else value, self.allowed)
        try:
            numbers = given.astype(np.float64 if self.dtype == "float32" else np.int64)
        except OverflowError:
            raise InputError(where, value, self.allowed) from None
        least, most = (-FLOAT32, FLOAT32) if self.dtype == "float32" else self._integers
        outside = ~((numbers >= least) & (numbers <= most))  # NaN is
        if outside.any():
            raise InputError(where, numbers[outside][0].item(), self.allowed)
        return numbers.reshape(-1, *self.shape[1:]) if self.shape else numbers

    @property
    def _integers(self) -> tuple[int, int]:
        return (-(2**63), 2**63 - 1) if self.categories is None else (0, self.categories - 1)

    def _fits(self, shape: tuple[int, ...]) -> bool:
        if self.shorter and shape == (0,):
            return True
        whole = shape[1:] == self.shape[1:] and len(shape) == len(self.shape)
        return whole and (shape <= self.shape if self.shorter else shape == self.shape)


Features = Mapping[str, Feature]


def features_of(model: Any) -> Features:
    """Return the features that a model reads, by name; none where its family knows of none."""
    return getattr(model, "features", {})


def check_features(where: str, features: Any) -> None:
    """Refuse what is no mapping of names to Features; `where` names the module that declares them."""
    if not isinstance(features, Mapping) or not all(isinstance(feature, Feature) for feature in features.values()):
        raise InputError(f"{where}: features", features, "must be a dictionary of names to octorec.Feature")
    for name in features:
        named = isinstance(name, str) and 0 < len(name) <= LONGEST_NAME and name.isprintable() and name == name.strip()
        if not named or "." in name:
            allowed = f"a name is a text of 1 to {LONGEST_NAME} printable characters without '.' and spaces at its ends"
            raise InputError(f"{where}: features", name, allowed)


def encode_features(features: Features, given: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return a request's values as arrays, by name; a name that is no feature is an InputError."""
    for name in given:
        if name not in features:
            known = f"known: {', '.join(features)}" if features else "the model reads none"
            raise InputError(f"features.{name}", given[name], f"is no feature of the model; {known}")
    return {name: feature.encode(name, given.get(name)) for name, feature in features.items()}


def any_features(features: Features) -> dict[str, Any]:
    """Return values of the features that a request must give: zeros."""
    return {name: np.zeros(one.shape, one.dtype) for name, one in features.items() if one.blank is None}
