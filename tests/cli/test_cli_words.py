"""Item ids as people type them after --history and --exclude."""

from typing import Any

import pytest

from octorec.cli.words import ids, said_with_commas
from octorec.errors import InputError


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("50,181", ["50", "181"]),
        (" 50 , 181, ", ["50", "181"]),
        ("", []),
        (" ,", []),
        ("a b,c", ["a b", "c"]),
        ('"a,b", c', ["a,b", "c"]),
        ('"50","181"', ["50", "181"]),
        ('["50", 181]', ["50", 181]),
        (" [50]", [50]),
    ],
)
def test_ids_are_read_with_commas_in_quotes_or_as_json(text: str, read: list[Any]) -> None:
    assert ids("history", text) == read


@pytest.mark.parametrize("text", ["['50', '181']", "[50", '"50,181', "50\n181"])
def test_what_cannot_be_read_is_refused_with_how_to_write_it(text: str) -> None:
    with pytest.raises(InputError, match=r"^history: got .*: ids are written with commas, such as 50,181,172$"):
        ids("history", text)


@pytest.mark.parametrize("value", ["50 181", "50;181", "'50'", "(50"])
def test_an_unknown_id_that_looks_like_several_is_refused_with_how_to_write_them(value: str) -> None:
    with pytest.raises(InputError, match="is no item of the catalog: ids are written with commas"), said_with_commas():
        raise InputError("history", value, "is no item of the catalog")


@pytest.mark.parametrize(("field", "value"), [("history", "999"), ("allow", "Sci Fi"), ("k", 9)])
def test_other_errors_stay_as_they_are(field: str, value: Any) -> None:
    with pytest.raises(InputError) as caught, said_with_commas():
        raise InputError(field, value, "is none")
    assert caught.value.allowed == "is none"
