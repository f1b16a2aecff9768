"""How a classifier begins: the layer that first weighs its pixels, the ReLU behind that, and the next convolution."""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

_WEIGHTED = (keras.layers.Conv2D, keras.layers.Dense)
# What keeps pixels as they are, but for their place and scale.
_BEFORE = (
    keras.layers.Dropout,
    keras.layers.Flatten,
    keras.layers.InputLayer,
    keras.layers.Rescaling,
    keras.layers.Reshape,
    keras.layers.ZeroPadding2D,
)
_POOLINGS = (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)


class Front(NamedTuple):
    """How a classifier begins.

    Attributes:
      weighted: its first layer with weights, a convolution or dense layer.
      relu: the layer whose activation is the ReLU behind that: itself or a later one.
      scale: what pixels are multiplied with before, a number or one for each channel.
    """

    weighted: keras.layers.Layer
    relu: keras.layers.Layer
    scale: np.ndarray

    def kernel(self) -> tf.Tensor:
        """What the first layer multiplies pixels in [0, 1] with, [..., F]; the scale is in it."""
        kernel = tf.convert_to_tensor(self.weighted.kernel)
        kernel = tf.cast(kernel, tf.float32) if kernel.dtype.size < tf.float32.size else kernel
        return kernel * tf.constant(self.scale.reshape([-1, 1]), kernel.dtype)


def front(classifier: keras.Model) -> Front:
    """How the classifier begins, if that is with a convolution or dense layer and its ReLU: in one layer, or with at
    most poolings between them, which keep the thresholds where they are.

    Raises:
      ValueError: for one that does not begin so.
    """
    layers = list(getattr(classifier, "layers", []))
    weighted = next((layer for layer in layers if layer.weights), None)
    before = layers[: layers.index(weighted)] if weighted else []
    if type(weighted) in _WEIGHTED and all(type(layer) in _BEFORE for layer in before):
        relu = _relu_behind(weighted, classifier)
        scale = np.ones([1])
        for layer in before:
            if type(layer) is keras.layers.Rescaling:
                scale = scale * np.asarray(layer.scale)
        fits = scale.size in (1, weighted.kernel.shape[-2])
        last = getattr(weighted, "data_format", "channels_last") == "channels_last"
        once = all(_calls(classifier, layer) <= 1 for layer in (weighted, relu))
        if relu is not None and fits and last and once:
            return Front(weighted, relu, scale)
    raise does_not_fit(classifier)


def first_block(classifier: keras.Model) -> list[keras.layers.Layer]:
    """From the first convolution to the second, both plain, with the ReLU and poolings between them, each behind the
    other and called once; [] of a classifier that does not begin so."""
    try:
        begin = front(classifier)
    except ValueError:
        return []
    block, seen_relu = [begin.weighted], begin.relu is begin.weighted
    while len(block) == 1 or type(block[-1]) is not keras.layers.Conv2D:
        following = _following(classifier, block[-1])
        if len(following) != 1 or _calls(classifier, following[0]) > 1:
            return []
        block += following
        seen_relu |= block[-1] is begin.relu
        if block[-1] is not begin.relu and type(block[-1]) not in (*_POOLINGS, keras.layers.Conv2D):
            return []
    plain = all(type(i) is keras.layers.Conv2D and i.groups == 1 for i in (block[0], block[-1]))
    last = all(getattr(layer, "data_format", "channels_last") == "channels_last" for layer in block)
    return block if plain and last and seen_relu else []


def does_not_fit(classifier) -> ValueError:
    """The error for a classifier whose first ReLU cannot be looked through."""
    return ValueError(
        "windows need a classifier that Keras can clone and that begins with a convolution or dense layer and its "
        f"ReLU, at most poolings between them, got {getattr(classifier, 'name', classifier)!r}"
    )


def _relu_behind(layer, classifier):
    if layer.activation is keras.activations.relu:
        return layer
    if layer.activation is not keras.activations.linear:
        return None
    following = [layer]
    while len(following) == 1:
        following = _following(classifier, following[0])
        if len(following) == 1 and _is_relu(following[0]):
            return following[0]
        if len(following) == 1 and type(following[0]) not in _POOLINGS:
            return None
    return None


def _is_relu(layer):
    if type(layer) is keras.layers.ReLU:
        return layer.max_value is None and not layer.negative_slope and not layer.threshold
    return type(layer) is keras.layers.Activation and layer.activation is keras.activations.relu


def _following(classifier, layer):
    """What reads a layer's outputs in the classifier, once for each call."""
    if isinstance(classifier, keras.Sequential):
        place = classifier.layers.index(layer)
        return classifier.layers[place + 1 : place + 2]
    nodes = _nodes(classifier)
    return [node.operation for node in nodes if any(parent.operation is layer for parent in node.parent_nodes)]


def _calls(classifier, layer):
    """How often a functional model calls a layer; a Sequential has none twice."""
    return sum(node.operation is layer for node in _nodes(classifier))


def _nodes(classifier):
    """The calls of layers in a functional model; none of another, whatever its layers were called in before."""
    return [node for nodes in getattr(classifier, "_nodes_by_depth", {}).values() for node in nodes]
