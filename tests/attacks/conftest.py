"""The networks that several tests attack: a random one of small images, and one trained on the bundled digits."""

import functools
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfrobust import datasets

INITIALIZER = functools.partial(keras.initializers.RandomNormal, stddev=0.7)


@pytest.fixture(scope="module")
def model():
    """A smooth network of four classes with large random weights."""
    inputs = keras.Input((6, 5, 1))
    x = layers.Conv2D(4, 3, activation="tanh", kernel_initializer=INITIALIZER(seed=1))(inputs)
    return keras.Model(inputs, layers.Dense(4, kernel_initializer=INITIALIZER(seed=2))(layers.Flatten()(x)))


@pytest.fixture(scope="module")
def x():
    return tf.constant(np.random.default_rng(0).uniform(size=(8, 6, 5, 1)).astype(np.float32))


@pytest.fixture(scope="module")
def y(model, x):
    """The model's own classes."""
    return tf.argmax(model(x), axis=-1)


class Digits(NamedTuple):
    """A trained network and 500 images: the test set, 360, and the first of the training set."""

    model: keras.Model
    x: np.ndarray
    y: np.ndarray

    def torch_twin(self):
        """The same network in torch, for images with channels first."""
        torch = pytest.importorskip("torch")
        stack = [torch.nn.Flatten()]
        for layer in self.model.layers[1:]:
            kernel, bias = layer.get_weights()
            dense = torch.nn.Linear(*kernel.shape)
            with torch.no_grad():
                dense.weight.copy_(torch.from_numpy(kernel.T.copy()))
                dense.bias.copy_(torch.from_numpy(bias.copy()))
            stack += [dense, torch.nn.ReLU()]
        return torch.nn.Sequential(*stack[:-1]).eval()


@pytest.fixture(scope="session")
def digits():
    keras.utils.set_random_seed(5)
    model = keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(48, "relu"), layers.Dense(10)])
    train, test = datasets.load("digits", "train"), datasets.load("digits", "test")
    model.compile(keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(train.images, train.labels, batch_size=64, epochs=8, verbose=0)
    x, y = np.concatenate([test.images, train.images]), np.concatenate([test.labels, train.labels])
    return Digits(model, x[:500], y[:500])
