"""The input gradient is each example's own."""

import numpy as np
import tensorflow as tf

from tfrobust import losses
from tfrobust.attacks.base import input_gradient


def test_input_gradient_by_hand():
    # Logits (0, w . x) with w = (2, -1): the margin of label 0 has the gradient w and that of label 1 has -w, with no
    # factor for the three examples of the batch.
    def logits_fn(x):
        return tf.pad(tf.reshape(x, [-1, 2]) @ [[2.0], [-1.0]], [[0, 0], [1, 0]])

    gradient = input_gradient(logits_fn, losses.margin, tf.zeros([3, 1, 2, 1]), tf.constant([0, 1, 0]))
    np.testing.assert_array_equal(gradient[:, 0, :, 0], [[2, -1], [-2, 1], [2, -1]])
