"""The networks of Tramèr et al."""

import keras
import numpy as np
import pytest

from tfrobust.models.tramer import ARCHITECTURES, tramer

# By hand: weights and biases of each layer, for 28x28x1 images.
PARAMETERS = {
    # 28 -> 24 -> 20 rows.
    "a": (5 * 5 * 64 + 64) + (5 * 5 * 64 * 64 + 64) + (20 * 20 * 64 * 128 + 128) + (128 * 10 + 10),
    # 28 -> 14 -> 5 -> 1 rows.
    "b": (8 * 8 * 64 + 64) + (6 * 6 * 64 * 128 + 128) + (5 * 5 * 128 * 128 + 128) + (128 * 10 + 10),
    # 28 -> 26 -> 13 -> 11 -> 5 rows.
    "c": (3 * 3 * 128 + 128) + (3 * 3 * 128 * 64 + 64) + (5 * 5 * 64 * 128 + 128) + (128 * 10 + 10),
    "d": (784 * 300 + 300) + 3 * (300 * 300 + 300) + (300 * 10 + 10),
}
DROPOUT = {"a": [0.25, 0.5], "b": [0.2, 0.5], "c": [], "d": [0.5] * 4}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_layers(architecture):
    model = tramer(architecture, seed=0)
    assert sum(v.numpy().size for v in model.trainable_variables) == PARAMETERS[architecture]
    assert [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)] == DROPOUT[architecture]
    activations = {layer.activation.__name__ for layer in model.layers if isinstance(layer, keras.layers.Conv2D)}
    assert activations == {"a": {"relu"}, "b": {"relu"}, "c": {"tanh"}, "d": set()}[architecture]
    assert model.layers[-1].activation.__name__ == "linear" and model.output_shape == (None, 10)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_seed_decides_weights_and_dropout(architecture):
    x = np.random.default_rng(0).random((2, 28, 28, 1), np.float32)

    def outputs(seed):
        model = tramer(architecture, seed=seed)
        return model(x, training=False).numpy(), model(x, training=True).numpy()

    first, again, other = outputs(1), outputs(1), outputs(2)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first[0], other[0])
    assert np.allclose(first[0], first[1]) == (architecture == "c")


def test_other_images_and_classes():
    assert tramer("b", seed=0, input_shape=(32, 32, 3), num_classes=7)(np.zeros((1, 32, 32, 3))).shape == (1, 7)


def test_unknown_architecture_is_named():
    with pytest.raises(ValueError, match=r"architecture must be one of 'a', 'b', 'c', 'd', got 'e'"):
        tramer("e", seed=0)
