"""Classifiers for 28x28 grey images in [0, 1]; they return logits."""

import itertools

import keras
import numpy as np
from keras import layers

INITIALIZERS = ("challenge", "he_normal", "thresholds")

# Of the "thresholds" initializer. A pixel of 0 or 1 stays on its side of both levels when it moves by up to 0.35.
THRESHOLD_LEVELS = (0.35, 0.65)
THRESHOLD_SLOPE = 4.0
# Rows and columns away from the centre of the filter: the centre and its neighbours; with a stride of 2 the four pixels
# that one position of the filter stands for.
THRESHOLD_PLACES = ((0, 0), (-1, 0), (0, -1), (0, 1), (1, 0))
STRIDED_THRESHOLD_PLACES = ((-1, -1), (-1, 0), (0, -1), (0, 0))


def challenge_cnn(
    *, seed: int, input_shape=(28, 28, 1), num_classes: int = 10, initializer: str = "challenge", dropout: float = 0.0
) -> keras.Model:
    """The network of Madry et al. 2018, section 4, as in their MNIST challenge: 3,274,634 parameters.

    Two 5x5 convolutions with 32 and 64 filters, each followed by 2x2 max-pooling and ReLU, a dense layer of 1024 units
    with ReLU, and logits. ReLU stands behind the pooling: the function is the same, ReLU being monotonous, and it works
    on a quarter of the values.

    Args:
      seed: of the initial weights.
      input_shape: height, width, channels.
      num_classes: K.
      initializer: where training starts from, which decides how long adversarial training takes.
        "challenge", as in the original: weights from a normal distribution of deviation 0.1, truncated at two
        deviations, and biases of 0.1. Its logits start with a size of about 10, which takes thousands of steps to
        unlearn.
        "he_normal": each layer scaled to its size, biases 0.
        "thresholds": as he_normal, but 20 of the 32 first filters start as `threshold_filters` and the others 0.3 times
        as large. Training arrives at such filters anyway (Madry et al., arXiv:1706.06083v4, appendix on inspecting the
        robust MNIST model).
      dropout: which part of the dense layer's outputs training drops, from 0 up and below 1; the original none. It adds
        a layer that does nothing where the network is used.

    Returns:
      A functional keras.Model, float32 [B, H, W, C] -> [B, K].

    Raises:
      ValueError: for another initializer, or dropout out of its range.
    """
    if initializer not in INITIALIZERS:
        raise ValueError(f"initializer must be one of {', '.join(map(repr, INITIALIZERS))}, got {initializer!r}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be from 0 up and below 1, got {dropout!r}")

    def options(i):
        # One seed a layer: an initialiser with a seed draws the same numbers each time it is called.
        if initializer == "challenge":
            return {
                "kernel_initializer": keras.initializers.TruncatedNormal(stddev=0.1, seed=seed + i),
                "bias_initializer": keras.initializers.Constant(0.1),
            }
        return {"kernel_initializer": keras.initializers.HeNormal(seed=seed + i)}

    inputs = keras.Input(input_shape, name="images")
    x = layers.Conv2D(32, 5, padding="same", name="conv1", **options(0))(inputs)
    x = layers.MaxPooling2D(2, padding="same", name="pool1")(x)
    x = layers.ReLU(name="relu1")(x)
    x = layers.Conv2D(64, 5, padding="same", name="conv2", **options(1))(x)
    x = layers.MaxPooling2D(2, padding="same", name="pool2")(x)
    x = layers.ReLU(name="relu2")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(1024, activation="relu", name="dense", **options(2))(x)
    if dropout:
        x = layers.Dropout(dropout, seed=seed, name="dropout")(x)
    logits = layers.Dense(num_classes, name="logits", **options(3))(x)
    model = keras.Model(inputs, logits, name="mnist_challenge_cnn")
    if initializer == "thresholds":
        first = model.get_layer("conv1")
        first.set_weights(threshold_filters(first.kernel.numpy()))
    return model


def threshold_cnn(*, seed: int, input_shape=(28, 28, 1), num_classes: int = 10) -> keras.Model:
    """A small network that compares every pixel with two levels: 1,677,162 parameters, half of the challenge's.

    A 5x5 convolution of stride 2 with 48 filters, of which 16 start as `threshold_filters`, two 3x3 convolutions with
    64, 2x2 max-pooling, a dense layer of 512 units and logits, ReLU behind each but the last. In adversarial training
    it does better than `challenge_cnn` with thresholds in the same time: there pooling follows the first filters and
    lets through the largest of four pixels, of which an adversary needs to raise only one.

    Args:
      seed: of the initial weights: He's normal distribution, biases 0, but for the first convolution, whose filters
        are thresholds or random and 0.3 times as large.
      input_shape: height, width, channels.
      num_classes: K.

    Returns:
      A functional keras.Model, float32 [B, H, W, C] -> [B, K].
    """
    seeds = itertools.count(seed)

    def options(name):
        return {"kernel_initializer": keras.initializers.HeNormal(seed=next(seeds)), "name": name}

    inputs = keras.Input(input_shape, name="images")
    x = layers.Conv2D(48, 5, strides=2, padding="same", activation="relu", **options("conv1"))(inputs)
    x = layers.Conv2D(64, 3, padding="same", activation="relu", **options("conv2"))(x)
    x = layers.Conv2D(64, 3, padding="same", **options("conv3"))(x)
    x = layers.MaxPooling2D(2, padding="same", name="pool")(x)
    x = layers.ReLU(name="relu")(x)  # the same function as before the pooling, on a quarter of the values
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(512, activation="relu", **options("dense"))(x)
    model = keras.Model(inputs, layers.Dense(num_classes, **options("logits"))(x), name="threshold_cnn")
    first = model.get_layer("conv1")
    first.set_weights(threshold_filters(first.kernel.numpy(), STRIDED_THRESHOLD_PLACES))
    return model


def threshold_filters(kernel: np.ndarray, places=THRESHOLD_PLACES) -> tuple[np.ndarray, np.ndarray]:
    """First-layer filters that compare single pixels with a level.

    Four filters for each place become relu(slope (pixel - level)) and relu(slope (level - pixel)), for two levels, over
    a faint remainder of their random weights. Where pixels are 0 or 1, the difference of two such filters does not
    change under perturbations up to 0.35. The other filters keep 0.3 of their random weights.

    Args:
      kernel: random weights [h, w, C, F].
      places: rows and columns of the pixels, away from the centre of the filter.

    Returns:
      kernel [h, w, C, F] and bias [F].

    Raises:
      ValueError: for a kernel in which a place lies outside, or with fewer filters than thresholds.
    """
    height, width, channels, filters = kernel.shape
    variants = [(s, v, p) for s in (1, -1) for v in THRESHOLD_LEVELS for p in places]
    inside = all(0 <= height // 2 + row < height and 0 <= width // 2 + column < width for row, column in places)
    if not inside or filters < len(variants):
        raise ValueError(
            f"kernel must have {len(variants)} filters or more that reach the places {places}, got {kernel.shape}"
        )
    kernel, bias = kernel * 0.3, np.zeros(filters, kernel.dtype)
    for i, (sign, level, (row, column)) in enumerate(variants):
        kernel[..., i] *= 0.2
        kernel[height // 2 + row, width // 2 + column, :, i] += sign * THRESHOLD_SLOPE / channels
        bias[i] = -sign * THRESHOLD_SLOPE * level
    return kernel, bias
