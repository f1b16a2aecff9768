"""Classifiers that several binaries are tried on."""

import keras
import pytest

from tfrobust import datasets


@pytest.fixture(scope="session")
def digits_model(tmp_path_factory):
    """The path of a small classifier of `digits`, accurate but for some."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    stack = [layers.AveragePooling2D(2), layers.Conv2D(8, 5, activation="relu"), layers.Flatten(), layers.Dense(10)]
    classifier = keras.Sequential([keras.Input((28, 28, 1)), *stack])
    train = datasets.load("digits", "train")
    classifier.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    classifier.fit(train.images, train.labels, epochs=2, batch_size=100, verbose=0)
    path = tmp_path_factory.mktemp("models") / "first.keras"
    classifier.save(path)
    return path
