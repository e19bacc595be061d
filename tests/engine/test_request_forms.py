"""What people hand to a Request and to an engine: taken as it is meant, or refused with what to write."""

from collections import deque
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from octorec.engine.request import Request, request_list
from octorec.errors import InputError

ONE = Request(["1"])


class Column:
    """A column as pandas has it: iterable, with one dimension, and a list of itself."""

    ndim = 1

    def __init__(self, *values: object):
        self.values = values

    def tolist(self) -> list[object]:
        return list(self.values)


@pytest.mark.parametrize(
    "ids",
    [
        ["50", "181"], ("50", "181"), [50, 181], deque(["50", "181"]), np.array(["50", "181"]), np.array([50, 181]),
        np.array(["50", "181"], dtype=object), [np.str_("50"), np.int64(181)], torch.tensor([50, 181]),
        pa.array(["50", "181"]), pa.array([50, 181]), pa.chunked_array([["50"], ["181"]]), list(pa.array([50, 181])),
        Column("50", 181), iter(["50", "181"]), {"50": 1, "181": 2}.keys(),
    ],
    ids=lambda ids: type(ids).__name__,
)  # fmt: skip
def test_a_list_of_ids_may_have_many_forms(ids: Any) -> None:
    if not isinstance(ids, type({}.keys())):  # which counts as a set
        assert Request(ids).history == ("50", "181")
    else:
        assert Request(["1"], exclude=ids).exclude == ("50", "181")


def test_what_has_no_order_may_be_a_set() -> None:
    assert Request(["1"], exclude={"2"}, allow=frozenset({"Sci-Fi"})) == Request(["1"], exclude=["2"], allow=["Sci-Fi"])
    with pytest.raises(InputError, match="must be a list of ids, oldest first"):
        Request({"1", "2"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"history": "50,181"}, 'history: got \'50,181\'; must be a list of ids, oldest first, such as ["50", "181"]'),
        ({"history": 50}, "history: got 50; must be a list of ids"),
        ({"history": None}, "history: got None; must be a list of ids"),
        ({"history": {"50": 1}}, "history: got {'50': 1}; must be a list of ids"),
        ({"history": np.array([[50]])}, "history: got ndarray of shape (1, 1); must be a list of ids"),
        ({"history": pa.table({"item_id": ["50"]})}, "ids are text"),
        ({"history": pa.array(["50", None])}, "history: got None; ids are text"),
        ({"history": [50.0]}, "history: got 50.0; ids are text"),
        ({"history": [], "exclude": "50"}, "exclude: got '50'; must be a list of ids, such as [\"50\"]; leave it out"),
        ({"history": [], "exclude": None}, "exclude: got None; must be a list of ids"),
        ({"history": [], "allow": "Sci-Fi"}, "allow: got 'Sci-Fi'; must be a list of names, such as [\"Sci-Fi\"]"),
    ],
)
def test_what_is_no_list_of_ids_is_refused_with_what_to_write(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        Request(**fields)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("requests", "said"),
    [
        (ONE, "must be a list: write engine.recommend([request])[0]"),
        ({"history": ["1"]}, "must be a list: write [octorec.Request(history="),
        (
            [{"history": ["1"]}],
            "requests[0]: got {'history': ['1']}; must be an octorec.Request: write octorec.Request(**fields)",
        ),
        ([ONE, ["50", "181"]], "requests[1]: got ['50', '181']; must be an octorec.Request: write [octorec.Request("),
        (["50", "181"], "requests[0]: got '50'; must be an octorec.Request"),
        ("50,181", "requests: got '50,181'; must be a list"),
        (np.array([50]), "requests[0]: got np.int64(50); must be an octorec.Request"),
        (None, "requests: got None; must be a list"),
        (50, "requests: got 50; must be a list"),
    ],
)
def test_what_is_no_list_of_requests_is_refused_with_what_to_write(requests: Any, said: str) -> None:
    with pytest.raises(InputError) as caught:
        request_list(requests)
    assert said in str(caught.value)


def test_requests_may_come_from_a_generator() -> None:
    assert request_list(request for request in (ONE, ONE)) == [ONE, ONE]
    assert request_list([]) == []


def test_an_integer_too_long_for_text_is_no_id() -> None:
    with pytest.raises(InputError, match=r"^history: got an integer of \d+ bits; is an integer too long for an id$"):
        Request([10**5000])
