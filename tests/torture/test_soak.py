"""How fast something grows."""

from __future__ import annotations

import pytest

from torture.soak import _slope


def test_a_slope_is_that_of_the_line_through_the_samples() -> None:
    assert _slope([(0, 1), (1, 4), (2, 7)]) == pytest.approx(3)
    assert _slope([(0, 1), (1, 3), (2, 1)]) == pytest.approx(0)
    assert _slope([(5, 1)]) == 0
