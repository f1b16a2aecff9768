"""The challenge CNN, and the network that begins with thresholds."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrobust.models import mnist


def test_has_the_challenges_parameters():
    model = mnist.challenge_cnn(seed=0)
    assert model.count_params() == 3_274_634
    shapes = [(5, 5, 1, 32), (32,), (5, 5, 32, 64), (64,), (3136, 1024), (1024,), (1024, 10), (10,)]
    assert [w.shape for w in model.get_weights()] == shapes


def test_is_the_challenges_function():
    """Convolution, ReLU, pooling, in the original's order, against the model's pooling before ReLU."""
    model = mnist.challenge_cnn(seed=0)
    k1, b1, k2, b2, k3, b3, k4, b4 = (w - 0.05 for w in model.get_weights())
    model.set_weights([k1, b1, k2, b2, k3, b3, k4, b4])
    x = np.random.default_rng(0).random((3, 28, 28, 1), np.float32)
    h = tf.nn.max_pool2d(tf.nn.relu(tf.nn.conv2d(x, k1, 1, "SAME") + b1), 2, 2, "SAME")
    h = tf.nn.max_pool2d(tf.nn.relu(tf.nn.conv2d(h, k2, 1, "SAME") + b2), 2, 2, "SAME")
    expected = tf.nn.relu(tf.reshape(h, [3, -1]) @ k3 + b3) @ k4 + b4
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-3)


def test_initial_weights_are_the_challenges():
    weights = mnist.challenge_cnn(seed=0).get_weights()
    assert all(np.all(bias == np.float32(0.1)) for bias in weights[1::2])
    dense = weights[4]
    # Truncated at two deviations of 0.1.
    assert abs(dense).max() <= 0.2 and abs(dense).max() > 0.19 and 0.08 < dense.std() < 0.1
    # Layers do not repeat each other's numbers.
    assert not np.array_equal(weights[0].ravel()[:100], dense.ravel()[:100])


@pytest.mark.parametrize("initializer", mnist.INITIALIZERS)
def test_seed_decides_the_weights(initializer):
    def weights(seed):
        return mnist.challenge_cnn(seed=seed, initializer=initializer).get_weights()

    assert all(np.array_equal(a, b) for a, b in zip(weights(1), weights(1), strict=True))
    assert not np.array_equal(weights(1)[0], weights(2)[0])


def test_threshold_filters_ignore_what_epsilon_can_do_to_black_and_white():
    kernel, bias = mnist.threshold_filters(np.zeros((5, 5, 1, 32), np.float32))
    pixels = np.array([0.0, 0.3, 0.7, 1.0], np.float32)  # black and white, and as grey as epsilon 0.3 makes them
    image = tf.reshape(tf.repeat(pixels, 25), [4, 5, 5, 1])
    response = tf.nn.relu(tf.nn.conv2d(image, kernel, 1, "VALID") + bias)[:, 0, 0, :]
    # Filters of the lower level less those of the upper one: 0 below 0.35, 4 (0.65 - 0.35) above 0.65.
    difference = response[:, :5] - response[:, 5:10]
    np.testing.assert_allclose(difference, np.repeat([[0.0], [0.0], [1.2], [1.2]], 5, axis=1), atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 5, 1, 32), (5, 1, 1, 32), (5, 5, 1, 19)])
def test_threshold_filters_need_room(shape):
    with pytest.raises(ValueError, match=r"kernel must have 20 filters or more that reach the places .*, got \("):
        mnist.threshold_filters(np.zeros(shape, np.float32))


def test_threshold_cnn_compares_every_pixel_with_both_levels():
    model = mnist.threshold_cnn(seed=0)
    assert model.count_params() == 1_677_162
    kernel, bias = (w.numpy() for w in (model.layers[1].kernel, model.layers[1].bias))
    # The random remainder left out, which filters have besides.
    thresholds, _ = mnist.threshold_filters(np.zeros_like(kernel), mnist.STRIDED_THRESHOLD_PLACES)
    np.testing.assert_allclose(kernel[..., :16], thresholds[..., :16], atol=0.25)
    first = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Conv2D(48, 5, strides=2, padding="same")])
    first.set_weights([thresholds, bias])
    image = np.random.default_rng(0).choice(np.array([0.0, 0.3, 0.7, 1.0], np.float32), (1, 28, 28, 1))
    response = tf.nn.relu(first(image))[0]
    # Lower level less upper level, four pixels to a place: 0 for black, 4 (0.65 - 0.35) for white, grey or not.
    white = tf.nn.depth_to_space((response[..., :4] - response[..., 4:8])[tf.newaxis], 2)
    np.testing.assert_allclose(white, 1.2 * (image > 0.5), atol=1e-5)


def test_threshold_cnn_of_other_sizes_and_seeds():
    model = mnist.threshold_cnn(seed=1, input_shape=(15, 12, 3), num_classes=4)
    assert model(np.zeros([2, 15, 12, 3], np.float32)).shape == (2, 4)
    again, other = (mnist.threshold_cnn(seed=seed, input_shape=(15, 12, 3), num_classes=4) for seed in (1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), again.get_weights(), strict=True))
    assert not any(
        np.array_equal(a, b) for a, b in zip(model.get_weights()[::2], other.get_weights()[::2], strict=True)
    )


def test_dropout_is_for_training_alone():
    x = np.random.default_rng(0).uniform(size=(4, 28, 28, 1)).astype(np.float32)
    plain, model = mnist.challenge_cnn(seed=1), mnist.challenge_cnn(seed=1, dropout=0.5)
    assert model.count_params() == plain.count_params() == 3_274_634
    np.testing.assert_array_equal(model(x, training=False), plain(x, training=False))
    assert np.all(np.any(model(x, training=True) != plain(x, training=True), axis=1))
    for value in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match=f"dropout must be from 0 up and below 1, got {value}"):
            mnist.challenge_cnn(seed=1, dropout=value)


def test_unknown_initializer_is_named():
    with pytest.raises(ValueError, match=r"initializer must be one of .*, got 'ones'"):
        mnist.challenge_cnn(seed=0, initializer="ones")
