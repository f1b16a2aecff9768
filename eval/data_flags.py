"""Flags that say which images are read, and what reads them."""

import math

from absl import flags

from tfrobust import datasets, image_folders

DATASET = flags.DEFINE_enum(
    "dataset",
    "mnist",
    sorted([*datasets.SPECS, image_folders.NAME]),
    "Data; digits comes with scikit-learn and needs no download, imagefolder are your own images in --data_dir.",
)
DATA_DIR = flags.DEFINE_string(
    "data_dir",
    None,
    "Folder of TensorFlow Datasets; default: TFDS_DATA_DIR, or TFDS's own. For imagefolder: the folder with train and "
    "val, where every class has a folder, as ImageNet is kept.",
)
IMAGE_SIZE = flags.DEFINE_integer(
    "image_size", image_folders.IMAGE_SIZE, "Height and width of the images of imagefolder.", lower_bound=1
)
NUM_EVAL_EXAMPLES = flags.DEFINE_integer(
    "num_eval_examples",
    None,
    "Evaluate on the first so many test examples in official order; default: all.",
    lower_bound=1,
)
flags.DEFINE_alias("num_examples", "num_eval_examples")

# Of images from 224x224 pixels that is 6,600; attacks keep several copies.
_MOST_BYTES = 4 * 10**9


def dataset_spec() -> datasets.DatasetSpec:
    """What is known of --dataset before it is read."""
    if DATASET.value == image_folders.NAME:
        return image_folders.spec(_image_root(), IMAGE_SIZE.value)
    return datasets.spec(DATASET.value)


def identity() -> dict:
    """What tells one set of images from another."""
    found = {"dataset": DATASET.value}
    if DATASET.value == image_folders.NAME:
        found |= {"data_dir": DATA_DIR.value, "image_size": IMAGE_SIZE.value}
    return found


def load_training_set() -> datasets.Arrays:
    """The training set of --dataset in official order; that of imagefolder stays on disk."""
    if DATASET.value == image_folders.NAME:
        return image_folders.load(_image_root(), "train", image_size=IMAGE_SIZE.value)
    return datasets.load(DATASET.value, "train", data_dir=DATA_DIR.value)


def load_test_set() -> datasets.Arrays:
    """The first --num_eval_examples of the test set of --dataset, in official order, in memory.

    Raises:
      ValueError: for more examples than there are, or more images of imagefolder than fit into `_MOST_BYTES`.
    """
    count = NUM_EVAL_EXAMPLES.value
    if DATASET.value != image_folders.NAME:
        return datasets.load(DATASET.value, "test", data_dir=DATA_DIR.value, num_examples=count)
    found = image_folders.load(_image_root(), "test", image_size=IMAGE_SIZE.value, num_examples=count)
    most = _MOST_BYTES // (4 * math.prod(found.images.shape[1:]))
    if len(found.labels) > most:
        raise ValueError(
            f"num_eval_examples must be {most} or less, because test images are held in memory, got "
            f"{len(found.labels)}: --num_eval_examples=1000"
        )
    return image_folders.in_memory(found)


def _image_root():
    if not DATA_DIR.value:
        raise ValueError("data_dir must be given for imagefolder: --data_dir=FOLDER, which holds train and val")
    return DATA_DIR.value
