from __future__ import annotations

import math

import pytest

from imbalanceseg.errors import InputError
from imbalanceseg.synthesis.difficulty import between, between_by_ratio, require_difficulty


@pytest.mark.parametrize("value", [-0.01, 1.01, math.nan, math.inf, -math.inf])
def test_a_difficulty_outside_the_dial_is_refused(value):
    with pytest.raises(InputError, match="between 0 and 1") as refused:
        require_difficulty(value)
    assert refused.value.code == "difficulty-out-of-range"
    assert "barely visible" in refused.value.hint


@pytest.mark.parametrize("value", [0, 0.0, 0.5, 1])
def test_a_difficulty_on_the_dial_is_kept(value):
    assert require_difficulty(value) == value


def test_the_dial_goes_from_easy_to_hard():
    assert [between(4.0, 1.0, d) for d in (0, 0.5, 1)] == [4.0, 2.5, 1.0]
    assert [between_by_ratio(1.0, 4.0, d) for d in (0, 0.5, 1)] == pytest.approx([1.0, 2.0, 4.0])
