"""Classifiers for 28x28 grey images in [0, 1]; they return logits."""

import keras
from keras import layers


def challenge_cnn(*, seed: int, input_shape=(28, 28, 1), num_classes: int = 10) -> keras.Model:
    """The network of Madry et al. 2018, section 4, as in their MNIST challenge: 3,274,634 parameters.

    Two 5x5 convolutions with 32 and 64 filters, each followed by 2x2 max-pooling and ReLU, a dense layer of 1024 units
    with ReLU, and logits. Weights are drawn from a normal distribution of deviation 0.1 truncated at two deviations,
    and biases start at 0.1, as in the original. ReLU stands behind the pooling: the function is the same, the maximum
    being monotonous, and it works on a quarter of the values.

    Args:
      seed: of the initial weights.
      input_shape: height, width, channels.
      num_classes: K.

    Returns:
      A functional keras.Model, float32 [B, H, W, C] -> [B, K].
    """
    # An initialiser with a seed draws the same numbers each time it is called: one seed a layer.
    kernel_seeds = [seed + i for i in range(4)]

    def options(i):
        return {
            "kernel_initializer": keras.initializers.TruncatedNormal(stddev=0.1, seed=kernel_seeds[i]),
            "bias_initializer": keras.initializers.Constant(0.1),
        }

    inputs = keras.Input(input_shape, name="images")
    x = layers.Conv2D(32, 5, padding="same", name="conv1", **options(0))(inputs)
    x = layers.MaxPooling2D(2, padding="same", name="pool1")(x)
    x = layers.ReLU(name="relu1")(x)
    x = layers.Conv2D(64, 5, padding="same", name="conv2", **options(1))(x)
    x = layers.MaxPooling2D(2, padding="same", name="pool2")(x)
    x = layers.ReLU(name="relu2")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(1024, activation="relu", name="dense", **options(2))(x)
    logits = layers.Dense(num_classes, name="logits", **options(3))(x)
    return keras.Model(inputs, logits, name="mnist_challenge_cnn")
