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

import tensorflow as tf


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
        width = tf.cast(width, z.dtype)

        @tf.custom_gradient
        def relu(z):
            def gradient(upstream):
                share = (tf.math.divide_no_nan(z, width) + 1) / 2
                share = tf.clip_by_value(share, tf.zeros([], z.dtype), tf.ones([], z.dtype))
                return upstream * tf.where(width > 0, share, tf.cast(z > 0, z.dtype))

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
        if step_length is None:
            return None
        return tf.where(fraction_of(x) < self.share, tf.cast(step_length, tf.float32), 0.0)


class WindowedLogits:
    """A function from pixels to logits whose first ReLU is looked at through a window.

    Args:
      logits_fn: [B, H, W, C] -> [B, K], which calls `relu`.
      relu: its first ReLU.
      kernel: what comes before that multiplies pixels with, float [..., F]; see `classifier_fronts.Front`.
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
    """A number in [0, 1) for each image [B, H, W, C], as good as random: another one wherever an attack moves it.

    It is a hash of the sum of the pixels' bits. An attack, which moves the image at every step, so draws anew at every
    step, and no image's number depends on its batch mates; but where rounding moves it a little, its number is another.
    """
    x = tf.convert_to_tensor(x)
    # In integers of 64 bits, for which GPUs have kernels, of which the lower 32 count.
    bits = tf.cast(tf.bitcast(tf.cast(x, tf.float32), tf.int32), tf.int64)
    total = tf.reduce_sum(bits, axis=list(range(1, x.shape.rank)))
    # Odd factors with bits all over mix low bits into high ones.
    mixed = _lower_half(total * 2654435761)
    mixed = _lower_half(tf.bitwise.bitwise_xor(mixed, tf.bitwise.right_shift(mixed, 15)) * 739982445)
    return tf.cast(tf.bitwise.bitwise_and(tf.bitwise.right_shift(mixed, 12), 0xFFFF), tf.float32) / 2.0**16


def _lower_half(number):
    """The lower 32 bits of an int64 as a number of 32 bits with a sign."""
    return tf.cast(tf.cast(number, tf.int32), tf.int64)
