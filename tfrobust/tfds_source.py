"""Reads the splits that TensorFlow Datasets (TFDS) prepares, together with their way back to the official order.

TFDS shuffles the examples of a split when it prepares it, always in the same way. CIFAR-10's examples keep an id that
tells their official index; MNIST's keep nothing, but the shuffle is a sort by hash that can be repeated.
"""

import hashlib
import os
import urllib.parse
from typing import NamedTuple

import numpy as np
import tensorflow as tf


class Split(NamedTuple):
    """images uint8 [N, H, W, C] and labels int64 [N] as TFDS orders them; x[order] is in the official order."""

    images: np.ndarray
    labels: np.ndarray
    order: np.ndarray


# One file that TFDS itself downloads for each dataset: whether it answers tells whether a download can succeed.
_DOWNLOAD_URLS = {
    "cifar10": "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "mnist": "https://storage.googleapis.com/cvdf-datasets/mnist/train-labels-idx1-ubyte.gz",
}


def read(name: str, split: str, data_dir: str | os.PathLike[str] | None = None) -> Split:
    """Reads 'mnist' or 'cifar10', split 'train' or 'test', downloading and preparing the dataset if need be.

    The folder is `data_dir`, which must exist, else that in the variable TFDS_DATA_DIR, else ~/tensorflow_datasets.

    Raises:
        OSError: the data cannot be had (FileNotFoundError: no `data_dir`; ConnectionError: the download site does not
            answer). In these two cases nothing has been written.
    """
    import tensorflow_datasets as tfds  # here, because whoever uses `digits` only should not wait for it

    folder = os.path.expanduser(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    if data_dir is not None and not tf.io.gfile.isdir(folder):
        # Downloading into a mistyped folder would be worse than an error.
        raise FileNotFoundError(f"the folder {os.fspath(data_dir)!r} does not exist")
    version = str(tfds.builder_cls(name).VERSION)
    prepared = tf.io.gfile.exists(os.path.join(folder, name, version, "dataset_info.json"))
    if not prepared:
        _require_download_site(name, folder)
    try:
        builder = tfds.builder(name, data_dir=folder, try_gcs=False)
        if not prepared:
            builder.download_and_prepare()
        # A cycle length of 1, because TFDS would interleave the examples of several files.
        config = tfds.ReadConfig(try_autocache=False, interleave_cycle_length=1)
        tensors = builder.as_dataset(split=split, batch_size=-1, shuffle_files=False, read_config=config)
        data = {key: np.asarray(value) for key, value in tensors.items()}
    except Exception as error:  # TFDS and the file systems below it share no narrower class
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise OSError(f"{'reading' if prepared else 'preparing'} it in {folder!r} failed ({reason})") from error
    order = _hash_order(split, len(data["label"])) if name == "mnist" else np.argsort(data["id"])  # b'test_00042'
    return Split(data["image"], data["label"], order)


def _hash_order(split: str, num_examples: int) -> np.ndarray:
    """Undoes TFDS's shuffle of examples that were generated with the keys 0, 1, 2, ...

    TFDS sorts a split by the md5 of the split's name followed by the example's key
    (tensorflow_datasets.core.hashing.Hasher), so the place of an example is the rank of its hash.
    """
    hashes = [hashlib.md5(f"{split}{key}".encode(), usedforsecurity=False).digest() for key in range(num_examples)]
    return np.argsort(sorted(range(num_examples), key=hashes.__getitem__))


def _require_download_site(name: str, folder: str) -> None:
    """Fails in seconds where TFDS would try again for minutes and leave folders behind."""
    import requests  # what TFDS downloads with, hence the same proxies and certificates

    url = _DOWNLOAD_URLS[name]
    try:
        requests.head(url, timeout=5, allow_redirects=True).raise_for_status()
    except OSError as error:  # the base of every exception of requests
        site = urllib.parse.urlsplit(url).netloc
        raise ConnectionError(f"it is not in {folder!r}, and {site} does not answer") from error
