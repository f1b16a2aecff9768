"""Classifiers of the images that the flags name."""

from eval import data_flags
from tfrobust import checks, loading, precision


def load(path: str):
    """`loading.load_classifier`, for images of --dataset.

    Raises:
      ValueError: if it does not take them, has not as many classes, or returns probabilities.
      tfrobust.loading.ModelLoadError: if it is missing or cannot be read.
    """
    classifier, spec = loading.load_classifier(path), data_flags.dataset_spec()
    checks.require_logits(classifier)
    checks.check_classes(precision.inference(classifier), spec.image_shape, spec.num_classes)
    return classifier
