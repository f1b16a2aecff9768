"""Classifiers for 224x224 colour images in [0, 1], as torchvision has them; they return logits.

All normalise pixels by ImageNet's channels, (pixels - CHANNEL_MEAN) / CHANNEL_DEVIATION, inside of the model.
Published weights: `torchvision_weights`.
Convolutions with a stride pad explicitly: Keras's padding="same" would put more on the far side, PyTorch puts the same
on both.
"""

import itertools

import keras
import numpy as np
from keras import layers

# Of red, green and blue in [0, 1], as torchvision and its weights take them.
CHANNEL_MEAN = (0.485, 0.456, 0.406)
CHANNEL_DEVIATION = (0.229, 0.224, 0.225)

INPUT_SHAPE = (224, 224, 3)


def alexnet(*, seed: int, input_shape=INPUT_SHAPE, num_classes: int = 1000) -> keras.Model:
    """AlexNet in torchvision's form: 61,100,840 parameters.

    It is the single tower of Krizhevsky 2014 (arXiv:1404.5997), without the local response normalisation and without
    the groups of Krizhevsky et al. 2012: five convolutions with ReLU and three 3x3 max-poolings with stride 2, two
    dense layers of 4096 units with ReLU, each behind dropout 0.5, and logits.

    torchvision averages over a grid of 6x6 before the dense layers, which changes nothing at 224x224 pixels and is left
    out. Its first dense layer reads channels, rows, columns in this order; here it is rows, columns, channels.

    Args:
      seed: of the initial weights and of dropout. Kernels start from He's normal distribution, that of the logits from
        Glorot's uniform one, biases at 0.
      input_shape: height and width of 63 or more, 3 channels. The first dense layer takes what other sizes leave.
      num_classes: K.

    Returns:
      A Sequential keras.Model, float32 [B, H, W, 3] -> [B, K].

    Raises:
      ValueError: for other channels, or smaller images.
    """
    _check_shape(input_shape, minimum=63)
    seeds = itertools.count(seed)

    def convolution(filters, size, name, **options):
        initializer = keras.initializers.HeNormal(seed=next(seeds))
        return layers.Conv2D(filters, size, activation="relu", kernel_initializer=initializer, name=name, **options)

    def dense(name):
        initializer = keras.initializers.HeNormal(seed=next(seeds))
        return layers.Dense(4096, activation="relu", kernel_initializer=initializer, name=name)

    network = [
        keras.Input(input_shape, name="images"),
        _normalization(),
        layers.ZeroPadding2D(2, name="pad1"),
        convolution(64, 11, "conv1", strides=4),
        layers.MaxPooling2D(3, 2, name="pool1"),
        convolution(192, 5, "conv2", padding="same"),
        layers.MaxPooling2D(3, 2, name="pool2"),
        convolution(384, 3, "conv3", padding="same"),
        convolution(256, 3, "conv4", padding="same"),
        convolution(256, 3, "conv5", padding="same"),
        layers.MaxPooling2D(3, 2, name="pool5"),
        layers.Flatten(name="flatten"),
        layers.Dropout(0.5, seed=next(seeds), name="dropout6"),
        dense("fc6"),
        layers.Dropout(0.5, seed=next(seeds), name="dropout7"),
        dense("fc7"),
        layers.Dense(num_classes, kernel_initializer=keras.initializers.GlorotUniform(seed=next(seeds)), name="logits"),
    ]
    return keras.Sequential(network, name="alexnet")


def vgg11(*, seed: int, input_shape=INPUT_SHAPE, num_classes: int = 1000) -> keras.Model:
    """VGG-11 (Simonyan and Zisserman 2015, arXiv:1409.1556, configuration A): 132,863,336 parameters.

    Eight 3x3 convolutions with ReLU and five 2x2 max-poolings, two dense layers of 4096 units with ReLU, each followed
    by dropout 0.5, and logits. The network that Madan and Anand attack.

    torchvision averages over a grid of 7x7 before the dense layers, which changes nothing at 224x224 pixels and is left
    out.

    Args:
      seed: of the initial weights and of dropout, as in `alexnet`.
      input_shape: height and width of 32 or more, 3 channels. The first dense layer takes what other sizes leave.
      num_classes: K.

    Returns:
      A Sequential keras.Model, float32 [B, H, W, 3] -> [B, K].

    Raises:
      ValueError: for other channels, or smaller images.
    """
    _check_shape(input_shape, minimum=32)
    seeds = itertools.count(seed)
    network = [keras.Input(input_shape, name="images"), _normalization()]
    for stage, widths in enumerate(((64,), (128,), (256, 256), (512, 512), (512, 512)), start=1):
        for number, filters in enumerate(widths, start=1):
            initializer = keras.initializers.HeNormal(seed=next(seeds))
            name = f"conv{stage}_{number}"
            network.append(
                layers.Conv2D(filters, 3, padding="same", activation="relu", kernel_initializer=initializer, name=name)
            )
        network.append(layers.MaxPooling2D(2, name=f"pool{stage}"))
    network.append(layers.Flatten(name="flatten"))
    for name in ("6", "7"):
        initializer = keras.initializers.HeNormal(seed=next(seeds))
        network.append(layers.Dense(4096, activation="relu", kernel_initializer=initializer, name=f"fc{name}"))
        network.append(layers.Dropout(0.5, seed=next(seeds), name=f"dropout{name}"))
    initializer = keras.initializers.GlorotUniform(seed=next(seeds))
    network.append(layers.Dense(num_classes, kernel_initializer=initializer, name="logits"))
    return keras.Sequential(network, name="vgg11")


def resnet18(*, seed: int, input_shape=INPUT_SHAPE, num_classes: int = 1000) -> keras.Model:
    """The residual network of 18 layers (He et al. 2016, arXiv:1512.03385) in torchvision's form: 11,689,512 trainable
    parameters.

    A 7x7 convolution and 3x3 max-pooling, each with stride 2; four stages of two units with 64, 128, 256 and 512
    filters, the first unit of each but the first stage with stride 2 and a 1x1 convolution as its shortcut; then the
    mean over all places, and logits. Batch normalisation has PyTorch's epsilon and momentum.

    Layers are named as the modules of torchvision ("layer2.0.conv1", "layer2.0.downsample.1", "fc").

    Args:
      seed: of the initial weights: convolutions from He's normal distribution, that of the logits from Glorot's uniform
        one.
      input_shape: height and width, of any size, and 3 channels.
      num_classes: K.

    Returns:
      A functional keras.Model, float32 [B, H, W, 3] -> [B, K].

    Raises:
      ValueError: for other channels.
    """
    _check_shape(input_shape, minimum=1)
    seeds = itertools.count(seed)

    def convolution(x, filters, size, stride, name):
        if size > 1:
            x = layers.ZeroPadding2D(size // 2, name=f"{name}.pad")(x)
        initializer = keras.initializers.HeNormal(seed=next(seeds))
        return layers.Conv2D(filters, size, stride, use_bias=False, kernel_initializer=initializer, name=name)(x)

    def normalization(x, name):
        return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)

    def unit(x, filters, stride, name):
        h = normalization(convolution(x, filters, 3, stride, f"{name}.conv1"), f"{name}.bn1")
        h = layers.ReLU(name=f"{name}.relu1")(h)
        h = normalization(convolution(h, filters, 3, 1, f"{name}.conv2"), f"{name}.bn2")
        if stride > 1:
            x = normalization(convolution(x, filters, 1, stride, f"{name}.downsample.0"), f"{name}.downsample.1")
        return layers.ReLU(name=f"{name}.relu2")(layers.Add(name=f"{name}.add")([x, h]))

    images = keras.Input(input_shape, name="images")
    x = normalization(convolution(_normalization()(images), 64, 7, 2, "conv1"), "bn1")
    # Zeros are as good as PyTorch's minus infinity: behind ReLU nothing is less.
    x = layers.ZeroPadding2D(1, name="maxpool.pad")(layers.ReLU(name="relu")(x))
    x = layers.MaxPooling2D(3, 2, name="maxpool")(x)
    for stage, filters in enumerate((64, 128, 256, 512), start=1):
        x = unit(x, filters, 1 if stage == 1 else 2, f"layer{stage}.0")
        x = unit(x, filters, 1, f"layer{stage}.1")
    x = layers.GlobalAveragePooling2D(name="avgpool")(x)
    logits = layers.Dense(num_classes, kernel_initializer=keras.initializers.GlorotUniform(seed=next(seeds)), name="fc")
    return keras.Model(images, logits(x), name="resnet18")


def _normalization():
    mean, deviation = np.array(CHANNEL_MEAN), np.array(CHANNEL_DEVIATION)
    return layers.Rescaling(np.float32(1 / deviation), offset=np.float32(-mean / deviation), name="normalize")


def _check_shape(input_shape, minimum):
    if len(input_shape) != 3 or input_shape[2] != 3 or min(input_shape[:2]) < minimum:
        raise ValueError(
            f"input_shape must be a height and a width of {minimum} or more and 3 channels, got {input_shape}"
        )
