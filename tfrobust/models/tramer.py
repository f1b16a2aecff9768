"""The MNIST classifiers A to D of Tramèr et al. 2018, sources of transfer attacks; they return logits."""

import itertools

import keras
from keras import layers

ARCHITECTURES = ("a", "b", "c", "d")


def tramer(architecture: str, *, seed: int, input_shape=(28, 28, 1), num_classes: int = 10) -> keras.Model:
    """A network of Tramèr et al. 2018 (arXiv:1705.07204), table of neural network architectures for MNIST.

    conv(F, k) is a k x k convolution with F filters, each with its activation:

        a  conv(64, 5) ReLU, conv(64, 5) ReLU, dropout 0.25, dense(128) ReLU, dropout 0.5
        b  dropout 0.2, conv(64, 8) ReLU, conv(128, 6) ReLU, conv(128, 5) ReLU, dropout 0.5
        c  conv(128, 3) tanh, max-pooling 2, conv(64, 3) tanh, max-pooling 2, dense(128) ReLU
        d  four times: dense(300) ReLU, dropout 0.5

    and the logits behind each. Strides and padding, of which the table says nothing, are those of the authors' code:
    the first two convolutions of b have stride 2, its first one pads as "same" does, and no other convolution pads.
    (That code has another network C: ReLU and dropout, no pooling. Here it is the paper's.) Kernels start as
    Glorot's uniform ones, those of d's dense(300) from He's normal distribution; biases start at 0.

    Args:
      architecture: "a", "b", "c" or "d".
      seed: of the initial weights and of dropout.
      input_shape: height, width, channels.
      num_classes: K.

    Returns:
      A Sequential keras.Model, float32 [B, H, W, C] pixels in [0, 1] -> [B, K].

    Raises:
      ValueError: for another architecture, or an image that is too small for it.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"architecture must be one of {', '.join(map(repr, ARCHITECTURES))}, got {architecture!r}")
    seeds = itertools.count(seed)

    def convolution(filters, size, activation="relu", **options):
        initializer = keras.initializers.GlorotUniform(seed=next(seeds))
        return layers.Conv2D(filters, size, activation=activation, kernel_initializer=initializer, **options)

    def dense(units, initializer=keras.initializers.GlorotUniform, activation="relu", **options):
        return layers.Dense(units, activation, kernel_initializer=initializer(seed=next(seeds)), **options)

    def dropout(rate):
        return layers.Dropout(rate, seed=next(seeds))

    if architecture == "a":
        hidden = [convolution(64, 5), convolution(64, 5), dropout(0.25), layers.Flatten(), dense(128), dropout(0.5)]
    elif architecture == "b":
        hidden = [dropout(0.2), convolution(64, 8, strides=2, padding="same"), convolution(128, 6, strides=2)]
        hidden += [convolution(128, 5), dropout(0.5), layers.Flatten()]
    elif architecture == "c":
        hidden = [
            convolution(128, 3, "tanh"),
            layers.MaxPooling2D(2),
            convolution(64, 3, "tanh"),
            layers.MaxPooling2D(2),
        ]
        hidden += [layers.Flatten(), dense(128)]
    else:
        hidden = [layers.Flatten()]
        for _ in range(4):
            hidden += [dense(300, keras.initializers.HeNormal), dropout(0.5)]
    logits = dense(num_classes, activation=None, name="logits")
    return keras.Sequential([keras.Input(input_shape), *hidden, logits], name=f"tramer_{architecture}")
