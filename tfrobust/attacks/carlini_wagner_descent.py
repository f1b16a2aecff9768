"""How the Carlini-Wagner attacks descend: tanh space, Adam and the choice of what to try next, example by example.

Both attacks minimise, for a constant of each example that they adjust again and again,

    penalty(x_adv - x) + const * max(0, kappa - lead(logits(x_adv)))

where the lead is the margin by which the class is wrong, or by which it is the target. An attempt, a descent with one
constant, ends when its steps are used up or its loss no longer falls. What is tried next is the example's own affair:
in one batch some are in their first attempt and others in their last, and those that are done leave it.
"""

import math
import numbers
from collections.abc import Callable
from typing import Protocol

import tensorflow as tf

from tfrobust import losses
from tfrobust.attacks.base import LogitsFn, gradient_and_logits, require
from tfrobust.attacks.compaction import SHAPES, State, fooled
from tfrobust.attacks.minimum_norm import MinimumNorm, confirmed, shown_broken
from tfrobust.shapes import choose, column_of, has_nan
from tfrobust.threat_models import ThreatModel

# Adam, as in Kingma and Ba 2015.
BETA_1, BETA_2, TINY = 0.9, 0.999, 1e-8
# How much of tanh's range the valid pixels take. The authors have 1 - 1e-6, where a black pixel has a slope of 1e-6 and
# takes some 500 steps to become visible.
SHARE = 0.9
# An attempt goes on as long as its loss falls by a ten thousandth in every tenth of its steps.
CHECKS, LEAST_FALL = 10, 1e-4
# Steps after which examples that are done leave the batch.
STEPS_AT_ONCE = 10


class Configuration(Protocol):
    """What `descend` reads of an attack; see `carlini_wagner.CarliniWagnerL2` for their meaning."""

    norm: str
    bounds: tuple[float, float]
    steps: int
    initial_const: float
    learning_rate: float
    kappa: float
    abort_early: bool
    targeted: bool


# (x_adv - x as parts of the pixel range [B, ...], state) -> penalty [B] and its gradient [B, ...].
Penalty = Callable[[tf.Tensor, State], tuple[tf.Tensor, tf.Tensor]]
# (state, whether the attempt is over [B]) -> state, and whether another attempt begins [B]. It may change "w", "const",
# "done" and what it has added to the state itself. "found" says whether the attempt has met an adversarial image.
Follow = Callable[[State, tf.Tensor], tuple[State, tf.Tensor]]


def check(attack: Configuration) -> None:
    """Raises ValueError unless the fields of the configuration are in their ranges."""
    ThreatModel(attack.norm, 0.0, attack.bounds)  # Checks the bounds.
    require(attack, steps=1)
    require_finite(attack, "initial_const", "learning_rate")
    if not (isinstance(attack.kappa, numbers.Real) and 0 <= attack.kappa < math.inf):
        raise ValueError(f"kappa must be a finite number from 0 up, got {attack.kappa!r}")


def require_finite(configuration, *names: str) -> None:
    """Raises ValueError unless each named field is a finite number above 0."""
    for name in names:
        value = getattr(configuration, name)
        if not (isinstance(value, numbers.Real) and 0 < value < math.inf):
            raise ValueError(f"{name} must be a finite number above 0, got {value!r}")


def to_tanh_space(x: tf.Tensor, bounds: tuple[float, float]) -> tf.Tensor:
    """The w of which `to_pixels` makes x."""
    low, high = bounds
    return tf.atanh(SHARE * (2 * (x - low) / (high - low) - 1))


def to_pixels(w: tf.Tensor, bounds: tuple[float, float]) -> tuple[tf.Tensor, tf.Tensor]:
    """Pixels clip((low + high) / 2 + (high - low) / 2 * tanh(w) / SHARE), and their slope as if there were no clip.

    A pixel beyond the bounds still feels the gradient, and comes back where that pulls it.
    """
    low, high = bounds
    tanh = tf.tanh(w)
    half = (high - low) / 2
    return tf.clip_by_value(low + half * (1 + tanh / SHARE), low, high), half / SHARE * (1 - tf.square(tanh))


def descend(
    attack: Configuration, penalty: Penalty, follow: Follow, more: State, logits_fn: LogitsFn, x, y, judge_fn
) -> MinimumNorm:
    """The nearest adversarial image that any attempt meets.

    Args:
      penalty, follow: see `Penalty` and `Follow`.
      more: what they add to the state, tensors [B, ...] by name.
      logits_fn, x, y, judge_fn: see `minimum_norm.MinimumNormAttack.minimize`.
    """
    threat = ThreatModel(attack.norm, 0.0, attack.bounds)
    width = attack.bounds[1] - attack.bounds[0]
    period = -(-attack.steps // CHECKS)

    def lead(logits, y):
        margin = losses.margin(logits, y)
        return -margin if attack.targeted else margin

    def shortfall(logits, y):
        # Unlike tf.nn.relu it has a gradient at 0, where an image lies on the boundary.
        return tf.maximum(attack.kappa - lead(logits, y), 0.0)

    def nearest(state, x_adv, logits):
        """The state with x_adv where that is adversarial and nearer; `judge_fn` sees only what would change it."""
        distance = threat.distance(x_adv, state["x"])
        nearer = distance < state["distance"]
        adversarial = (lead(logits, state["y"]) > attack.kappa) & (nearer | ~state["found"]) & ~state["done"]
        if judge_fn is not None:
            adversarial &= fooled(judge_fn, x_adv, state["y"], adversarial) != attack.targeted
        nearer &= adversarial
        return {
            **state,
            "x_adv": choose(nearer, x_adv, state["x_adv"]),
            "distance": tf.where(nearer, distance, state["distance"]),
            "found": state["found"] | adversarial,
        }

    def step(state):
        x_adv, slope = to_pixels(state["w"], attack.bounds)
        gradient, logits, gap = gradient_and_logits(logits_fn, shortfall, x_adv, state["y"])
        state = nearest(state, x_adv, logits)
        size, size_gradient = penalty((x_adv - state["x"]) / width, state)
        const = column_of(tf.cast(state["const"], x.dtype), x)
        state, over = _watched(attack, period, state, size + state["const"] * gap)
        # What has become NaN stays so for the rest of the attempt. A constant that is too large may make it so, too.
        over |= has_nan(gradient)
        state = {**state, "broken": state["broken"] | (has_nan(gradient) & ~has_nan(x_adv))}
        state = _adam(state, slope * (const * gradient + size_gradient / width), attack.learning_rate)
        state, anew = follow(state, over)
        return _begun(state, anew)

    at_once = lead((judge_fn or logits_fn)(x), y) > attack.kappa
    count = tf.shape(x)[0]
    state = {"x": x, "y": y, "w": to_tanh_space(x, attack.bounds), "m": x, "v": x, "x_adv": x, "done": at_once, **more}
    state |= {"const": tf.fill([count], float(attack.initial_const)), "distance": tf.where(at_once, 0.0, math.inf)}
    state |= dict.fromkeys(("lowest", "lately"), tf.fill([count], math.inf))
    state |= {"step": tf.zeros([count], tf.int32)} | dict.fromkeys(("found", "broken"), tf.zeros([count], tf.bool))
    state = _until_done(step, _begun(state, tf.ones([count], tf.bool)))
    found = MinimumNorm(tf.stop_gradient(state["x_adv"]), state["distance"], tf.math.is_finite(state["distance"]))
    if judge_fn:
        found = confirmed(found, x, y, judge_fn, attack.targeted)
    return shown_broken(found, state["broken"])


def _watched(attack, period, state, loss):
    """The state with the lowest loss brought up to date, and whether the attempt is over."""
    lately = tf.minimum(state["lately"], loss)
    is_check = state["step"] % period == 0
    over = state["step"] + 1 >= attack.steps
    if attack.abort_early:
        over |= is_check & (lately > (1 - LEAST_FALL) * state["lowest"])
    lowest = tf.where(is_check, tf.minimum(lately, state["lowest"]), state["lowest"])
    return {**state, "lowest": lowest, "lately": tf.where(is_check, math.inf, lately)}, over


def _adam(state, gradient, learning_rate):
    step = state["step"] + 1
    m = BETA_1 * state["m"] + (1 - BETA_1) * gradient
    v = BETA_2 * state["v"] + (1 - BETA_2) * tf.square(gradient)
    t = column_of(tf.cast(step, gradient.dtype), gradient)
    change = m / (1 - tf.pow(tf.cast(BETA_1, t.dtype), t))
    change /= tf.sqrt(v / (1 - tf.pow(tf.cast(BETA_2, t.dtype), t))) + TINY
    return {**state, "w": state["w"] - learning_rate * change, "m": m, "v": v, "step": step}


def _begun(state, anew):
    """The state with Adam and the losses as they are before an attempt, for the examples that begin one."""
    return {
        **state,
        "m": choose(anew, tf.zeros_like(state["m"]), state["m"]),
        "v": choose(anew, tf.zeros_like(state["v"]), state["v"]),
        "step": tf.where(anew, 0, state["step"]),
        "lowest": tf.where(anew, math.inf, state["lowest"]),
        "lately": tf.where(anew, math.inf, state["lately"]),
        "found": state["found"] & ~anew,
    }


def _until_done(step, state):
    """Steps of the examples that are not done, until all are; every few steps the batch shrinks, by eighths."""
    count = tf.shape(state["done"])[0]
    unit = tf.maximum((count + SHAPES - 1) // SHAPES, 1)

    def body(state):
        standing = tf.math.count_nonzero(~state["done"], dtype=tf.int32)
        size = tf.minimum((standing + unit - 1) // unit * unit, count)
        order = tf.argsort(tf.cast(state["done"], tf.int32), stable=True)[:size]
        part = {name: tf.gather(value, order) for name, value in state.items()}
        _, part = tf.while_loop(
            lambda index, part: (index < STEPS_AT_ONCE) & ~tf.reduce_all(part["done"]),
            lambda index, part: (index + 1, step(part)),
            (tf.constant(0), part),
            parallel_iterations=1,
        )
        order = order[:, tf.newaxis]
        return ({name: tf.tensor_scatter_nd_update(value, order, part[name]) for name, value in state.items()},)

    return tf.while_loop(lambda state: ~tf.reduce_all(state["done"]), body, (state,), parallel_iterations=1)[0]
