"""The classifiers of keras.applications as every other one here: pixels in [0, 1] -> logits.

classifier = application("MobileNetV2")                          # ImageNet's weights, downloaded by Keras
classifier = application("MobileNetV2", weights="mobilenet.weights.h5")
"""

import inspect
import sys

import keras
import numpy as np
from keras import layers


def names() -> list[str]:
    """The names of all networks."""
    return sorted(name for name, value in vars(keras.applications).items() if name[:1].isupper() and callable(value))


def application(name: str, *, weights: str | None = "imagenet", image_size: int | None = None, seed: int = 0):
    """A network of keras.applications, its preprocessing inside of it, its softmax left out.

    Args:
      name: as Keras has it: "ResNet50", "MobileNetV2".
      weights: "imagenet", which Keras downloads once, a file of weights, or None for random ones.
      image_size: height and width of the images; default: what the network was made for.
      seed: of random weights.

    Returns:
      A keras.Model, float32 [B, H, W, 3] pixels in [0, 1] -> [B, 1000] logits.

    Raises:
      ValueError: for another name, or weights that cannot be had.
    """
    if name not in names():
        raise ValueError(f"architecture must be one of keras.applications, {', '.join(names())}, got {name!r}")
    build = getattr(keras.applications, name)
    options = {"classifier_activation": None, "weights": weights}
    if image_size is not None:
        options["input_shape"] = (image_size, image_size, 3)
    if "include_preprocessing" in inspect.signature(build).parameters:
        options["include_preprocessing"] = True
    if weights is None:
        keras.utils.set_random_seed(seed)
    try:
        network = build(**options)
    except Exception as error:  # a download that fails is a bare Exception, a damaged file anything
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"weights {weights!r} of {name} cannot be had: {line}") from error
    matrix, offset = _preprocessing(build)
    # Networks for images of any size were made for this one.
    images = keras.Input([side or 224 for side in network.input_shape[1:]], name="images")
    # Any preprocessing of Keras's is affine in the channels of a pixel: a 1x1 convolution.
    convert = layers.Conv2D(3, 1, trainable=False, name="preprocess")
    x = convert(images)
    convert.set_weights([matrix[None, None], offset])
    return keras.Model(images, network(x), name=name.lower())


def _preprocessing(build):
    """Matrix [3, 3] and offset [3]: what `preprocess_input` makes of pixels in [0, 1], pixels @ matrix + offset."""
    module = sys.modules[build.__module__]
    corners = 255 * np.concatenate([np.zeros([1, 3]), np.eye(3)])[:, None, None].astype(np.float32)
    values = np.asarray(module.preprocess_input(corners.copy()))[:, 0, 0]
    return values[1:] - values[0], values[0]
