"""A convolutional network that a processor without a graphics card can train robustly in less than an hour."""

import itertools

import keras
from keras import layers


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
