"""JSON that we write can be read by anybody."""

from octorec.files import json_text


def test_json_has_null_where_a_number_is_not_finite() -> None:
    nan, inf = float("nan"), float("inf")
    text = json_text({"a": nan, "b": [inf, 1.5, (-inf,)], "c": {"d": None, "e": "NaN"}, "f": 3, "g": True})
    assert text == '{"a": null, "b": [null, 1.5, [null]], "c": {"d": null, "e": "NaN"}, "f": 3, "g": true}'
    assert json_text([nan], indent=1) == "[\n null\n]"
