"""The trained classifier that fine-tuning starts from and is compared with."""

import pathlib

import keras
import numpy as np
from absl import flags

from eval import data_flags
from tfrobust import checks, datasets, image_folders, loading
from tfrobust.models import imagenet
from tfrobust.models.deep_defense_reference import load_lenet

REFERENCE = flags.DEFINE_string(
    "reference",
    None,
    "The trained classifier to start from: a .keras file, a --model_dir, or DeepFool's LeNet as .npz.",
)


def check() -> None:
    """Raises ValueError unless --reference names something that exists."""
    if not REFERENCE.value:
        raise ValueError("reference must be given: --reference=FILE, the trained classifier to start from")
    if not pathlib.Path(REFERENCE.value).exists():
        raise ValueError(f"reference {REFERENCE.value} does not exist")


def mean_image(train: datasets.Arrays) -> np.ndarray:
    """The mean training image, [H, W, C] in [0, 1], from which Deep Defense measures images; ImageNet's mean colour for
    images on disk."""
    if isinstance(train.images, image_folders.ImageFiles):
        return np.broadcast_to(np.array(imagenet.CHANNEL_MEAN), train.images.shape[1:])
    return train.images.mean(axis=0, dtype=np.float64)


def load(path: str, center: np.ndarray, name: str = "reference") -> keras.Model:
    """The classifier at `path`, which must fit --dataset.

    Args:
      name: the flag that is named in errors.
      center: `mean_image`, which DeepFool's LeNet subtracts.

    Raises:
      ValueError: if it cannot be trained, ends in a softmax, or is of another image or number of classes.
      tfrobust.loading.ModelLoadError: if it cannot be read.
    """
    data = data_flags.dataset_spec()
    if path.endswith(".npz") and data.image_shape != (28, 28, 1):
        raise ValueError(f"{name} is a LeNet for images (28, 28, 1), but {data.name} has {data.image_shape}")
    classifier = load_lenet(path, 255 * center) if path.endswith(".npz") else loading.load_classifier(path)
    if not isinstance(classifier, keras.Model):
        raise ValueError(f"{name} must be a .keras file, whose weights can be trained, got {path}")
    checks.require_logits(classifier)
    if classifier.input_shape[1:] != data.image_shape or classifier.output_shape[-1] != data.num_classes:
        raise ValueError(
            f"{name} must take images {data.image_shape} and return {data.num_classes} logits for {data.name}, got "
            f"{classifier.input_shape[1:]} and {classifier.output_shape[1:]}"
        )
    return classifier
