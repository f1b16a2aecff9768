"""MNIST, CIFAR-10 and the small `digits` as arrays in their official order.

    train = datasets.load("mnist", "train")
    test = datasets.load("mnist", "test", num_examples=1000)  # the first 1,000 images of the official test set

TensorFlow Datasets (TFDS) shuffles what it prepares, whereas files of adversarial examples and published results refer
to the order in which MNIST and CIFAR-10 were released. `load` restores that order and compares the labels with a known
SHA-256, so that a wrong order is an error and never a wrong number. `digits` needs neither TFDS nor a network.
"""

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from tfrobust import tfds_source
from tfrobust.checks import require_integer


class DatasetUnavailableError(RuntimeError):
    """The data are neither on this machine nor to be downloaded; the message names the ways out."""


class DatasetOrderError(RuntimeError):
    """The labels that were read are not those of the official split in the official order."""


class Arrays(NamedTuple):
    """Examples in memory: images float32 [N, H, W, C] in [0, 1], labels int64 [N]."""

    images: np.ndarray
    labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """What is known of a dataset before it is read.

    Attributes:
        name: the name that `load` takes.
        image_shape: (H, W, C).
        class_names: one name per class, in the order of the labels.
        split_sizes: number of examples of each split.
        label_sha256: for each split, SHA-256 of its labels as one uint8 each, in the official order.
    """

    name: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    split_sizes: Mapping[str, int] = dataclasses.field(hash=False)
    label_sha256: Mapping[str, str] = dataclasses.field(hash=False, repr=False)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


SPECS: Mapping[str, DatasetSpec] = {
    "cifar10": DatasetSpec(
        name="cifar10",
        image_shape=(32, 32, 3),
        class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        split_sizes={"train": 50_000, "test": 10_000},
        label_sha256={
            "train": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
            "test": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
        },
    ),
    "digits": DatasetSpec(
        name="digits",
        image_shape=(28, 28, 1),
        class_names=tuple("0123456789"),
        split_sizes={"train": 1_437, "test": 360},
        label_sha256={
            "train": "53f898fb81bedc1960a35a7518e140c110357f1d9c819e15be7eb86813d86b98",
            "test": "2afb26f01c4ab83cd8bfb3c55e54cc7568449a914de2d2369dc3aeb6168fcd64",
        },
    ),
    "mnist": DatasetSpec(
        name="mnist",
        image_shape=(28, 28, 1),
        class_names=tuple("0123456789"),
        split_sizes={"train": 60_000, "test": 10_000},
        label_sha256={
            "train": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
            "test": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
        },
    ),
}


def spec(name: str) -> DatasetSpec:
    """Returns the DatasetSpec called `name`; raises ValueError for an unknown name."""
    if name not in SPECS:
        raise ValueError(f"dataset must be one of {', '.join(map(repr, sorted(SPECS)))}, got {name!r}")
    return SPECS[name]


def load(
    name: str,
    split: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    official_order: bool = True,
    num_examples: int | None = None,
) -> Arrays:
    """Reads a split into memory.

    MNIST and CIFAR-10 come from TFDS: from `data_dir`, else from the folder in the variable TFDS_DATA_DIR, else from
    TFDS's own ~/tensorflow_datasets; what is not there yet is downloaded into that folder. The training set of the
    MNIST challenge (Madry et al., 2018) is the official one less its first 5,000 images.

    Args:
        name: 'cifar10', 'digits' or 'mnist'. `digits` is scikit-learn's set of 8x8 images enlarged to 28x28; its
            official order is the permutation fixed in this file.
        split: 'train' or 'test'.
        data_dir: an existing TFDS folder. `digits` does not use it.
        official_order: False keeps the order of TFDS, and compares nothing with the SHA-256 of the labels.
        num_examples: keep only the first so many examples in that order; None keeps them all.

    Returns:
        Arrays(images float32 [N, H, W, C] in [0, 1], labels int64 [N]).

    Raises:
        ValueError: unknown name or split, or num_examples out of range.
        DatasetUnavailableError: `data_dir` does not exist, the download fails, or the files cannot be read.
        DatasetOrderError: the labels are not those of the official split.
    """
    dataset = spec(name)
    if split not in dataset.split_sizes:
        raise ValueError(f"split must be one of 'test', 'train', got {split!r}")
    size = dataset.split_sizes[split]
    if num_examples is None:
        num_examples = size
    require_integer("num_examples", num_examples, 1, size)

    if name == "digits":
        images, labels, scale = _digits(split)
        order = np.arange(size)
    else:
        try:
            images, labels, order = tfds_source.read(name, split, data_dir)
        except OSError as error:
            raise DatasetUnavailableError(
                f"dataset {name!r} is not available: {error}. Name a folder that TFDS has prepared with "
                "--data_dir=FOLDER or in the variable TFDS_DATA_DIR, or take --dataset=digits, which needs no download."
            ) from error
        scale = 255
    if official_order:
        found = hashlib.sha256(labels[order].astype(np.uint8).tobytes()).hexdigest()
        if found != dataset.label_sha256[split]:
            raise DatasetOrderError(
                f"the labels of {name!r}, split {split!r}, are not in the official order: SHA-256 {found}, "
                f"expected {dataset.label_sha256[split]}; prepare the dataset again, or pass official_order=False"
            )
        chosen = order[:num_examples]
    else:
        chosen = slice(num_examples)
    images = images[chosen].astype(np.float32)
    # In place, because CIFAR-10's training images are 600 MB. Dividing integers by an integer rounds once, so that
    # the pixels are the same on every machine.
    images /= np.float32(scale)
    return Arrays(images, labels[chosen].astype(np.int64))


def _digits(split: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Returns integer images [N, 28, 28, 1], labels [N], and the value of a white pixel."""
    from sklearn.datasets import load_digits  # here, because scikit-learn is slow to import

    data = load_digits()
    # Bilinear, over the same area: the centre of row i of 28 lies at (i + 1/2) 8/28 - 1/2 = (4 i - 5) / 14 rows of 8,
    # held inside the image at its border. In units of 1/14 all numbers are integers, hence exact on every machine.
    position = np.clip(4 * np.arange(28) - 5, 0, 14 * 7)
    weights = np.maximum(0, 14 - np.abs(position[:, np.newaxis] - 14 * np.arange(8)))  # [28, 8]
    images = weights @ data.images.astype(np.int64) @ weights.T
    # scikit-learn's digits mostly run 0 to 9 again and again, so a split by position would need a permutation first.
    # RandomState, unlike default_rng, promises the same permutation in every version of NumPy.
    permutation = np.random.RandomState(0).permutation(len(images))
    num_train = SPECS["digits"].split_sizes["train"]
    chosen = permutation[:num_train] if split == "train" else permutation[num_train:]
    return images[chosen][..., np.newaxis], data.target[chosen], 16 * 14 * 14
