"""The small networks for CIFAR-10."""

import numpy as np
import pytest

from tfrobust.models.small import capacity_cnn, naive_cnn, small_cnn


def test_parameters():
    # As the document lists them: 456, 2,416, 48,120, 10,164 and 850.
    sizes = [sum(v.numpy().size for v in layer.trainable_variables) for layer in naive_cnn(seed=0).layers]
    assert [size for size in sizes if size] == [456, 2_416, 48_120, 10_164, 850]
    assert sum(v.numpy().size for v in small_cnn(seed=0).trainable_variables) == 391_466
    assert naive_cnn(seed=0, input_shape=(28, 28, 1), num_classes=7).output_shape == (None, 7)


def test_naive_network_starts_as_pytorch_does():
    model = naive_cnn(seed=3)
    for layer, inputs in zip((layer for layer in model.layers if layer.weights), (75, 150, 400, 120, 84), strict=True):
        kernel, bias = layer.get_weights()
        limit = inputs**-0.5
        assert 0.9 * limit < np.abs(kernel).max() <= limit and 0.5 * limit < np.abs(bias).max() <= limit
        assert abs(kernel.mean()) < 0.2 * limit
    x = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    np.testing.assert_array_equal(model(x), naive_cnn(seed=3)(x))
    assert np.abs(model(x) - naive_cnn(seed=4)(x)).max() > 1e-3


@pytest.mark.parametrize("scale", [1, 4])
def test_capacity(scale):
    model = capacity_cnn(seed=0, scale=scale)
    a, b, c = 2 * scale, 4 * scale, 8 * scale
    # 28 -> 14 -> 7 rows.
    assert model.count_params() == (25 * a + a) + (25 * a * b + b) + (49 * b * c + c) + (c * 10 + 10)
    with pytest.raises(ValueError, match="scale must be"):
        capacity_cnn(seed=0, scale=0)


def test_no_filters():
    with pytest.raises(ValueError, match="filters must be one or more numbers"):
        small_cnn(seed=0, filters=())
