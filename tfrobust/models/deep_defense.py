"""The MNIST and CIFAR-10 networks of Deep Defense (Yan, Guo and Zhang 2018, section 4); they return logits.

Deep Defense fine-tunes trained networks, and those of MNIST read 255 * pixels - mean_image. So do all of these, inside
of the model: outside of it pixels are in [0, 1]. (MatConvNet's example for CIFAR-10, from where those weights may come,
also normalises contrast and whitens. That is left out.) They take the same arguments:

  seed: of the initial weights and of dropout. Kernels start from He's normal distribution, the last layer's from
    Glorot's uniform one, biases at 0.
  mean_image: what is subtracted, [H, W, C] in units of 0 to 255, as a rule the mean training image; None for zeros.
  input_scale: the first layer reads input_scale * (pixels - mean_image / 255). Its initial kernel is divided by
    input_scale, so that an untrained network is the same function for any value. Training is not the same: a step of
    gradient descent moves what the first layer computes input_scale squared times as far. 255 is for the published
    weights and learning rates, 1 for training from scratch.
  input_shape: height, width, channels.
  num_classes: K.

They return a Sequential keras.Model, float32 [B, H, W, C] pixels in [0, 1] -> [B, K], and raise ValueError for a
`mean_image` of another shape or in other units, or an `input_scale` that is not positive.
"""

import itertools
import math

import keras
import numpy as np
from keras import layers

WHITE = 255.0

MNIST_SHAPE = (28, 28, 1)
CIFAR10_SHAPE = (32, 32, 3)


def mlp(*, seed: int, mean_image=None, input_scale=WHITE, input_shape=MNIST_SHAPE, num_classes=10) -> keras.Model:
    """Dense layers of 500 and 150 units with ReLU, and logits: 469,160 parameters for MNIST."""
    kernels = _Kernels(seed, input_scale)
    hidden = [
        layers.Dense(500, activation="relu", kernel_initializer=kernels.first(), name="fc1"),
        layers.Dense(150, activation="relu", kernel_initializer=kernels.hidden(), name="fc2"),
    ]
    logits = layers.Dense(num_classes, kernel_initializer=kernels.last(), name="logits")
    return _classifier("mlp", input_shape, mean_image, input_scale, [layers.Flatten(name="flatten"), *hidden, logits])


def mlp_bn(*, seed: int, mean_image=None, input_scale=WHITE, input_shape=MNIST_SHAPE, num_classes=10) -> keras.Model:
    """`mlp` with batch normalisation between each hidden layer and its ReLU, with PyTorch's epsilon and momentum.

    It has 470,460 trainable parameters for MNIST. Deep Defense fine-tunes it with normalisation frozen: in inference
    mode, neither its statistics nor its parameters changing.
    """
    kernels = _Kernels(seed, input_scale)
    hidden = []
    for i, (units, initializer) in enumerate([(500, kernels.first()), (150, kernels.hidden())], start=1):
        hidden.append(layers.Dense(units, kernel_initializer=initializer, name=f"fc{i}"))
        hidden.append(layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"bn{i}"))
        hidden.append(layers.ReLU(name=f"relu{i}"))
    logits = layers.Dense(num_classes, kernel_initializer=kernels.last(), name="logits")
    network = [layers.Flatten(name="flatten"), *hidden, logits]
    return _classifier("mlp_bn", input_shape, mean_image, input_scale, network)


def lenet(*, seed: int, mean_image=None, input_scale=WHITE, input_shape=MNIST_SHAPE, num_classes=10) -> keras.Model:
    """The LeNet of DeepFool and Deep Defense: 431,080 parameters for MNIST.

    Twice a 5x5 convolution without padding, of 20 and 50 filters, and 2x2 max-pooling, without ReLU; then a dense layer
    of 500 units with ReLU, and logits. `deep_defense_reference` reads the published weights.
    """
    kernels = _Kernels(seed, input_scale)
    network = [
        layers.Conv2D(20, 5, kernel_initializer=kernels.first(), name="conv1"),
        layers.MaxPooling2D(2, name="pool1"),
        layers.Conv2D(50, 5, kernel_initializer=kernels.hidden(), name="conv2"),
        layers.MaxPooling2D(2, name="pool2"),
        layers.Flatten(name="flatten"),
        layers.Dense(500, activation="relu", kernel_initializer=kernels.hidden(), name="fc1"),
        layers.Dense(num_classes, kernel_initializer=kernels.last(), name="logits"),
    ]
    return _classifier("lenet", input_shape, mean_image, input_scale, network)


def convnet(*, seed: int, mean_image=None, input_scale=WHITE, input_shape=CIFAR10_SHAPE, num_classes=10) -> keras.Model:
    """Deep Defense's convolutional network for CIFAR-10: 145,578 parameters.

    5x5 convolutions with padding, of 32, 32 and 64 filters. Behind the first stand 2x2 max-pooling and then ReLU,
    behind the others ReLU and then 2x2 average pooling. A convolution of 64 filters covers all that remains, 4x4 of
    32x32 pixels, with ReLU; a 1x1 convolution makes logits. Raises ValueError also for
    a height or a width below 8.
    """
    kernels = _Kernels(seed, input_scale)
    remaining = (input_shape[0] // 8, input_shape[1] // 8)
    if min(remaining) < 1:
        raise ValueError(f"input_shape must have a height and a width of 8 or more, got {input_shape}")
    network = [
        layers.Conv2D(32, 5, padding="same", kernel_initializer=kernels.first(), name="conv1"),
        layers.MaxPooling2D(2, name="pool1"),
        layers.ReLU(name="relu1"),
        layers.Conv2D(32, 5, padding="same", activation="relu", kernel_initializer=kernels.hidden(), name="conv2"),
        layers.AveragePooling2D(2, name="pool2"),
        layers.Conv2D(64, 5, padding="same", activation="relu", kernel_initializer=kernels.hidden(), name="conv3"),
        layers.AveragePooling2D(2, name="pool3"),
        layers.Conv2D(64, remaining, activation="relu", kernel_initializer=kernels.hidden(), name="conv4"),
        layers.Conv2D(num_classes, 1, kernel_initializer=kernels.last(), name="conv5"),
        layers.Flatten(name="logits"),
    ]
    return _classifier("convnet", input_shape, mean_image, input_scale, network)


def nin(
    *,
    seed: int,
    mean_image=None,
    input_scale=WHITE,
    input_shape=CIFAR10_SHAPE,
    num_classes=10,
    pool_size: int = 3,
) -> keras.Model:
    """Network in network for CIFAR-10 (Lin, Chen and Yan 2014, arXiv:1312.4400): 966,986 parameters.

    Three blocks of a convolution, 5x5, 5x5 and 3x3 with padding, and two 1x1 convolutions, all with ReLU but the last,
    of 192, 160 and 96 filters, then 192, 192 and 192, then 192, 192 and K. Behind the first block stands max-pooling,
    behind the second average pooling, each with stride 2 and dropout 0.5; logits are the mean over all places.

    Args:
      pool_size: side of the two pooling windows. 3 is that of the authors' code: where the last windows reach beyond
        the image, only what is inside of it counts (32 -> 16 -> 8 rows). 2 is that of Deep Defense's code.
    """
    kernels = _Kernels(seed, input_scale)
    relu = {"padding": "same", "activation": "relu"}
    pooling = {"strides": 2, "padding": "same"}
    network = [
        layers.Conv2D(192, 5, kernel_initializer=kernels.first(), name="conv1", **relu),
        layers.Conv2D(160, 1, kernel_initializer=kernels.hidden(), name="cccp1", **relu),
        layers.Conv2D(96, 1, kernel_initializer=kernels.hidden(), name="cccp2", **relu),
        layers.MaxPooling2D(pool_size, name="pool1", **pooling),
        layers.Dropout(0.5, seed=kernels.next_seed(), name="dropout1"),
        layers.Conv2D(192, 5, kernel_initializer=kernels.hidden(), name="conv2", **relu),
        layers.Conv2D(192, 1, kernel_initializer=kernels.hidden(), name="cccp3", **relu),
        layers.Conv2D(192, 1, kernel_initializer=kernels.hidden(), name="cccp4", **relu),
        layers.AveragePooling2D(pool_size, name="pool2", **pooling),
        layers.Dropout(0.5, seed=kernels.next_seed(), name="dropout2"),
        layers.Conv2D(192, 3, kernel_initializer=kernels.hidden(), name="conv3", **relu),
        layers.Conv2D(192, 1, kernel_initializer=kernels.hidden(), name="cccp5", **relu),
        layers.Conv2D(num_classes, 1, kernel_initializer=kernels.last(), name="cccp6"),
        layers.GlobalAveragePooling2D(name="logits"),
    ]
    return _classifier("nin", input_shape, mean_image, input_scale, network)


class _Kernels:
    """Initialisers of a network's kernels, each with a seed of its own."""

    def __init__(self, seed, input_scale):
        if not (input_scale > 0 and math.isfinite(input_scale)):
            raise ValueError(f"input_scale must be positive and finite, got {input_scale!r}")
        self._input_scale = input_scale
        self._seeds = itertools.count(seed)

    def next_seed(self):
        return next(self._seeds)

    def first(self):
        """He's, divided by the input's scale."""
        variance = 2 / self._input_scale**2
        return keras.initializers.VarianceScaling(variance, "fan_in", "truncated_normal", seed=self.next_seed())

    def hidden(self):
        return keras.initializers.HeNormal(seed=self.next_seed())

    def last(self):
        return keras.initializers.GlorotUniform(seed=self.next_seed())


def _classifier(name, input_shape, mean_image, input_scale, network):
    offset = 0.0
    if mean_image is not None:
        # An array is a constant of the layer: it is in its configuration, and no weight.
        offset = np.float32(-input_scale / WHITE * _checked_mean(mean_image, tuple(input_shape)))
    inputs = [keras.Input(input_shape, name="images"), layers.Rescaling(input_scale, offset=offset, name="rescale")]
    return keras.Sequential([*inputs, *network], name=name)


def _checked_mean(mean_image, input_shape):
    mean = np.asarray(mean_image, np.float64)
    if mean.shape != input_shape:
        raise ValueError(f"mean_image must have the shape {input_shape}, got {mean.shape}")
    low, high = mean.min(), mean.max()
    # No set of images has a mean of one grey level of 255 at most: it is in units of 0 to 1.
    if not (low >= 0 and high <= WHITE) or 0 < high <= 1:  # NaN compares as false
        raise ValueError(f"mean_image must be in units of 0 to 255, got values in [{low:g}, {high:g}]")
    return mean
