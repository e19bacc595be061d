"""A name map is read strictly: what it says twice, not at all or wrongly is refused by the rule's number."""

import re
from pathlib import Path

import pytest

from octorec.errors import InputError
from octorec.models.name_map import Rule, read_map

GOOD = "rules:\n  - {from: 'a.{i}', to: 'b.{i}'}\n"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "names.yaml"
    path.write_text(text)
    return path


def test_a_map_is_read_as_it_stands(tmp_path: Path) -> None:
    text = "rules:\n  - {from: 'l.{i}.w', to: ['b.{i}.{e}.g', 'b.{i}.{e}.u'], stack: e, transpose: true}\ndrop: ['*.x']"
    names = read_map(write(tmp_path, text))
    (rule,) = names.rules
    assert rule.match("l.12.w") == {"i": 12}
    assert rule.names({"i": 12, "e": 3}) == ("b.12.3.g", "b.12.3.u")
    assert (rule.stack, rule.transpose, names.drop) == (("e",), True, ("*.x",))


@pytest.mark.parametrize("name", ["l.w", "l.01.w", "l.x.w", "l.1.w.bias", "al.1.w", "l.-1.w", "l.1xw", "l.٣.w"])
def test_a_variable_stands_for_an_integer_and_the_whole_name_must_match(name: str) -> None:
    assert Rule("rule 1", "l.{i}.w", ("b.{i}",)).match(name) is None


def test_a_variable_that_stands_twice_has_one_value() -> None:
    rule = Rule("rule 1", "l.{i}.m.{i}", ("b.{i}",))
    assert rule.match("l.4.m.4") == {"i": 4}
    assert rule.match("l.4.m.5") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules: [", "map: got .* is no YAML"),
        ("[]", "must have the keys rules, drop"),
        ("rules: []", "rules: got .* must be a list of 1 to 1,000 rules"),
        ("drop: [a]", "rules: got None"),
        ("rules: {a: b}", "must be a list"),
        (GOOD + "dorp: [a]", "got 'dorp'; unknown key"),
        (GOOD + "drop: {a: b}", "drop: got .* must be a text or a list"),
        (GOOD + "drop: [1]", "drop: got 1; must be patterns"),
        ("rules: [a]", "rule 1: got 'a'; must have the keys from, to, transpose, stack"),
        (GOOD + "  - {from: a}", "rule 2: to: got None; is required"),
        (GOOD + "  - {to: a}", "rule 2: from: got None; is required"),
        (GOOD + "  - {from: a, to: b, split: 3}", "rule 2: got 'split'; unknown key"),
        (GOOD + "  - {from: [a], to: b}", r"rule 2: from: got \['a'\]; must be a tensor's name"),
        (GOOD + "  - {from: a, to: []}", "rule 2: to: .* names no tensor"),
        (GOOD + "  - {from: a, to: 7}", "rule 2: to: got 7; must be a text or a list"),
        (GOOD + "  - {from: '', to: b}", "rule 2: from: got ''; must be a tensor's name"),
        (GOOD + "  - {from: a, to: b, transpose: 1}", "rule 2: transpose: got 1; allowed: true, false"),
        (GOOD + "  - {from: 'a.{i}', to: b}", "rule 2: to: got 'b'; lacks {i}"),
        (GOOD + "  - {from: a, to: 'b.{i}'}", "rule 2: to: .*has {i}, whose value is not known"),
        (GOOD + "  - {from: 'a.{I}', to: b}", "rule 2: from: .*braces hold a variable"),
        (GOOD + "  - {from: 'a.{i', to: b}", "rule 2: from: .*braces hold a variable"),
        (GOOD + "  - {from: 'a.{i}{j}', to: 'b.{i}.{j}'}", "rule 2: from: .*between two variables"),
        (GOOD + "  - {from: a, to: 'b.{e}', stack: E}", "rule 2: stack: got 'E'; must be a variable"),
        (GOOD + "  - {from: 'a.{e}', to: 'b.{e}', stack: e}", "rule 2: stack: got 'e'; .* stands nowhere else"),
        (GOOD + "  - {from: a, to: 'b.{e}', stack: [e, e]}", "rule 2: stack: got 'e'; .* stands nowhere else"),
        (GOOD + "  - {from: a, to: b, stack: e}", "rule 2: to: got 'b'; lacks {e}"),
        (GOOD + f"  - {{from: {'a' * 501}, to: b}}", "rule 2: from: .* of at most 500 characters"),
        ("rules:\n" + "  - {from: a, to: b}\n" * 1001, "must be a list of 1 to 1,000 rules"),
        (GOOD + "rules: []", "stands twice"),
    ],
)
def test_a_wrong_map_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read_map(write(tmp_path, text))
    assert re.search(said, str(caught.value))
    assert "names.yaml" in str(caught.value)
