"""Classifiers for 28x28 grey images in [0, 1]; they return logits."""

import keras
from keras import layers


def challenge_cnn(
    *, seed: int, input_shape=(28, 28, 1), num_classes: int = 10, initializer: str = "challenge"
) -> keras.Model:
    """The network of Madry et al. 2018, section 4, as in their MNIST challenge: 3,274,634 parameters.

    Two 5x5 convolutions with 32 and 64 filters, each followed by 2x2 max-pooling and ReLU, a dense layer of 1024 units
    with ReLU, and logits. ReLU stands behind the pooling: the function is the same, ReLU being monotonous, and it works
    on a quarter of the values.

    Args:
      seed: of the initial weights.
      input_shape: height, width, channels.
      num_classes: K.
      initializer: "challenge" as in the original: weights from a normal distribution of deviation 0.1, truncated at two
        deviations, and biases of 0.1. Its dense layer starts with logits of the size of 10, which adversarial training
        takes thousands of steps to unlearn. "he_normal" scales each layer to its size and starts biases at 0.

    Returns:
      A functional keras.Model, float32 [B, H, W, C] -> [B, K].

    Raises:
      ValueError: for another initializer.
    """
    if initializer not in ("challenge", "he_normal"):
        raise ValueError(f"initializer must be 'challenge' or 'he_normal', got {initializer!r}")

    def options(i):
        # One seed a layer: an initialiser with a seed draws the same numbers each time it is called.
        if initializer == "he_normal":
            return {"kernel_initializer": keras.initializers.HeNormal(seed=seed + i)}
        return {
            "kernel_initializer": keras.initializers.TruncatedNormal(stddev=0.1, seed=seed + i),
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
