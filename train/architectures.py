"""The networks that --architecture names."""

from collections.abc import Callable, Mapping

import keras
import numpy as np

from tfrobust import image_folders
from tfrobust.datasets import Arrays, DatasetSpec
from tfrobust.models import cifar10, deep_defense, imagenet, mnist, small, tramer
from train import common


def _with_mean_image(build):
    """A builder of a network that subtracts the mean training image and reads pixels from 0 to --input_scale."""

    def built(seed, data, train):
        mean = 255 * train.images.mean(axis=0, dtype=np.float64)
        return build(seed=seed, mean_image=mean, input_scale=common.INPUT_SCALE.value, **_sizes(data))

    return built


# Builders of (seed, data, train) by name. `challenge` takes --initializer and --dropout; `thresholds` is ours; the
# others start as their authors' do.
MNIST: Mapping[str, Callable[[int, DatasetSpec, Arrays], keras.Model]] = {
    "challenge": lambda seed, data, _: mnist.challenge_cnn(
        seed=seed, initializer=common.INITIALIZER.value, dropout=common.DROPOUT.value, **_sizes(data)
    ),
    "thresholds": lambda seed, data, _: mnist.threshold_cnn(seed=seed, **_sizes(data)),
    "tramer_a": lambda seed, data, _: tramer.tramer("a", seed=seed, **_sizes(data)),
    "tramer_b": lambda seed, data, _: tramer.tramer("b", seed=seed, **_sizes(data)),
    "tramer_c": lambda seed, data, _: tramer.tramer("c", seed=seed, **_sizes(data)),
    "tramer_d": lambda seed, data, _: tramer.tramer("d", seed=seed, **_sizes(data)),
    "capacity": lambda seed, data, _: small.capacity_cnn(seed=seed, scale=common.CAPACITY.value, **_sizes(data)),
    "mlp": _with_mean_image(deep_defense.mlp),
    "mlp_bn": _with_mean_image(deep_defense.mlp_bn),
    "lenet": _with_mean_image(deep_defense.lenet),
}
CIFAR10: Mapping[str, Callable[[int, DatasetSpec, Arrays], keras.Model]] = {
    "wide": lambda seed, data, _: cifar10.challenge_resnet(seed=seed, filters=cifar10.WIDE, **_sizes(data)),
    "narrow": lambda seed, data, _: cifar10.challenge_resnet(seed=seed, filters=cifar10.NARROW, **_sizes(data)),
    "small": lambda seed, data, _: small.small_cnn(seed=seed, **_sizes(data)),
    "capacity": lambda seed, data, _: small.capacity_cnn(seed=seed, scale=common.CAPACITY.value, **_sizes(data)),
    "naive": lambda seed, data, _: small.naive_cnn(seed=seed, **_sizes(data)),
    "convnet": _with_mean_image(deep_defense.convnet),
    "nin": _with_mean_image(deep_defense.nin),
}
IMAGENET: Mapping[str, Callable[[int, DatasetSpec, Arrays], keras.Model]] = {
    "resnet18": lambda seed, data, _: imagenet.resnet18(seed=seed, **_sizes(data)),
    "alexnet": lambda seed, data, _: imagenet.alexnet(seed=seed, **_sizes(data)),
    "small": CIFAR10["small"],
}
BY_DATASET = {"mnist": MNIST, "digits": MNIST, "cifar10": CIFAR10, image_folders.NAME: IMAGENET}


def builder(table: Mapping[str, Callable], data: DatasetSpec, seed: int) -> Callable[[Arrays], keras.Model]:
    """What builds the network of --architecture, by default the first of `table`, for a training set.

    Raises:
      ValueError: if it is not in `table`, or if --dropout or --capacity is given for one that has no use for it.
    """
    name = common.ARCHITECTURE.value or next(iter(table))
    if name not in table:
        raise ValueError(f"architecture must be one of {', '.join(table)} here, got {name!r}")
    if common.DROPOUT.value and name != "challenge":
        raise ValueError(f"dropout must be 0 with --architecture={name}, got {common.DROPOUT.value:g}")
    if common.CAPACITY.value != 1 and name != "capacity":
        raise ValueError(f"capacity must be 1 with --architecture={name}, got {common.CAPACITY.value}")
    return lambda train: table[name](seed, data, train)


def _sizes(data):
    return {"input_shape": data.image_shape, "num_classes": data.num_classes}
