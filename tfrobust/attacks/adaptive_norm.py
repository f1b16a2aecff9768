"""The loop of the attacks that adapt a norm to each example as they go, DDN and FMN.

At every step they look at a point, remember it if it is the nearest adversarial one so far, change the norm epsilon of
the example accordingly, and move along the gradient to a point of that norm.
"""

import math
import numbers
from collections.abc import Callable
from typing import NamedTuple, Protocol

import tensorflow as tf

from tfrobust import seeds
from tfrobust.attacks.base import LogitsFn, gradient_and_logits
from tfrobust.attacks.compaction import fooled
from tfrobust.attacks.minimum_norm import MinimumNorm, confirmed, shown_broken
from tfrobust.losses import LossFn, Targeted
from tfrobust.shapes import choose, largest
from tfrobust.threat_models import ThreatModel

# The step size after the last step, as a part of the first.
LAST_STEP_SIZE = 0.01


class Configuration(Protocol):
    """What `search` reads of an attack; see `ddn.DDN` for their meaning."""

    norm: str
    bounds: tuple[float, float]
    steps: int
    step_size: float
    targeted: bool


class Look(NamedTuple):
    """What is known at a point.

    Attributes:
      distance: float32 [B], from x.
      loss, gradient: [B] and [B, ...].
      adversarial: bool [B].
      nearest: the nearest adversarial point so far, this one included.
      stepped: [B, ...], the point after a gradient step, anywhere.
      wave: float32 scalar, half a cosine wave from 1 at the first step towards 0 after the last.
    """

    distance: tf.Tensor
    loss: tf.Tensor
    gradient: tf.Tensor
    adversarial: tf.Tensor
    nearest: MinimumNorm
    stepped: tf.Tensor
    wave: tf.Tensor


# (look, epsilon [B]) -> the next epsilon [B], the next point [B, ...] within bounds.
Move = Callable[[Look, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def search(
    attack: Configuration, loss: LossFn, move: Move, epsilon: float, logits_fn: LogitsFn, x, y, *, seed, judge_fn
) -> MinimumNorm:
    """The nearest adversarial image among x and the points of `attack.steps` moves.

    The gradient step is the steepest one of length `attack.step_size`, falling along a cosine to a hundredth of it: the
    sign in linf, the gradient of that Euclidean norm in l2 and l1. An example whose gradient is 0 steps at random.

    Args:
      loss: ascended; of a targeted attack, whose targets are `y`, it is descended.
      move: see `Move`.
      epsilon: the first norm of every example.
      logits_fn, x, y, seed, judge_fn: see `minimum_norm.MinimumNormAttack.minimize`.
    """
    loss = Targeted(loss) if attack.targeted else loss
    threat = ThreatModel(attack.norm, 0.0, attack.bounds)
    steepest = ThreatModel("linf" if attack.norm == "linf" else "l2", 0.0)

    def judge(x_adv, distance, logits, nearest):
        """Whether points are adversarial, and the nearest so far; `judge_fn` sees what would become the nearest."""
        adversarial = (tf.argmax(logits, axis=-1) == y) == attack.targeted
        nearer = adversarial & (distance < nearest.distance)
        if judge_fn is not None:
            confirmed = nearer & (fooled(judge_fn, x_adv, y, nearer) != attack.targeted)
            adversarial &= confirmed | ~nearer
            nearer = confirmed
        return adversarial, MinimumNorm(
            choose(nearer, x_adv, nearest.x_adv),
            tf.where(nearer, distance, nearest.distance),
            nearest.success | nearer,
        )

    def body(step, x_adv, epsilon, nearest):
        gradient, logits, value = gradient_and_logits(logits_fn, loss, x_adv, y)
        distance = threat.distance(x_adv, x)
        adversarial, nearest = judge(x_adv, distance, logits, nearest)
        wave = (1 + tf.cos(math.pi * tf.cast(step, tf.float32) / attack.steps)) / 2
        step_size = tf.cast(attack.step_size * (LAST_STEP_SIZE + (1 - LAST_STEP_SIZE) * wave), x.dtype)
        stepped = x_adv + steepest.steepest_ascent(_with_noise(gradient, seed, step), step_size)
        epsilon, x_adv = move(Look(distance, value, gradient, adversarial, nearest, stepped, wave), epsilon)
        return step + 1, x_adv, epsilon, nearest

    count = tf.shape(x)[0]
    nearest = MinimumNorm(x, tf.fill([count], math.inf), tf.zeros([count], tf.bool))
    if judge_fn is not None:
        at_once = (tf.argmax(judge_fn(x), axis=-1) == y) == attack.targeted
        nearest = MinimumNorm(x, tf.where(at_once, 0.0, math.inf), at_once)
    start = (tf.constant(0), x, tf.fill([count], float(epsilon)), nearest)
    _, x_adv, _, nearest = tf.while_loop(
        lambda step, *_: step < attack.steps, body, start, maximum_iterations=attack.steps, parallel_iterations=1
    )
    distance = threat.distance(x_adv, x)
    nearest = judge(x_adv, distance, logits_fn(x_adv), nearest)[1]
    nearest = nearest._replace(x_adv=tf.stop_gradient(nearest.x_adv))
    if judge_fn:
        nearest = confirmed(nearest, x, y, judge_fn, attack.targeted)
    # A gradient that is NaN makes all later points so.
    return shown_broken(nearest, tf.math.is_nan(distance))


def farthest(attack: Configuration, x: tf.Tensor) -> tf.Tensor:
    """How far away the farthest point within bounds is from each x [B, ...]: float32 [B]."""
    low, high = attack.bounds
    corner = tf.where(x - low > high - x, tf.cast(low, x.dtype), tf.cast(high, x.dtype))
    return ThreatModel(attack.norm, 0.0, attack.bounds).distance(corner, x)


def require_between(configuration, **limits: float) -> None:
    """Raises ValueError unless each named field of a configuration is a number above 0 and below its limit."""
    for name, limit in limits.items():
        value = getattr(configuration, name)
        if not (isinstance(value, numbers.Real) and 0 < value < limit):
            wanted = f"below {limit:g}" if limit < math.inf else "finite"
            raise ValueError(f"{name} must be above 0 and {wanted}, got {value!r}")


def _with_noise(gradient, seed, step):
    """The gradient [B, ...], and noise for the examples whose gradient is 0."""
    is_zero = largest(gradient) == 0

    def noisy():
        return tf.where(is_zero, seeds.normal(seeds.fold_in(seed, step), gradient), gradient)

    return tf.cond(tf.reduce_any(is_zero), noisy, lambda: gradient)
