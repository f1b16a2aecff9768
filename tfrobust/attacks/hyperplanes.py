"""The geometry of linearised class boundaries: how far away one is, and the step onto it.

Near x a difference of logits is f + w . r, a function of the change r; the boundary is where it is 0.
"""

import math

import tensorflow as tf

from tfrobust.shapes import column_of, largest, norms_l2, sum_l1
from tfrobust.threat_models import ThreatModel


def distance_to_hyperplane(difference: tf.Tensor, gradient: tf.Tensor, norm: str) -> tf.Tensor:
    """|f| / |w|_q, the distance in `norm` of the nearest r with f + w . r = 0: f [B] and w [B, ...] -> [B].

    q is the dual of `norm`: 1 for "linf", 2 for "l2", infinity for "l1". The distance is infinite where w is 0.
    """
    size = largest(gradient)
    if norm == "linf":
        size = sum_l1(gradient)
    elif norm == "l2":
        # Scaled by the largest entry first, so that squares of tiny gradients do not underflow to 0.
        size *= norms_l2(tf.math.divide_no_nan(gradient, size))
    size = tf.reshape(size, [-1])
    # NaN is not 0, and stays.
    return tf.where(size != 0, tf.abs(tf.cast(difference, size.dtype)) / size, math.inf)


def step_along(length: tf.Tensor, gradient: tf.Tensor, norm: str) -> tf.Tensor:
    """The step of a given length in `norm`, "l2" or "linf", on which f + w . r rises most: [B], w [B, ...] -> [B, ...].

    Where f is below 0 and the length is `distance_to_hyperplane`, it ends on the hyperplane. An infinite length is a
    step of 0.
    """
    length = tf.where(~tf.math.is_inf(length), length, 0.0)
    return ThreatModel(norm, 0.0).steepest_ascent(gradient, column_of(length, gradient))
