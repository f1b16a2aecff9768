"""Intervals of accuracies."""

import pytest

from tfrobust.confidence import wilson_interval


def test_wilson_by_hand():
    # With z = 2 and 4 draws z^2 / n is 1: the middle is (p + 1/2) / 2, half the width sqrt(p (1 - p) + 1/4) / 2.
    assert wilson_interval(2, 4, z=2) == pytest.approx((0.5 - 0.5**0.5 / 2, 0.5 + 0.5**0.5 / 2))
    assert wilson_interval(0, 4, z=2) == pytest.approx((0, 0.5)) and wilson_interval(4, 4, z=2).high == 1


def test_95_percent():
    # Newcombe 1998, table I: 81 of 263, 15 of 148, 1 of 29.
    for successes, total, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (1, 29, 0.0061, 0.1718)):
        assert wilson_interval(successes, total) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("successes, total", [(0, 0), (-1, 5), (6, 5), (0.5, 5)])
def test_counts_that_do_not_exist(successes, total):
    with pytest.raises(ValueError, match="must be"):
        wilson_interval(successes, total)
