"""Classifiers that several binaries are tried on."""

import keras
import pytest

from tfrobust import datasets, export
from tfrobust.models import mnist


@pytest.fixture(scope="session")
def digits_model(tmp_path_factory):
    """The path of a briefly trained classifier of `digits`."""
    path = tmp_path_factory.mktemp("models") / "first.keras"
    classifier = mnist.challenge_cnn(seed=0, initializer="he_normal")
    train = datasets.load("digits", "train")
    classifier.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    classifier.fit(train.images, train.labels, epochs=1, batch_size=100, verbose=0)
    export.save_keras(classifier, path)
    return path
