"""The size of a perturbation beside the image's, of which rho is the mean (Moosavi-Dezfooli et al. 2016, eq. 15)."""

import numpy as np
import tensorflow as tf

from tfrobust.shapes import largest


def relative_size(delta: tf.Tensor, x: tf.Tensor, norm: str, center: np.ndarray | float = 0.0) -> tf.Tensor:
    """|delta|_p / |x - center|_p of each image: [B, ...] twice -> [B].

    The gradient with respect to delta is 0 where delta is 0.

    Args:
      norm: "l2" or "linf", p = 2 or infinity.
      center: what counts as 0, an image [H, W, C] or a number, in the units of x.

    Returns:
      The sizes, infinite for an image of norm 0.
    """
    size, image = norm_of(delta, norm), image_norm(x, norm, center)
    # NaN is not 0, and stays.
    return tf.where(image != 0, size / tf.where(image != 0, image, tf.ones_like(image)), np.inf)


def image_norm(x: tf.Tensor, norm: str, center: np.ndarray | float = 0.0) -> tf.Tensor:
    """|x - center|_p of each image, [B]; see `relative_size`."""
    return norm_of(x - tf.cast(center, x.dtype), norm)


def norm_of(tensor: tf.Tensor, norm: str) -> tf.Tensor:
    """|tensor|_p of each example, [B, ...] -> [B], with a gradient of 0 where it is 0."""
    most = largest(tensor)
    if norm == "linf":
        return tf.reshape(most, [-1])
    # Squares of what is not of the size of 1 leave the range of floats.
    scale = tf.stop_gradient(tf.where(most != 0, most, tf.ones_like(most)))
    squares = tf.reduce_sum(tf.square(tensor / scale), axis=list(range(1, tensor.shape.rank)))
    # The root's derivative at 0 is infinite.
    rooted = tf.sqrt(tf.where(squares != 0, squares, tf.ones_like(squares)))
    return tf.reshape(scale, [-1]) * tf.where(squares != 0, rooted, tf.zeros_like(squares))
