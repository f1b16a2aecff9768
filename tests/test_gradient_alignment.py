"""Cosines of gradients, by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrobust.gradient_alignment import gradient_cosines


def linear(*weights):
    """Logits (0, w . x) of images of len(weights) pixels: the gradient is along w, or against it."""
    kernel = tf.constant(weights, shape=[len(weights), 1])
    return lambda x: tf.pad(tf.reshape(x, [-1, len(weights)]) @ kernel, [[0, 0], [1, 0]])


IMAGES, LABELS = np.random.default_rng(0).random([5, 1, 2, 1], np.float32), np.array([0, 1, 0, 1, 1])


@pytest.mark.parametrize("batch_size", [2, 100])
def test_angles_of_linear_functions(batch_size):
    models = [linear(2.0, 0.0), linear(1.0, 1.0), linear(-3.0, 0.0)]
    found = gradient_cosines(models, IMAGES, LABELS, batch_size=batch_size)
    expected = np.array([[1, 0.5**0.5, -1], [0.5**0.5, 1, -(0.5**0.5)], [-1, -(0.5**0.5), 1]])
    assert found.shape == (3, 3, 5)
    np.testing.assert_allclose(found, np.repeat(expected[..., np.newaxis], 5, axis=-1), atol=1e-6)


def test_tiny_gradients_have_a_direction():
    # Of the loss at label 0, about exp(-60).
    found = gradient_cosines([lambda x: linear(1.0, 0.0)(x) - [0.0, 60.0], linear(1.0, 1.0)], IMAGES[:1], LABELS[:1])
    assert found[0, 1, 0] == pytest.approx(0.5**0.5)


def test_no_gradient_no_angle():
    constant, rounded = linear(0.0, 0.0), lambda x: tf.cast(tf.cast(linear(1.0, 1.0)(x), tf.int32), tf.float32)
    found = gradient_cosines([linear(1.0, 0.0), constant, rounded], IMAGES, LABELS)
    assert np.isnan(found[0, 1:]).all() and np.isnan(found[1:]).all() and np.allclose(found[0, 0], 1)


def test_a_keras_model_is_asked_in_inference_mode():
    keras.utils.set_random_seed(0)
    layers = [keras.Input((1, 2, 1)), keras.layers.Dropout(0.5), keras.layers.Flatten(), keras.layers.Dense(2)]
    model = keras.Sequential(layers)
    np.testing.assert_allclose(gradient_cosines([model, model], IMAGES, LABELS), 1, atol=1e-6)
