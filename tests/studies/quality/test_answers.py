"""Overlap of beams and invalid answers, by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from studies.quality.answers import NO_ITEM, _invalid, beam_overlap


def test_beam_overlap() -> None:
    first = np.array([[1, 2, 3, 4], [7, 8, NO_ITEM, NO_ITEM], [5, 6, 7, 8]])
    second = np.array([[4, 3, 9, 10], [8, 9, 10, NO_ITEM], [8, 7, 6, 5]])
    assert beam_overlap(first, second) == pytest.approx((2 / 4 + 1 / 3 + 1) / 3)
    assert beam_overlap(first, first) == 1


def test_invalid_answers_are_counted() -> None:
    live = np.array([True, True, True, False])
    parsed = [SimpleNamespace(filter=SimpleNamespace(excluded=np.array([1]))) for _ in range(3)]
    asked = SimpleNamespace(catalog=SimpleNamespace(live=live), parsed=parsed)
    good = np.array([[0, 2], [2, NO_ITEM], [0, NO_ITEM]])
    assert _invalid(asked, good) == 0
    assert _invalid(asked, np.array([[0, 1], [3, 2], [0, 2]])) == 2  # an item of the history, a withdrawn one
    assert _invalid(asked, np.array([[0, 4], [2, -7], [0, 2]])) == 2  # items that do not exist
