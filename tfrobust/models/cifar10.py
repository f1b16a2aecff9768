"""Classifiers for 32x32 colour images in [0, 1]; they return logits."""

import itertools

import keras
from keras import layers, ops

# Filters of the first convolution and of the three stages.
WIDE = (16, 160, 320, 640)
NARROW = (16, 16, 32, 64)

_STRIDES = (1, 2, 2)


def challenge_resnet(
    *, seed: int, filters=WIDE, units: int = 5, input_shape=(32, 32, 3), num_classes: int = 10
) -> keras.Model:
    """The residual network of Madry et al. 2018, section 4, as in their CIFAR-10 challenge, which calls it w32-10 wide.

    Images are standardised one by one. A 3x3 convolution and three stages of residual units follow; then batch
    normalisation, leaky ReLU, the mean over all places, and logits. With `WIDE` filters it has 45,901,914 trainable
    parameters, with `NARROW` ones, the paper's simple network, 464,154.

    Layers are named as the original's variable scopes, with dots for slashes: `tf1_checkpoints` goes by the names.

    Args:
      seed: of the initial weights. Convolutions start from a normal distribution of variance 2 / (9 F) for F filters,
        the logits' kernel from a uniform one in +-sqrt(3 / C) for C inputs, as in the original.
      filters: of the first convolution and of the three stages. No stage may have fewer filters than what comes before
        it, and the difference must be even.
      units: residual units in a stage.
      input_shape: height, width, channels; height and width must be multiples of 4.
      num_classes: K.

    Returns:
      A functional keras.Model, float32 [B, H, W, C] -> [B, K]. It consists of layers and operations of Keras alone.

    Raises:
      ValueError: for other `filters`, `units` or `input_shape`.
    """
    _check(filters, units, input_shape)
    seeds = itertools.count(seed)
    images = keras.Input(input_shape, name="images")
    x = _convolution(per_image_standardization(images), filters[0], "input.init_conv", next(seeds))
    for stage, (width, stride) in enumerate(zip(filters[1:], _STRIDES, strict=True), start=1):
        for unit in range(units):
            x = _residual_unit(x, width, stride if unit == 0 else 1, f"unit_{stage}_{unit}", seeds)
    x = layers.GlobalAveragePooling2D(name="global_average")(_activation(x, "unit_last"))
    # Uniform, of variance 1 / fan-in.
    initializer = keras.initializers.VarianceScaling(1.0, "fan_in", "uniform", seed=next(seeds))
    logits = layers.Dense(num_classes, kernel_initializer=initializer, name="logit")(x)
    return keras.Model(images, logits, name="cifar10_challenge_resnet")


def per_image_standardization(x):
    """Each image less its mean, divided by its standard deviation.

    The function of `tf.image.per_image_standardization` on the same images in [0, 255], whose least divisor is
    1 / sqrt(n) for n numbers in an image: here it is 1 / (255 sqrt(n)). Unlike there, the gradient of an image of one
    colour is finite.

    Args:
      x: [B, H, W, C] pixels in [0, 1], a tensor or a KerasTensor; H, W, C are known.

    Returns:
      [B, H, W, C].
    """
    height, width, channels = x.shape[1:]
    centred = x - ops.mean(x, axis=(1, 2, 3), keepdims=True)
    variance = ops.mean(ops.square(centred), axis=(1, 2, 3), keepdims=True)
    # The least variance is put in before the root, whose derivative at 0 is infinite.
    return centred / ops.sqrt(ops.maximum(variance, 1 / (255**2 * height * width * channels)))


def _check(filters, units, input_shape):
    steps = [after - before for before, after in itertools.pairwise(filters)]
    if len(steps) != 3 or min(*steps, filters[0] - 1) < 0 or any(step % 2 for step in steps):
        raise ValueError(
            f"filters must be four positive numbers that grow by even steps or stay as they are, got {filters}"
        )
    if units < 1:
        raise ValueError(f"units must be 1 or more, got {units}")
    if len(input_shape) != 3 or None in input_shape or any(size % 4 for size in input_shape[:2]):
        raise ValueError(
            f"input_shape must be height, width, channels, the first two multiples of 4, got {input_shape}"
        )


def _residual_unit(x, filters, stride, name, seeds):
    """He et al. 2016 (arXiv:1603.05027), with activation before each convolution; a shortcut without weights."""
    # In the very first unit the shortcut starts behind the activation that the convolutions share.
    shared = name == "unit_1_0"
    activated = _activation(x, f"{name}.{'shared' if shared else 'residual_only'}_activation")
    shortcut = activated if shared else x
    h = _convolution(activated, filters, f"{name}.sub1.conv1", next(seeds), stride)
    h = _convolution(_activation(h, f"{name}.sub2"), filters, f"{name}.sub2.conv2", next(seeds))
    if stride > 1:
        shortcut = layers.AveragePooling2D(stride, name=f"{name}.shortcut")(shortcut)
    more = filters - shortcut.shape[-1]
    if more:
        shortcut = ops.pad(shortcut, [[0, 0], [0, 0], [0, 0], [more // 2, more // 2]])
    return layers.Add(name=f"{name}.sum")([h, shortcut])


def _activation(x, name):
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-3, name=f"{name}.BatchNorm")(x)
    return layers.LeakyReLU(0.1, name=f"{name}.leaky_relu")(x)


def _convolution(x, filters, name, seed, stride=1):
    initializer = keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal", seed=seed)
    return layers.Conv2D(filters, 3, stride, padding="same", use_bias=False, kernel_initializer=initializer, name=name)(
        x
    )
