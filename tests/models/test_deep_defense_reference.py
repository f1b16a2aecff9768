"""The published LeNet, read from its file."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf

from tests.models.by_hand import convolve, pool, random_images, random_mean, relu
from tfrobust import datasets
from tfrobust.models import deep_defense_reference

LENET_FILE = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data" / "deepfool" / "lenet_reference.npz"


def random_lenet():
    rng = np.random.default_rng(0)
    arrays = {}
    for name, shape in deep_defense_reference.SHAPES.items():
        scale = 0.5 if name.endswith("b") else (1 / np.prod(shape[:-1])) ** 0.5
        arrays[name] = rng.normal(scale=scale, size=shape).astype(np.float32)
    arrays["l0_W"] /= 100
    return arrays


def save(tmp_path, arrays):
    path = tmp_path / "lenet.npz"
    np.savez(path, **arrays)
    return path


def test_loaded_weights_make_the_network_of_convolutions(tmp_path):
    arrays, mean, x = random_lenet(), random_mean((28, 28, 1)), random_images((28, 28, 1))
    # In the order of MATLAB in memory, as a file that was made from one.
    model = deep_defense_reference.load_lenet(
        save(tmp_path, {name: np.asfortranarray(array) for name, array in arrays.items()}), mean
    )
    h = pool(convolve(255 * x.astype(np.float64) - mean, arrays["l0_W"], arrays["l0_b"]), np.max)
    h = pool(convolve(h, arrays["l2_W"], arrays["l2_b"]), np.max)
    h = convolve(relu(convolve(h, arrays["l4_W"], arrays["l4_b"])), arrays["l6_W"], arrays["l6_b"])
    np.testing.assert_allclose(model(x), h[:, 0, 0, :], rtol=1e-4, atol=1e-4)


def test_missing_unknown_misshapen_and_strange_arrays_are_named(tmp_path):
    arrays = random_lenet()
    del arrays["l0_W"], arrays["l6_b"]
    arrays["l4_W"] = arrays["l4_W"].reshape(800, 500)
    arrays["l4_b"][3] = np.nan
    arrays["l2_b"] = np.array(["text"] * 50)
    arrays["l8_W"] = np.zeros((2, 3))
    path = save(tmp_path, arrays)
    with pytest.raises(ValueError) as raised:
        deep_defense_reference.load_lenet(path, np.zeros((28, 28, 1)))
    assert str(raised.value) == (
        f"{path} does not hold this network's weights; arrays missing: l0_W [5, 5, 1, 20], l6_b [10]; unknown: "
        "l8_W [2, 3]; of another shape: l4_W is [800, 500], should be [4, 4, 50, 500]; not finite numbers: l2_b, l4_b"
    )


@pytest.mark.parametrize("damage", ["absent", "empty", "text", "folder", "cut", "pickled", "single"])
def test_a_file_that_cannot_be_read(tmp_path, damage):
    path = tmp_path / "lenet.npz"
    if damage in ("empty", "text"):
        path.write_bytes(b"" if damage == "empty" else b"<html>not found</html>")
    elif damage == "folder":
        path.mkdir()
    elif damage == "cut":
        whole = save(tmp_path, random_lenet())
        path.write_bytes(whole.read_bytes()[:100_000])
    elif damage == "pickled":
        save(tmp_path, {**random_lenet(), "l0_b": np.array([None] * 20)})
    elif damage == "single":
        with path.open("wb") as file:
            np.save(file, np.zeros((2, 3)))
    reason = r"it holds a single array \[2, 3\]" if damage == "single" else r"it cannot be read \(.+\)"
    with pytest.raises(ValueError, match=rf"lenet\.npz must be a \.npz file of weights, {reason}$"):
        deep_defense_reference.load_lenet(path, np.zeros((28, 28, 1)))


def accuracy(model, images, labels):
    predict = tf.function(lambda x: tf.argmax(model(x, training=False), axis=-1))
    predictions = np.concatenate([predict(images[i : i + 1000]) for i in range(0, len(images), 1000)])
    return np.mean(predictions == labels)


@pytest.fixture
def published_lenet(tfds_data_dir, monkeypatch):
    """The file's path; TFDS finds MNIST."""
    if not LENET_FILE.is_file():
        pytest.skip(f"no published LeNet: {LENET_FILE} is missing")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tfds_data_dir))
    return LENET_FILE


def test_accuracy_of_the_published_lenet(published_lenet):
    """With the mean of the test images, which are read in less time, it is 99.00 %; with the order of rows and columns
    in the dense layer exchanged it would be 42 %."""
    test = datasets.load("mnist", "test")
    mean = 255 * test.images.mean(axis=0, dtype=np.float64)
    assert accuracy(deep_defense_reference.load_lenet(published_lenet, mean), *test) == pytest.approx(0.99, abs=5e-4)


@pytest.mark.slow
def test_accuracy_of_the_published_lenet_is_the_published_one(published_lenet):
    """99.02 % (Yan et al. 2018, table 1)."""
    mean = 255 * datasets.load("mnist", "train").images.mean(axis=0, dtype=np.float64)
    model = deep_defense_reference.load_lenet(published_lenet, mean)
    assert accuracy(model, *datasets.load("mnist", "test")) == pytest.approx(0.9902, abs=1e-6)
