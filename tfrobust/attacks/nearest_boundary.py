"""The nearest of the linearised boundaries between a class and others."""

import math

import tensorflow as tf

from tfrobust import losses
from tfrobust.attacks.base import LogitsFn, NotDifferentiableError
from tfrobust.attacks.hyperplanes import distance_to_hyperplane
from tfrobust.shapes import choose

# Backward passes that share a forward pass. They are unrolled in the graph, which must not grow with the classes.
CLASSES_AT_ONCE = 9


def nearest_boundary(
    logits_fn: LogitsFn,
    x: tf.Tensor,
    y: tf.Tensor,
    others: tf.Tensor,
    norm: str,
    bounds: tuple[float, float] | None = None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Distance, gradient and class of the nearest boundary between class y and one of `others`, seen from x.

    With f_k = logits_k(x) - logits_y(x) and w_k = grad f_k, the class is argmin_k |f_k| / |w_k|_q (Moosavi-Dezfooli et
    al. 2016, algorithm 2; q is the dual of `norm`).

    Args:
      logits_fn: images [B, ...] -> logits [B, K].
      x, y: images [B, ...] and classes [B].
      others: the classes that count, [B, C], of the type of y.
      norm: "l2" or "linf".
      bounds: if given, pixels at a bound that a step along w_k would push past it count as 0 in w_k.

    Returns:
      Distance [B], infinite where no gradient leads to another class and NaN where one is; w_k [B, ...]; and the class
      k, [B].

    Raises:
      NotDifferentiableError: if no gradient leads from logits to pixels.
    """

    def look(classes, x, y, distance, nearest, nearest_class):
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(x)
            logits = logits_fn(x)
            candidates = tf.unstack(classes, axis=1)
            differences = [losses.margin_targeted(logits, (y, other)) for other in candidates]
        for difference, other in zip(differences, candidates, strict=True):
            gradient = tape.gradient(difference, x)
            if gradient is None:
                raise NotDifferentiableError(
                    "classifier must be differentiable with respect to its input for this attack"
                )
            if bounds is not None:
                gradient = _within_bounds(gradient, x, bounds)
            new = distance_to_hyperplane(difference, gradient, norm)
            # NaN is kept: what broke down is to be seen in the result.
            nearer = (new < distance) | tf.math.is_nan(new)
            nearest = choose(nearer, gradient, nearest)
            nearest_class = tf.where(nearer, other, nearest_class)
            distance = tf.where(nearer, new, distance)
        return distance, nearest, nearest_class

    if not tf.executing_eagerly():
        # A graph of its own, for the reason that `base.gradient_and_logits` has one.
        look = tf.function(look, autograph=False, experimental_attributes={"_noinline": True})
    count = others.shape[1]
    at_once = min(count, CLASSES_AT_ONCE)

    def body(start, *found):
        # The last classes come with some of those before them, so that there is only one shape.
        first = tf.minimum(start, count - at_once)
        classes = tf.ensure_shape(others[:, first : first + at_once], [None, at_once])
        return start + at_once, *look(classes, x, y, *found)

    infinite = tf.fill(tf.shape(y), tf.constant(math.inf, x.dtype))
    start = (tf.constant(0), infinite, tf.zeros_like(x), others[:, 0])
    return tf.while_loop(lambda start, *_: start < count, body, start, parallel_iterations=1)[1:]


def _within_bounds(gradient, x, bounds):
    """The gradient without the pixels at a bound that a step along it would push past it."""
    past = ((gradient < 0) & (x <= bounds[0])) | ((gradient > 0) & (x >= bounds[1]))
    return tf.where(past, tf.zeros_like(gradient), gradient)
