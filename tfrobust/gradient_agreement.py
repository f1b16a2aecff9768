"""Whether gradients of lower precision lead an attack where those in float32 do.

Rounding errs by a fraction of each number, which does little harm where numbers add up. It is another matter where they
cancel: two filters that act on one pixel, one against the other, keep a network flat, and what is left of their
gradients may be less than what rounding did to each. Attacks that take signs then walk at random in such pixels. Robust
networks whose first filters are thresholds are like this (`docs/results.md`, "What bfloat16 costs in strength"), which
`parallel_filters` mends where such filters are parallel and the first of all.
"""

import math
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from tfrobust import frozen_weights, losses, seeds
from tfrobust.attacks.base import LogitsFn, NotDifferentiableError, input_gradient
from tfrobust.checks import checked_functions
from tfrobust.precision import Functions, Precision, functions
from tfrobust.threat_models import ThreatModel

# Examples that are looked at, and the agreement from which on lower precision is taken to be as strong. At epsilon 0.3
# an MNIST network that was trained with threshold filters has 0.92, and had 0.48 before `parallel_filters`; a robust
# one without them has 0.97, untrained ones 0.92 and more.
EXAMPLES = 100
LEAST_AGREEMENT = 0.7
# Length of a step in fractions of epsilon.
STEP = 0.1


def agreeing_functions(
    classifier: keras.Model | LogitsFn,
    precision: Precision,
    images: np.ndarray,
    labels: np.ndarray,
    threat: ThreatModel,
    *,
    batch_size: int,
    relu_window: float = 0.0,
) -> Functions:
    """`checks.checked_functions`, except that "auto" is float32 where bfloat16 would lead attacks astray.

    Args:
      classifier: a keras.Model; any other function has one precision only.
      images: float32 [N, H, W, C] within the threat's bounds.
      labels: int [N].
      threat: what attacks may do.
      batch_size: examples at a time, as memory allows.
      relu_window: see `precision.AttackTwin`.

    Raises:
      ValueError: as `checks.checked_functions`.
    """
    frozen = frozen_weights.pay(batch_size, len(images))
    found = checked_functions(classifier, precision, images[:batch_size], labels, relu_window, frozen=frozen)
    if precision != "auto" or found.precision != "bfloat16" or not isinstance(classifier, keras.Model):
        return found
    exact = functions(classifier, "float32", relu_window)
    try:
        agreement = step_agreement(exact.gradient_fn, found.gradient_fn, images, labels, threat, batch_size=batch_size)
    except NotDifferentiableError:  # said by the attacks, of which some need no gradient
        return found
    return found if agreement >= LEAST_AGREEMENT else exact


def step_agreement(
    first_fn: Callable[[], LogitsFn],
    second_fn: Callable[[], LogitsFn],
    images: np.ndarray,
    labels: np.ndarray,
    threat: ThreatModel,
    *,
    batch_size: int,
) -> float:
    """Cosine of the angle between the steps that two functions' gradients make, over all images together.

    They are made from a random point of the ball around each image, within the range of pixels: by the signs of the
    cross-entropy's gradient in linf, where the cosine is 1 less twice the share of pixels that go opposite ways (away
    from the range's ends, where a pixel can go one way only), and along the gradient in other norms.

    The cosine finds networks of one kind; it does not measure what an attack loses. Pooling that takes another of
    nearly equal pixels turns many signs and weakens nothing, where a twentieth of them, of filters that cancel, does.

    Args:
      first_fn, second_fn: see `precision.Functions.gradient_fn`.
      images: float32 [N, H, W, C] within the threat's bounds, of which the first `EXAMPLES` are looked at.
      labels: int [N].
      batch_size: images at a time; the last batch is filled up with copies that do not count.

    Returns:
      From -1 to 1; NaN if gradients are NaN or no pixel moves.

    Raises:
      NotDifferentiableError: if there are no gradients.
    """
    ascent = threat if threat.norm == "linf" else ThreatModel("l2", threat.epsilon, threat.bounds)

    @tf.function(autograph=False)
    def products(x, y, index):
        start = threat.random_start(x, seeds.per_example(0, index))

        def step(gradient_fn):
            gradient = input_gradient(gradient_fn(), losses.cross_entropy, start, y)
            moved = start + ascent.steepest_ascent(gradient, STEP * threat.epsilon)
            return tf.clip_by_value(moved, *threat.bounds) - start

        first, second = step(first_fn), step(second_fn)
        pixels = list(range(1, x.shape.rank))
        return [tf.reduce_sum(a * b, pixels) for a, b in ((first, second), (first, first), (second, second))]

    count, total, traced = min(len(images), EXAMPLES), np.zeros(3), None
    for i in range(0, count, batch_size):
        batch = np.minimum(np.arange(i, i + batch_size), count - 1)
        arguments = [tf.convert_to_tensor(part) for part in (images[batch], labels[batch], batch)]
        # Through its graph, as in `evaluation`.
        traced = traced or products.get_concrete_function(*arguments)
        total += [part.numpy()[: count - i].sum() for part in traced(*arguments)]
    length = math.sqrt(total[1] * total[2])
    return total[0] / length if length else math.nan
