"""What all attacks have in common: gradients are each example's own, and images and labels are checked."""

import numpy as np
import pytest
import tensorflow as tf

from tfrobust import losses
from tfrobust.attacks import catalogue
from tfrobust.attacks.base import input_gradient
from tfrobust.threat_models import ThreatModel

X = np.random.default_rng(0).uniform(size=(4, 2, 2, 1)).astype(np.float32)
Y = np.array([0, 1, 2, 0])


def test_input_gradient_by_hand():
    # Logits (0, w . x) with w = (2, -1): the margin of label 0 has the gradient w and that of label 1 has -w, with no
    # factor for the three examples of the batch.
    def logits_fn(x):
        return tf.pad(tf.reshape(x, [-1, 2]) @ [[2.0], [-1.0]], [[0, 0], [1, 0]])

    gradient = input_gradient(logits_fn, losses.margin, tf.zeros([3, 1, 2, 1]), tf.constant([0, 1, 0]))
    np.testing.assert_array_equal(gradient[:, 0, :, 0], [[2, -1], [-2, 1], [2, -1]])


@pytest.mark.parametrize("name", sorted(catalogue.CATALOGUE))
@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X * 255, Y, r"images must be within \[0.0, 1.0\], got from"),
        ((X * 255).astype(np.uint8), Y, r"images must be floating point numbers in \[0.0, 1.0\], got uint8"),
        (X, Y[:, None], r"labels must be class numbers \[B\], one for each image, got \(4, 1\) for images \(4, 2, 2"),
        (X, np.eye(4)[Y], r"labels must be class numbers \[B\]"),
        (X, Y[:3], r"labels must be class numbers \[B\]"),
    ],
    ids=["grey levels", "integers", "a column of labels", "one-hot labels", "a label missing"],
)
def test_images_and_labels_are_checked(name, x, y, message):
    def logits_fn(x):
        raise AssertionError("asked about images that are not valid")

    norm = catalogue.CATALOGUE[name].norms[0]
    (attack,) = catalogue.parse(name, ThreatModel(norm, 0.1)).values()
    with pytest.raises(ValueError, match=message):
        attack(logits_fn, x, y, seed=0)


def test_pixels_are_checked_in_graphs_too():
    (attack,) = catalogue.parse("fgsm", ThreatModel("linf", 0.1)).values()
    in_graph = tf.function(lambda x: attack(tf.keras.layers.Flatten(), x, Y, seed=0), autograph=False)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"images must be within \[0.0, 1.0\], got from\] \[0\]"):
        in_graph(tf.constant(np.round(X) * 3))
