"""Products that are not plainly safe are told together where they differ in nothing but numbers."""

import dataclasses

from octorec.numerics.advice import Decision, LayerAdvice
from octorec.numerics.analysis import spans
from octorec.numerics.doubts import doubts

SAFE = LayerAdvice("", "ffn", (128, 128), "channel", "well within E4M3", 31.5, 5.0, 0.0, None, 2, 1, 10.0)


def layer(module: str, decision: Decision, reason: str, role: str = "ffn") -> LayerAdvice:
    return dataclasses.replace(SAFE, module=module, decision=decision, reason=reason, role=role)


def test_one_kind_of_reason_is_one_doubt_with_the_ends_of_its_numbers() -> None:
    found = doubts(
        [
            layer("h.10.up", "keep", "the weights of h.10.up: 9.5 octaves, over 12"),
            layer("h.2.up", "keep", "the weights of h.2.up: 13 octaves, over 12"),
            layer("h.3.up", "keep", "h.3.up holds 1,234 NaN or Inf"),
            layer("h.4.up", "channel", "well within E4M3"),
            layer("h.4.down", "block", "the input of h.4.gate: SQNR 11 dB, under 28.5"),
            layer("h.5.down", "block", "the input of h.5.gate: SQNR 9 dB, under 28.5"),
            layer("head", "keep", "scores are never 8 bit", role="head"),
        ]
    )
    assert [(doubt.name, doubt.matrices, doubt.decision, doubt.reason) for doubt in found] == [
        ("h.(2,10).up", 2, "keep in 16 bit", "its weights: 9.5 to 13 octaves, over 12"),
        ("h.3.up", 1, "keep in 16 bit", "it holds 1,234 NaN or Inf"),
        ("h.*.down", 2, "use blocks", "the input of h.*.gate: SQNR 9 to 11 dB, under 28.5"),
    ]


def test_blocks_in_a_row_are_a_span() -> None:
    assert spans([f"h.{n}.experts.7.up" for n in (0, 1, 2, 5, 10, 11)]) == "h.(0-2,5,10-11).experts.*.up"
    assert spans(["h.7.up"]) == "h.(7).up"
