"""Ranks and accuracy among the k most likely classes."""

import numpy as np
import pytest

from tfrobust import top_k

LOGITS = np.array([[3.0, 2.0, 1.0, 0.0], [0.0, 1.0, 2.0, 3.0], [5.0, 5.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])


def test_ranks():
    assert top_k.ranks(LOGITS, [0, 0, 1, 2]).tolist() == [0, 3, 1, 3]


def test_accuracy():
    assert top_k.accuracy(LOGITS, [1, 1, 0, 0], 1) == 0
    assert top_k.accuracy(LOGITS, [1, 1, 0, 0], 2) == 0.5
    assert top_k.accuracy(LOGITS, [1, 1, 0, 0], 3) == 0.75


def test_logits_that_are_no_numbers():
    with pytest.raises(ValueError, match="logits must be finite"):
        top_k.ranks(np.array([[np.nan, 1.0]]), [0])
