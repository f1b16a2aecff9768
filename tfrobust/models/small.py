"""Small convolutional networks that a processor without a graphics card can train."""

import itertools

import keras
from keras import layers

from tfrobust.checks import require_integer


def small_cnn(*, seed: int, filters=(32, 64, 128, 256), input_shape=(32, 32, 3), num_classes: int = 10) -> keras.Model:
    """3x3 convolutions, each with batch normalisation, ReLU and, but for the first, 2x2 max-pooling; then logits.

    Pixels in [0, 1] are moved to [-2, 2] first. With the default filters and three channels it has 391,466 trainable
    parameters.

    Args:
      seed: of the initial weights, He's normal distribution.
      filters: of the convolutions, one or more.
      input_shape: height, width, channels.
      num_classes: K.

    Returns:
      A functional keras.Model, float32 [B, H, W, C] -> [B, K].

    Raises:
      ValueError: for no filters.
    """
    if not filters:
        raise ValueError(f"filters must be one or more numbers, got {filters!r}")
    seeds = itertools.count(seed)
    images = keras.Input(input_shape, name="images")
    x = layers.Rescaling(4.0, offset=-2.0, name="rescale")(images)
    for i, count in enumerate(filters, start=1):
        initializer = keras.initializers.HeNormal(seed=next(seeds))
        x = layers.Conv2D(count, 3, padding="same", use_bias=False, kernel_initializer=initializer, name=f"conv{i}")(x)
        x = layers.BatchNormalization(momentum=0.9, name=f"bn{i}")(x)
        x = layers.ReLU(name=f"relu{i}")(x)
        if i > 1:
            x = layers.MaxPooling2D(2, name=f"pool{i}")(x)
    x = layers.GlobalAveragePooling2D(name="global_average")(x)
    initializer = keras.initializers.HeNormal(seed=next(seeds))
    logits = layers.Dense(num_classes, kernel_initializer=initializer, name="logits")(x)
    return keras.Model(images, logits, name="small_cnn")


def capacity_cnn(*, seed: int, scale: int, input_shape=(28, 28, 1), num_classes: int = 10) -> keras.Model:
    """The network of Madry et al. 2018, section 4, whose capacity is doubled again and again.

    5x5 convolutions with padding of 2 and 4 times `scale` filters, each followed by 2x2 max-pooling and ReLU, a dense
    layer of 8 times `scale` units with ReLU, and logits. The paper does not say how weights start: here from He's
    normal distribution, biases at 0.

    Args:
      seed: of the initial weights.
      scale: 1, 2, 4, 8 and 16 in the paper.
      input_shape: height, width, channels.
      num_classes: K.

    Returns:
      A Sequential keras.Model, float32 [B, H, W, C] -> [B, K].

    Raises:
      ValueError: for a scale below 1.
    """
    require_integer("scale", scale, 1)
    seeds = itertools.count(seed)

    def initializer():
        return keras.initializers.HeNormal(seed=next(seeds))

    network = [keras.Input(input_shape, name="images")]
    for i, filters in enumerate((2 * scale, 4 * scale), start=1):
        network.append(layers.Conv2D(filters, 5, padding="same", kernel_initializer=initializer(), name=f"conv{i}"))
        network.append(layers.MaxPooling2D(2, padding="same", name=f"pool{i}"))
        network.append(layers.ReLU(name=f"relu{i}"))
    network.append(layers.Flatten(name="flatten"))
    network.append(layers.Dense(8 * scale, activation="relu", kernel_initializer=initializer(), name="dense"))
    network.append(layers.Dense(num_classes, kernel_initializer=initializer(), name="logits"))
    return keras.Sequential(network, name=f"capacity_cnn_{scale}")


def naive_cnn(*, seed: int, input_shape=(32, 32, 3), num_classes: int = 10) -> keras.Model:
    """The "naive classifier" of Preaut, Quemada and Durat 2022: 62,006 parameters, about 54 % of CIFAR-10.

    Two 5x5 convolutions without padding, of 6 and 16 filters, each with ReLU and 2x2 max-pooling, then dense layers of
    120 and 84 units with ReLU, and logits. Pixels in [0, 1] are moved to [-1, 1] first; weights start as PyTorch's do,
    uniformly within 1 / sqrt(inputs of a unit), biases too.

    Args:
      seed: of the initial weights.
      input_shape: height, width, channels.
      num_classes: K.

    Returns:
      A Sequential keras.Model, float32 [B, H, W, C] -> [B, K].
    """
    seeds = itertools.count(seed)
    inputs = input_shape[-1]

    def initializers(fan_in):
        # Variance limit^2 / 3.
        limit = fan_in**-0.5
        draw = [keras.initializers.RandomUniform(-limit, limit, seed=next(seeds)) for _ in range(2)]
        return {"kernel_initializer": draw[0], "bias_initializer": draw[1]}

    network = [keras.Input(input_shape, name="images"), layers.Rescaling(2.0, offset=-1.0, name="rescale")]
    for i, filters in enumerate((6, 16), start=1):
        network.append(layers.Conv2D(filters, 5, activation="relu", name=f"conv{i}", **initializers(25 * inputs)))
        network.append(layers.MaxPooling2D(2, name=f"pool{i}"))
        inputs = filters
    network.append(layers.Flatten(name="flatten"))
    rows, columns = (((side - 4) // 2 - 4) // 2 for side in input_shape[:2])
    inputs *= rows * columns
    for i, units in enumerate((120, 84), start=1):
        network.append(layers.Dense(units, activation="relu", name=f"fc{i}", **initializers(inputs)))
        inputs = units
    network.append(layers.Dense(num_classes, name="logits", **initializers(inputs)))
    return keras.Sequential(network, name="naive_cnn")
