"""Gradients that see a threshold before it is reached.

A network whose first filters are thresholds is flat almost everywhere. Two of them, relu(x - a) and relu(x - b), make a
step that is flat below a and above b, and robust networks have many: that a small change of a pixel changes nothing is
what makes them robust. To an attack that follows gradients it also hides what a large change would do. Here the
gradient of the first ReLU, 0 or 1, is spread out over a window around the threshold, as a mean over random changes of
the pixel would be,

    share(z) = clip((z + w) / 2w, 0, 1)    in place of    [z > 0],

so that flat parts slope as the step behind them does (a backward pass of its own, as in Athalye et al. 2018, section
4.1). The function itself stays as it is. How far to look is a window's business:

RandomWindow(0.6)   # any width up to 0.6, drawn anew for every image at every step, for evaluations
StepWindow(0.5)     # as wide as the step that the attack is about to make, for half of the images, for training
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import keras
import tensorflow as tf

_POOLINGS = (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)


class WindowedReLU:
    """ReLU as an activation function, whose gradient is spread out while `half_width` is set.

    Attributes:
      half_width: w, float [B, F] in units of the input, or None for the gradient of a ReLU.
    """

    __name__ = "windowed_relu"

    def __init__(self):
        self.half_width = None

    def __call__(self, z: tf.Tensor) -> tf.Tensor:
        """[B, ..., F] -> [B, ..., F]."""
        if self.half_width is None:
            return tf.nn.relu(z)
        between = [1] * (len(z.shape) - 2)
        width = tf.reshape(self.half_width, [-1, *between, self.half_width.shape[-1]])
        # Of a filter of zeros, or a number drawn, that is 0.
        width = tf.cast(tf.maximum(width, 1e-6), z.dtype)

        @tf.custom_gradient
        def relu(z):
            def gradient(upstream):
                share = tf.clip_by_value((z / width + 1) / 2, tf.zeros([], z.dtype), tf.ones([], z.dtype))
                return upstream * share

            return tf.nn.relu(z), gradient

        return relu(z)


@dataclasses.dataclass(frozen=True)
class RandomWindow:
    """Wide windows see far, and narrow ones what is near; these are as wide as it happens, for each image and step.

    Where a gradient is 0 all the same, an attack needs restarts: it stands still, and what was drawn with it.

    Attributes:
      size: the largest half width in pixel units, above 0. Twice epsilon sees all that a pixel can do.

    Raises:
      ValueError: for another size.
    """

    size: float

    def __post_init__(self):
        if not 0 < self.size < math.inf:
            raise ValueError(f"relu_window must be a number above 0, got {self.size!r}")

    def half_widths(self, x: tf.Tensor, step_length) -> tf.Tensor:
        """In pixel units, [B] for the images x [B, H, W, C]; see `fraction_of`."""
        return self.size * fraction_of(x)


@dataclasses.dataclass(frozen=True)
class StepWindow:
    """What a step of this length along the gradient would meet: four steps of PGD are then stronger than ten.

    Attributes:
      share: of the images, above 0 and at most 1, drawn anew at every step; the others have plain gradients. A network
        that is trained against windows only learns to mislead them.

    Raises:
      ValueError: for another share.
    """

    share: float = 0.5

    def __post_init__(self):
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, got {self.share!r}")

    def half_widths(self, x: tf.Tensor, step_length) -> tf.Tensor | None:
        """In pixel units, [B] for the images x [B, H, W, C]; None for an attack that does not tell of its steps."""
        return None if step_length is None else tf.where(fraction_of(x) < self.share, step_length, 0.0)


class WindowedLogits:
    """A function from pixels to logits whose first ReLU is looked at through a window.

    Args:
      logits_fn: [B, H, W, C] -> [B, K], which calls `relu`.
      relu: its first ReLU.
      kernel: of the layer before that, float [..., F].
      window: how far to look.
      step_length: of the step that the gradient is for, in pixel units; None where it is not known.
    """

    def __init__(
        self,
        logits_fn: Callable[[tf.Tensor], tf.Tensor],
        relu: WindowedReLU,
        kernel: tf.Tensor,
        window: RandomWindow | StepWindow,
        step_length=None,
    ):
        self._parts = (logits_fn, relu, kernel, window)
        self._step_length = step_length

    def for_step(self, step_length) -> WindowedLogits:
        """The same function for the gradient of a step of this length; see `attacks.base.for_step`."""
        return WindowedLogits(*self._parts, step_length)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """[B, H, W, C] -> [B, K]."""
        logits_fn, relu, kernel, window = self._parts
        widths = window.half_widths(x, self._step_length)
        if widths is not None:
            lengths = tf.norm(tf.reshape(kernel, [-1, kernel.shape[-1]]), axis=0)
            relu.half_width = widths[:, tf.newaxis] * lengths
        try:
            return logits_fn(x)
        finally:
            relu.half_width = None


def fraction_of(x: tf.Tensor) -> tf.Tensor:
    """A number in [0, 1) for each image [B, H, W, C], as good as random: another one for another image, however near.

    It is a hash of the pixels' bits. An attack, which moves the image at every step, so draws anew at every step.
    """
    x = tf.convert_to_tensor(x)
    bits = tf.bitcast(tf.cast(x, tf.float32), tf.int32)
    # Sums and products of integers wrap around. Odd factors with bits all over mix low bits into high ones.
    mixed = tf.reduce_sum(bits, axis=list(range(1, x.shape.rank))) * -1640531535
    mixed = tf.bitwise.bitwise_xor(mixed, tf.bitwise.right_shift(mixed, 15)) * 739982445
    return tf.cast(tf.bitwise.bitwise_and(tf.bitwise.right_shift(mixed, 12), 0xFFFF), tf.float32) / 2.0**16


def first_relu(classifier: keras.Model) -> tuple[keras.layers.Layer, keras.layers.Layer]:
    """The first layer with a kernel, a convolution or dense layer, and the layer whose activation is its ReLU: itself,
    or one behind it with at most poolings between them, which keep the thresholds where they are.

    Raises:
      ValueError: for a classifier that does not begin so.
    """
    layers = list(getattr(classifier, "layers", []))
    weighted = next((layer for layer in layers if layer.weights), None)
    if type(weighted) in (keras.layers.Conv2D, keras.layers.Dense):
        if _is_relu(weighted):
            return weighted, weighted
        at = weighted
        while getattr(at, "activation", None) in (None, keras.activations.linear):
            following = [layer for layer in layers if _is_behind(layer, at)]
            if len(following) != 1:
                break
            at = following[0]
            if _is_relu(at):
                return weighted, at
            if type(at) not in _POOLINGS:
                break
    raise ValueError(
        "relu_window needs a classifier that begins with a convolution or dense layer and its ReLU, at most poolings "
        f"between them, got {getattr(classifier, 'name', classifier)!r}"
    )


def _is_relu(layer):
    if type(layer) is keras.layers.ReLU:
        return layer.max_value is None and not layer.negative_slope and not layer.threshold
    return getattr(layer, "activation", None) is keras.activations.relu


def _is_behind(layer, other):
    try:
        return layer.input._keras_history.operation is other
    except (AttributeError, ValueError):  # of an InputLayer, or of several inputs
        return False
