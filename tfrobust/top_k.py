"""Accuracy among the k most likely classes."""

import numpy as np


def ranks(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes are as likely as the label or likelier, [N, K] logits and [N] labels -> [N]: 0 if it is first.

    A class with the same logit counts against it: a classifier that cannot tell two classes apart is right in neither.

    Raises:
      ValueError: for logits that are not finite.
    """
    if not np.isfinite(logits).all():
        raise ValueError("logits must be finite, got NaN or infinity")
    own = np.take_along_axis(logits, np.asarray(labels)[:, None], axis=1)
    return np.sum(logits >= own, axis=1) - 1


def accuracy(logits: np.ndarray, labels: np.ndarray, k: int) -> float:
    """The fraction of the labels [N] that are among the k classes with the largest logits [N, K]."""
    return float(np.mean(ranks(logits, labels) < k))
