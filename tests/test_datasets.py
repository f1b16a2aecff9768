"""Datasets come in the official order, with errors a user can act on; the training stream is exact on resume."""

import hashlib
import sys

import numpy as np
import pytest
import requests
import tensorflow as tf
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits
from tensorflow_datasets.core import hashing

from tfrobust import datasets, tfds_source

SPLITS = ("train", "test")
WAYS_OUT = ("--data_dir=FOLDER", "TFDS_DATA_DIR", "--dataset=digits")


# Specs and arguments.


@pytest.mark.parametrize("name", ["cifar10", "digits", "mnist"])
def test_spec(name):
    spec = datasets.spec(name)
    assert spec.name == name
    assert spec.num_classes == len(spec.class_names) == 10
    assert set(spec.split_sizes) == set(spec.label_sha256) == {"train", "test"}
    assert hash(spec) == hash(datasets.spec(name))


def test_unknown_dataset_is_named():
    with pytest.raises(ValueError, match="dataset must be one of 'cifar10', 'digits', 'mnist', got 'foo'"):
        datasets.spec("foo")
    with pytest.raises(ValueError, match="got 'foo'"):
        datasets.load("foo", "test")


def test_unknown_split_is_named():
    with pytest.raises(ValueError, match="split must be one of 'test', 'train', got 'validation'"):
        datasets.load("digits", "validation")


@pytest.mark.parametrize("num_examples", [0, -1, 361, 1.5])
def test_num_examples_out_of_range(num_examples):
    with pytest.raises(ValueError, match=f"num_examples must be an integer from 1 to 360, got {num_examples}"):
        datasets.load("digits", "test", num_examples=num_examples)


# Digits.


@pytest.mark.parametrize(("split", "size"), [("train", 1437), ("test", 360)])
def test_digits(split, size):
    images, labels = datasets.load("digits", split)
    assert images.shape == (size, 28, 28, 1) and images.dtype == np.float32
    assert labels.shape == (size,) and labels.dtype == np.int64
    assert images.min() == 0.0 and images.max() == 1.0
    # Were the classes drawn evenly, each would have a tenth; a split that aliases with their order would miss some.
    assert np.all(np.abs(np.bincount(labels, minlength=10) / size - 0.1) < 0.03)


def test_digits_are_the_same_bytes_everywhere():
    images, labels = datasets.load("digits", "test")
    # SHA-256 of the pixels as little-endian float32: the enlargement is exact, so no machine may give another.
    digest = hashlib.sha256(images.astype("<f4").tobytes()).hexdigest()
    assert digest == "bb2bec63a20ce0827bd1ddebdceb9829570c9338119503916a9c53ff5697246c"
    np.testing.assert_array_equal(labels[:10], [7, 9, 4, 7, 0, 2, 6, 1, 3, 1])


def test_digits_splits_are_a_partition_of_the_original():
    original = load_digits()
    images, labels = (np.concatenate(both) for both in zip(*(datasets.load("digits", s) for s in SPLITS), strict=True))
    np.testing.assert_array_equal(np.bincount(labels), np.bincount(original.target))
    distinct = np.unique(images.reshape(1797, -1), axis=0)
    assert len(distinct) == len(np.unique(original.data, axis=0))


def test_digits_enlargement_by_hand():
    """A row of the large image lies at (i + 1/2) 8/28 - 1/2 rows of the small: constants stay, and edges are held."""
    small = load_digits().images[np.random.RandomState(0).permutation(1797)[1437]] / 16
    large = datasets.load("digits", "test", num_examples=1).images[0, :, :, 0]
    np.testing.assert_allclose(large[0, 0], small[0, 0], atol=1e-6)
    np.testing.assert_allclose(large[27, 27], small[7, 7], atol=1e-6)
    # Row and column 12 lie at 43/14 = 3 + 1/14.
    near, far = 13 / 14, 1 / 14
    expected = near * (near * small[3, 3] + far * small[3, 4]) + far * (near * small[4, 3] + far * small[4, 4])
    np.testing.assert_allclose(large[12, 12], expected, atol=1e-6)


def test_digits_first_examples():
    whole = datasets.load("digits", "test")
    part = datasets.load("digits", "test", num_examples=7)
    np.testing.assert_array_equal(part.images, whole.images[:7])
    np.testing.assert_array_equal(part.labels, whole.labels[:7])


def test_digits_do_without_tfds(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)  # an import of it now raises ImportError
    assert len(datasets.load("digits", "test").labels) == 360


# Data that cannot be had, or are not what they should be.


@pytest.fixture
def no_network(monkeypatch):
    """Makes the download site unreachable on any machine, and fails the test if TFDS goes on all the same."""

    def unreachable(*args, **kwargs):
        raise requests.ConnectionError("no network")

    def prepare(*args, **kwargs):
        pytest.fail("TFDS was called although the data cannot be had")

    monkeypatch.setattr(requests, "head", unreachable)
    monkeypatch.setattr(tfds, "builder", prepare)


def assert_names_the_ways_out(error):
    message = str(error.value)
    assert all(way in message for way in WAYS_OUT)
    assert "\n" not in message


@pytest.mark.parametrize("name", ["cifar10", "mnist"])
def test_missing_data_dir(name, no_network, tmp_path):
    folder = tmp_path / "mistyped"
    with pytest.raises(datasets.DatasetUnavailableError, match="mistyped' does not exist") as error:
        datasets.load(name, "test", data_dir=folder)
    assert_names_the_ways_out(error)
    assert isinstance(error.value.__cause__, FileNotFoundError)
    assert not folder.exists()


@pytest.mark.parametrize(("name", "site"), [("cifar10", "www.cs.toronto.edu"), ("mnist", "storage.googleapis.com")])
def test_no_network(name, site, no_network, monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(datasets.DatasetUnavailableError, match=f"{site} does not answer") as error:
        datasets.load(name, "test")
    assert_names_the_ways_out(error)
    assert isinstance(error.value.__cause__, ConnectionError)
    assert not list(tmp_path.iterdir())


def test_data_dir_wins_over_the_variable(no_network, monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "variable"))
    (tmp_path / "argument").mkdir()
    with pytest.raises(datasets.DatasetUnavailableError, match="argument"):
        datasets.load("mnist", "test", data_dir=tmp_path / "argument")


def test_failed_download(monkeypatch, tmp_path):
    class Builder:
        def download_and_prepare(self):
            raise tf.errors.ResourceExhaustedError(None, None, "disk full\nand much more")

    monkeypatch.setattr(tfds_source, "_require_download_site", lambda name, folder: None)
    monkeypatch.setattr(tfds, "builder", lambda *args, **kwargs: Builder())
    with pytest.raises(datasets.DatasetUnavailableError, match=r"preparing .* failed \(disk full\)") as error:
        datasets.load("mnist", "test", data_dir=tmp_path)
    assert_names_the_ways_out(error)


def test_damaged_files(tmp_path):
    folder = tmp_path / "mnist" / str(tfds.builder_cls("mnist").VERSION)
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(datasets.DatasetUnavailableError, match=r"reading .* failed") as error:
        datasets.load("mnist", "test", data_dir=tmp_path)
    assert_names_the_ways_out(error)


def test_wrong_order_is_an_error(monkeypatch):
    images = np.zeros([10_000, 28, 28, 1], np.uint8)
    split = tfds_source.Split(images, np.arange(10_000) % 10, np.arange(10_000))
    monkeypatch.setattr(tfds_source, "read", lambda *args: split)
    with pytest.raises(datasets.DatasetOrderError, match="'mnist', split 'test', are not in the official order"):
        datasets.load("mnist", "test", num_examples=5)
    unchecked = datasets.load("mnist", "test", num_examples=5, official_order=False)
    np.testing.assert_array_equal(unchecked.labels, [0, 1, 2, 3, 4])


# The real data. The first labels and the class counts are facts about the released files; a shuffle that differed in
# one place would already fail the SHA-256 inside load.


def test_hash_order_is_that_of_tfds():
    hasher = hashing.Hasher("train")
    stored = sorted(range(1000), key=hasher.hash_key)  # the official index of each example, in the order of TFDS
    np.testing.assert_array_equal(np.array(stored)[tfds_source._hash_order("train", 1000)], np.arange(1000))


@pytest.mark.parametrize(
    ("split", "size", "first_labels", "ones"),
    [("train", 60_000, [5, 0, 4, 1, 9, 2, 1, 3, 1, 4], 6742), ("test", 10_000, [7, 2, 1, 0, 4, 1, 4, 9, 5, 9], 1135)],
)
def test_mnist(tfds_data_dir, split, size, first_labels, ones):
    images, labels = datasets.load("mnist", split, data_dir=tfds_data_dir)
    assert images.shape == (size, 28, 28, 1) and images.dtype == np.float32
    assert labels.shape == (size,) and labels.dtype == np.int64
    assert images.min() == 0.0 and images.max() == 1.0
    np.testing.assert_array_equal(labels[:10], first_labels)
    assert np.count_nonzero(labels == 1) == ones
    # The widely published mean of the training pixels is 0.1307, that of the test pixels 0.1325.
    np.testing.assert_allclose(images.mean(dtype=np.float64), {"train": 0.1307, "test": 0.1325}[split], atol=5e-5)


def test_mnist_from_the_variable(tfds_data_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tfds_data_dir))
    shuffled = datasets.load("mnist", "test", official_order=False)
    official = datasets.load("mnist", "test", num_examples=100)
    order = tfds_source._hash_order("test", 10_000)[:100]
    np.testing.assert_array_equal(shuffled.images[order], official.images)
    np.testing.assert_array_equal(shuffled.labels[order], official.labels)
    assert not np.array_equal(shuffled.labels[:100], official.labels)


def test_cifar10(tfds_data_dir):
    images, labels = datasets.load("cifar10", "test", data_dir=tfds_data_dir)
    assert images.shape == (10_000, 32, 32, 3) and images.dtype == np.float32
    assert labels.shape == (10_000,) and labels.dtype == np.int64
    assert images.min() == 0.0 and images.max() == 1.0
    np.testing.assert_array_equal(labels[:10], [3, 8, 8, 0, 6, 6, 1, 6, 3, 1])
    np.testing.assert_array_equal(np.bincount(labels), np.full(10, 1000))
