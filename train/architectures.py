"""The networks that --architecture names."""

from collections.abc import Callable, Mapping

import keras

from tfrobust.datasets import DatasetSpec
from tfrobust.models import cifar10, mnist, small, tramer
from train import common

# Builders of (seed, data) by name. `challenge` takes --initializer; the others start as their authors' do.
MNIST: Mapping[str, Callable[[int, DatasetSpec], keras.Model]] = {
    "challenge": lambda seed, data: mnist.challenge_cnn(
        seed=seed, initializer=common.INITIALIZER.value, **_sizes(data)
    ),
    "tramer_a": lambda seed, data: tramer.tramer("a", seed=seed, **_sizes(data)),
    "tramer_b": lambda seed, data: tramer.tramer("b", seed=seed, **_sizes(data)),
    "tramer_c": lambda seed, data: tramer.tramer("c", seed=seed, **_sizes(data)),
    "tramer_d": lambda seed, data: tramer.tramer("d", seed=seed, **_sizes(data)),
}
CIFAR10: Mapping[str, Callable[[int, DatasetSpec], keras.Model]] = {
    "wide": lambda seed, data: cifar10.challenge_resnet(seed=seed, filters=cifar10.WIDE, **_sizes(data)),
    "narrow": lambda seed, data: cifar10.challenge_resnet(seed=seed, filters=cifar10.NARROW, **_sizes(data)),
    "small": lambda seed, data: small.small_cnn(seed=seed, **_sizes(data)),
}


def builder(table: Mapping[str, Callable], data: DatasetSpec, seed: int) -> Callable[[], keras.Model]:
    """What builds the network of --architecture, by default the first of `table`.

    Raises:
      ValueError: if it is not in `table`.
    """
    name = common.ARCHITECTURE.value or next(iter(table))
    if name not in table:
        raise ValueError(f"architecture must be one of {', '.join(table)} here, got {name!r}")
    return lambda: table[name](seed, data)


def _sizes(data):
    return {"input_shape": data.image_shape, "num_classes": data.num_classes}
