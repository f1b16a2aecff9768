"""The fast input gradient is that of the convolution, whatever the padding and the sizes."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfrobust.fast_convolution import FastInputGradientConv2D, convolution_input_gradient


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("kernel_size", [(1, 1), (2, 2), (3, 3), (4, 5), (5, 5), (7, 3)])
@pytest.mark.parametrize(("height", "width", "channels"), [(8, 8, 1), (7, 9, 3), (13, 10, 2)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (1, 3), (4, 2)])
def test_input_gradient_is_the_transposed_convolution(padding, kernel_size, strides, height, width, channels):
    # Whole numbers: every order of summation gives the same float32.
    rng = np.random.default_rng(0)
    kernel = tf.constant(rng.integers(-8, 9, (*kernel_size, channels, 6)).astype(np.float32))
    x = tf.zeros([2, height, width, channels])
    upstream = tf.nn.conv2d(x, kernel, strides, padding.upper())
    upstream = tf.constant(rng.integers(-8, 9, upstream.shape).astype(np.float32))
    expected = tf.nn.conv2d_transpose(upstream, kernel, x.shape, strides, padding.upper())
    actual = convolution_input_gradient(upstream, kernel, padding, (height, width), strides)
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
@pytest.mark.parametrize(("height", "channels"), [(28, 1), (30, 3)])
def test_input_gradient_in_bfloat16_rounds_no_weight_to_bfloat16(padding, strides, height, channels):
    # Weights of 16 bits are sums of two bfloat16 numbers, of 8 bits each.
    rng = np.random.default_rng(0)
    kernel = tf.constant(rng.integers(-(2**15), 2**15, (5, 5, channels, 1)).astype(np.float32))
    x = tf.zeros([1, height, 28, channels])
    upstream = np.zeros(tf.nn.conv2d(x, kernel, strides, padding.upper()).shape, np.float32)
    upstream[0, ::5, ::5] = 1.0  # each pixel's gradient is a single weight
    expected = tf.nn.conv2d_transpose(upstream, kernel, x.shape, strides, padding.upper())
    actual = convolution_input_gradient(tf.constant(upstream, tf.bfloat16), kernel, padding, (height, 28), strides)
    assert actual.dtype == tf.float32
    np.testing.assert_array_equal(actual, expected)


def test_input_gradient_of_an_image_smaller_than_the_kernel():
    kernel = tf.reshape(tf.range(25.0), [5, 5, 1, 1])
    upstream = tf.constant([[1.0, -2.0], [3.0, 5.0]], shape=[1, 2, 2, 1])
    expected = tf.nn.conv2d_transpose(upstream, kernel, [1, 2, 2, 1], 1, "SAME")
    np.testing.assert_array_equal(convolution_input_gradient(upstream, kernel, "same", (2, 2)), expected)


@pytest.mark.parametrize(
    ("options", "input_shape", "fits"),
    [
        ({}, (8, 8, 2), True),
        ({"strides": 2}, (8, 8, 1), True),
        ({"strides": 2}, (8, 8, 2), False),
        ({"strides": (1, 4)}, (8, 8, 1), False),
        ({"dilation_rate": 2}, (8, 8, 2), False),
        ({"groups": 2}, (8, 8, 2), False),
        ({}, (8, 8, 5), False),
    ],
)
def test_which_layers_the_fast_gradient_fits(options, input_shape, fits):
    layer = layers.Conv2D(4, 3, **options)
    layer(keras.Input(input_shape))
    assert FastInputGradientConv2D.fits(layer) == fits


def test_it_replaces_no_subclass():
    layer = FastInputGradientConv2D(4, 3)
    layer(keras.Input((8, 8, 1)))
    assert not FastInputGradientConv2D.fits(layer)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("strides", [1, 2])
def test_layer_is_the_convolution_with_its_gradients(padding, strides):
    rng = np.random.default_rng(0)
    x = tf.constant(rng.integers(-3, 4, (2, 9, 7, 3)).astype(np.float32))
    layer, fast = (
        kind(5, (4, 3), strides, padding=padding, activation="relu")
        for kind in (layers.Conv2D, FastInputGradientConv2D)
    )
    weights = [rng.integers(-3, 4, shape).astype(np.float32) for shape in ((4, 3, 3, 5), (5,))]
    results = []
    for convolution in (layer, fast):
        convolution.build(x.shape)
        convolution.set_weights(weights)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = convolution(x)
        results.append([y, *tape.gradient(y, [x, *convolution.trainable_variables])])
    for expected, actual in zip(*results, strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_result_in_bfloat16_is_rounded_once():
    # 256.5 + 1 = 257.5, whose nearest bfloat16 is 258. Rounded before the bias, 256 + 1 = 257 would become 256.
    layer = FastInputGradientConv2D(1, 1, output_dtype="bfloat16")
    layer.build((1, 1, 1, 1))
    layer.set_weights([np.full([1, 1, 1, 1], 256.5), np.full([1], 1.0)])
    y = layer(tf.ones([1, 1, 1, 1]))
    assert y.dtype == tf.bfloat16
    np.testing.assert_array_equal(tf.cast(y, tf.float32), [[[[258.0]]]])
