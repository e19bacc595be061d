"""A model declares user fields, and reads numbers that are made of a request's values."""

from dataclasses import dataclass
from typing import Any, Literal

from octorec.errors import InputError, check_keys

LONGEST_NAME = 100  # characters
MOST_VALUES = 1_000_000  # of one category
SMALLEST, LARGEST = 1e-30, 1e30  # what float32 holds with room for a division


@dataclass(frozen=True)
class UserField:
    """A UserField is one thing known about the user, carried by every context item.

    kind `category`: one of `values`. kind `number`: standardised as (x - mean) / std.
    A request may leave a field out: a category then has an embedding of its own, a number counts as its mean.
    Raises InputError for a name that no tensor can carry, and for values, mean or std that no number can be made with.
    """

    name: str
    kind: Literal["category", "number"]
    values: tuple[str, ...] = ()
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        _check_name(self.name)
        where = f"user_fields.{self.name}"
        if self.kind not in ("category", "number"):
            raise InputError(f"{where}.kind", self.kind, "allowed: 'category', 'number'")
        _check_values(f"{where}.values", self.values, needed=self.kind == "category")
        if not is_number(self.mean) or not abs(self.mean) <= LARGEST:
            raise InputError(f"{where}.mean", self.mean, f"must be a number from -{LARGEST:g} to {LARGEST:g}")
        if not is_number(self.std) or not SMALLEST <= self.std <= LARGEST:
            raise InputError(f"{where}.std", self.std, f"must be above 0: a number from {SMALLEST:g} to {LARGEST:g}")

    def encode(self, value: Any) -> float:
        """Return the number a model reads: 0 or 1 + the category's position, or the standardised number."""
        if self.kind == "category":
            if value is None:
                return 0.0
            if str(value) not in self.values:
                raise InputError(f"user.{self.name}", value, f"allowed: {', '.join(self.values)}")
            return 1.0 + self.values.index(str(value))
        if value is None:
            return 0.0
        if not is_number(value):
            raise InputError(f"user.{self.name}", value, "must be a number")
        if not abs(value) <= LARGEST or not abs((value - self.mean) / self.std) <= LARGEST:
            raise InputError(f"user.{self.name}", value, f"is too far from {self.mean:g}, the mean of this field")
        return (value - self.mean) / self.std


def encode_user(fields: tuple[UserField, ...], user: dict[str, Any]) -> list[float]:
    """Return a user's values in the order of the schema; a name the schema does not know is an InputError."""
    known = [field.name for field in fields]
    for name in user:
        if name not in known:
            raise InputError("user", name, f"allowed: {', '.join(known) or 'no field: the model declares none'}")
    return [field.encode(user.get(field.name)) for field in fields]


def read_user_fields(raw: Any) -> tuple[UserField, ...]:
    """Return the `user_fields` of a config.json: a list of objects, each with the keys of UserField."""
    if not isinstance(raw, list | tuple):
        raise InputError("user_fields", raw, "must be a list of fields, each with name and kind")
    return tuple(field if isinstance(field, UserField) else _user_field(field) for field in raw)


def is_number(value: Any) -> bool:
    """Tell whether `value` is an int or a float, no bool and no NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _user_field(raw: Any) -> UserField:
    check_keys("user_fields", raw, UserField, required=("name", "kind"))
    given = {key: value for key, value in raw.items() if value is not None or key in ("name", "kind")}
    if isinstance(given.get("values"), list):
        given["values"] = tuple(given["values"])
    return UserField(**given)


def _check_name(name: Any) -> None:
    """Refuse a name that cannot be part of a tensor's name, whose parts are set apart by points."""
    allowed = f"a name is a text of 1 to {LONGEST_NAME} printable characters without '.' and without spaces at its ends"
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
        raise InputError("user_fields: name", name, allowed)
    if "." in name or not name.isprintable() or name != name.strip():
        raise InputError("user_fields: name", name, allowed)


def _check_values(where: str, values: Any, needed: bool) -> None:
    allowed = "must be a list of texts, each once"
    if not isinstance(values, tuple) or not all(isinstance(value, str) for value in values):
        raise InputError(where, values, allowed)
    if len(set(values)) != len(values):
        raise InputError(where, next(value for value in values if values.count(value) > 1), allowed)
    if needed and not values:
        raise InputError(where, values, "a category needs its allowed values")
    if len(values) > MOST_VALUES:
        raise InputError(where, len(values), f"at most {MOST_VALUES:,} values")
