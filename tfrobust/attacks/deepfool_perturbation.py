"""DeepFool's perturbation as a function of the weights: what Deep Defense trains on and what rho2 measures.

with tf.GradientTape() as tape:
    delta, crossed = deepfool_perturbation(model, x, y, iterations=5)
    length = tf.norm(tf.reshape(delta, [len(x), -1]), axis=1)
tape.gradient(length, model.trainable_variables)
"""

from typing import Literal, NamedTuple

import tensorflow as tf

from tfrobust.attacks.base import LogitsFn, require_norm
from tfrobust.attacks.nearest_boundary import nearest_boundary
from tfrobust.attacks.targets import ranked_targets
from tfrobust.shapes import choose, column_of, largest, sum_l1


class Perturbation(NamedTuple):
    """What was found.

    Attributes:
      delta: the change of each image, [B, ...]; it is not clipped to the range of pixels.
      crossed: whether the class has changed, bool [B].
    """

    delta: tf.Tensor
    crossed: tf.Tensor


def deepfool_perturbation(
    logits_fn: LogitsFn,
    x: tf.Tensor,
    y: tf.Tensor,
    *,
    iterations: int | tf.Tensor,
    norm: Literal["l2", "linf"] = "l2",
    overshoot: float = 0.02,
    candidates: int | None = 10,
    choose_fn: LogitsFn | None = None,
    differentiable: bool = True,
) -> Perturbation:
    """The change of DeepFool (Moosavi-Dezfooli et al. 2016) in the form of Deep Defense (Yan et al. 2018, eq. 2, 5, 6).

    An image that is classified as y steps onto the nearest boundary to another class, until it is not y any more. One
    that is not is moved toward y: onto the boundary between what it is taken for and y, until it is y. With f the
    difference of the two logits and w its gradient at x + r_0 + ... + r_{i-1},

        r_i = |f| w / |w|_2^2   (l2)        r_i = |f| sign(w) / |w|_1   (linf)        delta = (1 + overshoot) sum_i r_i

    As in the authors' code the class is asked for at x + delta but linearised at x + sum r_i, the classes are those
    likeliest on the clean image throughout, what has crossed is left as it is, and nothing is clipped. That code also
    adds 5e-6 or 1e-5 to every component of w, against a division by 0, which here is a defined result instead. For
    rho2, where every image leaves the class that it is given, y must be that class.

    Gradients flow through all iterations, f and w being functions of the weights and of the steps before; classes and
    masks are constants. Which boundary is nearest is found without gradients; only its step is differentiated, twice.
    Images that have crossed are not computed again.

    Args:
      logits_fn: images [B, ...] -> logits [B, K], twice differentiable; the type of x is that of the computation.
      x, y: images [B, ...] and classes [B].
      iterations: the most steps, 1 or more. The graph of the differentiable form grows with them; of the other form it
        may be a scalar tensor.
      norm: what is smallest.
      overshoot: 0 or more.
      candidates: how many of the likeliest classes count, y among them, 2 or more; None for all.
      choose_fn: stands in for logits_fn where the nearest boundary is looked for; it needs a first derivative only.
      differentiable: False takes a loop that keeps nothing for gradients, which are stopped.

    Raises:
      ValueError: for values out of these ranges.
    """
    require_norm(norm)
    if tf.is_tensor(iterations):
        if differentiable:
            raise ValueError(f"iterations must be a number where differentiable is true, got {iterations!r}")
    elif not iterations >= 1:
        raise ValueError(f"iterations must be 1 or more, got {iterations!r}")
    if not overshoot >= 0:
        raise ValueError(f"overshoot must be 0 or more, got {overshoot!r}")
    if candidates is not None and candidates < 2:
        raise ValueError(f"candidates must be 2 or more, or None, got {candidates!r}")
    x, y = tf.convert_to_tensor(x), tf.cast(y, tf.int64)
    choose_fn = choose_fn or logits_fn
    clean = logits_fn(x)
    is_wrong = tf.argmax(clean, axis=-1) != y
    others = ranked_targets(clean, y, min(candidates or clean.shape[-1], clean.shape[-1]) - 1)

    def advance(total, crossed):
        # One image stays when all have crossed, and keeps its change: convolutions of an empty batch have no gradient.
        stays = tf.reduce_all(crossed) & (tf.range(tf.size(crossed)) == 0)
        slots = tf.where(~crossed | stays)
        x_now, y_now, wrong_now = (tf.gather_nd(part, slots) for part in (x + total, y, is_wrong))
        nearest = nearest_boundary(choose_fn, tf.stop_gradient(x_now), y_now, tf.gather_nd(others, slots), norm)[2]
        step = _step(logits_fn, x_now, y_now, wrong_now, nearest, norm)
        step = choose(tf.gather_nd(crossed, slots), tf.zeros_like(step), step)
        total = tf.tensor_scatter_nd_add(total, slots, step)
        x_adv = tf.gather_nd(x, slots) + (1 + overshoot) * tf.gather_nd(total, slots)
        is_y = tf.argmax(logits_fn(tf.stop_gradient(x_adv)), axis=-1) == y_now
        return total, crossed | tf.scatter_nd(slots, is_y == wrong_now, tf.shape(crossed, out_type=tf.int64))

    state = (tf.zeros_like(x), tf.zeros_like(is_wrong))
    if differentiable:
        for _ in range(iterations):
            state = advance(*state)
    else:
        state = tf.while_loop(
            lambda total, crossed: ~tf.reduce_all(crossed),
            advance,
            state,
            maximum_iterations=iterations,
            parallel_iterations=1,
        )
        state = tf.nest.map_structure(tf.stop_gradient, state)
    total, crossed = state
    return Perturbation((1 + overshoot) * total, crossed)


def _step(logits_fn, x, y, is_wrong, nearest, norm):
    """The step onto a boundary, [B, ...]: to that of y and `nearest`, or where `is_wrong` to that of y itself."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        logits = logits_fn(x)
        source = tf.where(is_wrong, tf.argmax(logits, axis=-1), y)
        target = tf.where(is_wrong, y, nearest)
        difference = tf.gather(logits, target, batch_dims=1) - tf.gather(logits, source, batch_dims=1)
    gradient = tape.gradient(difference, x)
    # In units of its largest entry, a constant, so that no square of a tiny gradient underflows, nor its derivative.
    unit = tf.stop_gradient(largest(gradient))
    # Where nothing leads anywhere the step is 0, and so is its gradient; what is not finite stays so.
    leads = unit != 0
    safe = tf.where(leads, unit, tf.ones_like(unit))
    scaled = gradient / safe
    length, direction = column_of(tf.abs(difference), x) / safe, scaled
    if norm == "linf":
        size, direction = sum_l1(scaled), tf.sign(scaled)
    else:
        size = tf.reduce_sum(tf.square(scaled), list(range(1, x.shape.rank)), keepdims=True)
    step = length / tf.where(leads, size, tf.ones_like(size)) * direction
    return choose(tf.reshape(leads, [-1]), step, tf.zeros_like(x))
