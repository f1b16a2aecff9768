"""How Auto-PGD moves: starts, steps and checkpoints, in linf and l2 (Croce and Hein 2020) and in l1 (2021)."""

import math

import tensorflow as tf

from tfrobust import seeds
from tfrobust.shapes import choose, column_of, has_nan, largest, norms_l2
from tfrobust.threat_models import ThreatModel

MOMENTUM = 0.25

# l1: what a step without progress is divided by, the most it may be divided by in all, the shrinkage of the support
# that counts as progress, and what the support is divided by for the number of pixels in a step.
L1_DIVISOR, L1_LEAST, L1_PROGRESS, L1_SHRINK = 1.5, 10.0, 0.95, 1.5


def start(threat: ThreatModel, x: tf.Tensor, seed) -> tf.Tensor:
    """A random point on the ball's surface; in l1, Gaussian noise projected onto the ball of the first phase."""
    if threat.norm == "linf":
        noise = seeds.uniform(seed, x, -1.0, 1.0)
        return threat.project(x + threat.epsilon * noise / largest(noise), x)
    noise = seeds.normal(seed, x)
    if threat.norm == "l2":
        return threat.project(x + threat.epsilon * noise / norms_l2(noise), x)
    return threat.scaled(phases("l1", 100)[0][0]).project(x + noise, x)


def phases(norm: str, steps: int) -> list[tuple[float, int]]:
    """Factors of epsilon with their steps: in l1 a ball that shrinks to its size, else one phase of all steps."""
    if norm != "l1" or steps < 3:
        return [(1.0, steps)]
    part = math.ceil(0.3 * steps)
    return [(3.0, part), (2.0, part), (1.0, steps - 2 * part)] if steps > 2 * part else [(1.0, steps)]


def round_lengths(norm: str, steps: int) -> list[int]:
    """Steps from one checkpoint to the next: 22, 19, 16, ... 6 percent; in l1 always 4 percent."""
    if norm == "l1":
        length, shortest, less = (max(int(0.04 * steps), 1),) * 2 + (0,)
    else:
        length, shortest, less = (max(int(share * steps), 1) for share in (0.22, 0.06, 0.03))
    lengths = []
    while sum(lengths) < steps:
        lengths.append(min(length, steps - sum(lengths)))
        length = max(length - less, shortest)
    return lengths


def begin(threat: ThreatModel, state: dict) -> dict:
    """Adds what checkpoints need to the state at the start, whose best point is the start."""
    ones, support = tf.ones_like(state["loss"]), _support(state)
    return {
        **state,
        "rises": tf.zeros_like(state["rises"]),
        "step_size": ones * (threat.epsilon if threat.norm == "l1" else 2 * threat.epsilon),
        "checked_loss": state["best_loss"],
        "reduced": tf.ones_like(state["claimed"]),
        "coordinates": support / L1_SHRINK,
        "support": support,
    }


def step(threat: ThreatModel, state: dict, *, first: tf.Tensor) -> tf.Tensor:
    """The next point: a steepest step and, but for l1 and the very first one, momentum."""
    x, x_now = state["x"], state["x_now"]
    size = column_of(tf.cast(state["step_size"], x.dtype), x)
    if threat.norm == "l1":
        return threat.project(x_now + threat.steepest_ascent(state["gradient"], size, state["coordinates"]), x)
    moved = threat.project(x_now + threat.steepest_ascent(state["gradient"], size), x)
    momentum = tf.cast(tf.where(first, 0.0, MOMENTUM), x.dtype)
    return threat.project(x_now + (1 - momentum) * (moved - x_now) + momentum * (x_now - state["x_before"]), x)


def checkpoint(threat: ThreatModel, state: dict, length: tf.Tensor, rho: float) -> dict:
    """Step sizes for the next round, and the best point as its start where the round went badly."""
    if threat.norm == "l1":
        return _l1_checkpoint(threat, state)
    few_rises = tf.cast(state["rises"], tf.float32) <= rho * tf.cast(length, tf.float32)
    stuck = ~state["reduced"] & (state["checked_loss"] >= state["best_loss"])
    reduce = few_rises | stuck
    return {
        **_restarted(state, reduce),
        "step_size": tf.where(reduce, state["step_size"] / 2, state["step_size"]),
        "reduced": reduce,
        "checked_loss": state["best_loss"],
    }


def _l1_checkpoint(threat, state):
    """As many pixels in the next steps as the best change has, less a third; full steps as long as they get fewer."""
    support = _support(state)
    sparser = support < L1_PROGRESS * state["support"]
    shorter = tf.maximum(state["step_size"] / L1_DIVISOR, threat.epsilon / L1_LEAST)
    return {
        **_restarted(state, sparser),
        "step_size": tf.where(sparser, threat.epsilon * tf.ones_like(shorter), shorter),
        "coordinates": support / L1_SHRINK,
        "support": support,
    }


def _support(state):
    """How many pixels the best point of each example has changed, float32 [B]."""
    changed = tf.reshape(state["best_x"] != state["x"], [tf.shape(state["x"])[0], -1])
    return tf.reduce_sum(tf.cast(changed, tf.float32), axis=1)


def _restarted(state, where):
    """The state with the best point as the present one; so, too, where a gradient is NaN or has led to NaN."""
    where |= has_nan(state["x_now"]) | has_nan(state["gradient"])
    return {
        **state,
        "x_before": tf.where(tf.math.is_nan(state["x_before"]), state["best_x"], state["x_before"]),
        "x_now": choose(where, state["best_x"], state["x_now"]),
        "gradient": choose(where, state["best_gradient"], state["gradient"]),
        "rises": tf.zeros_like(state["rises"]),
    }
