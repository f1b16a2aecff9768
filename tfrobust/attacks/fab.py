"""The fast adaptive boundary attack: the nearest adversarial image, by steps between linearised boundaries.

FAB(ThreatModel("linf", 0.3)).minimize(model, x, y, seed=0)          # as near as it gets, whatever epsilon
FAB(ThreatModel("linf", 0.3), targets=9)(model, x, y, seed=0)        # FAB-T, the third attack of AutoAttack
"""

import dataclasses
import math
import numbers

import tensorflow as tf

from tfrobust import losses, seeds
from tfrobust.attacks.base import LogitsFn, NotDifferentiableError, checked_examples, gradient_and_logits, require
from tfrobust.attacks.compaction import first_success, run_rounds
from tfrobust.attacks.fab_projections import steps_to_hyperplane
from tfrobust.attacks.minimum_norm import MinimumNorm
from tfrobust.attacks.targets import ranked_targets
from tfrobust.shapes import choose, column_of, dot, largest, norms_l2, sum_l1
from tfrobust.threat_models import ThreatModel

SIZE = {"linf": largest, "l2": norms_l2, "l1": sum_l1}
DUAL = {"linf": sum_l1, "l2": norms_l2, "l1": largest}
# The least length of a step where two are compared, and what keeps the distance of a boundary without gradient finite.
SHORTEST, TINY = 1e-8, 1e-12
# Gradients that one forward pass serves. With more classes it is repeated: the graph does not grow with them.
CLASSES_AT_ONCE = 10


@dataclasses.dataclass(frozen=True)
class FAB:
    """Steps onto the decision boundary as it looks from the last point, drawn toward the image.

        d_now, d_x = shortest steps within bounds, from x_now and from x, onto the hyperplane that stands for it
        alpha = min(|d_now| / (|d_now| + |d_x|), alpha_max)
        x_new = clip((1 - alpha) (x_now + eta d_now) + alpha (x + eta d_x))
        x_now = x_new, or x + beta (x_new - x) where x_new is adversarial

    Croce and Hein 2020, "Minimally distorted adversarial examples with a fast adaptive boundary attack", algorithm 1.
    The hyperplane is, of those of all other classes, the one nearest to x_now (untargeted), or that of one target
    class. In both cases any wrong class is a success. As in the published code of AutoAttack, which has no final
    search, with two exceptions. Random starts fill their ball and are not on its surface. And where `judge_fn` has
    just computed the logits of x_now, because it is x or an x_new that is not adversarial, they place the hyperplane:
    the rounding of a fast `logits_fn` would shift it, and beside an image close to the boundary that matters.

    Attributes:
      threat: linf, l2 or l1. Its epsilon is the budget of `__call__` and bounds random starts.
      steps: gradient steps of a run, 1 or more; AutoAttack takes 100.
      restarts: runs, 1 or more; for each target, where there are any. The first one starts at x, every other one at a
        random point within half of epsilon, or within half of the least distance found so far, if that is less.
      targets: aim at so many classes in turn, the likeliest first, from 0 (untargeted). No more than there are.
      alpha_max: the strongest pull toward x, from 0 to 1.
      eta: the length of a step, 1 being just onto the hyperplane; 1 or more.
      beta: what is left of the change after a success, from 0 to 1.

    Raises:
      ValueError: for values out of these ranges.
    """

    threat: ThreatModel
    steps: int = 100
    restarts: int = 1
    targets: int = 0
    alpha_max: float = 0.1
    eta: float = 1.05
    beta: float = 0.9

    def __post_init__(self):
        require(self, steps=1, restarts=1, targets=0)
        for name, low, high in (("alpha_max", 0, 1), ("eta", 1, math.inf), ("beta", 0, 1)):
            value = getattr(self, name)
            if not (isinstance(value, numbers.Real) and low <= value <= high and math.isfinite(value)):
                wanted = "a finite number from 1 up" if high == math.inf else f"from {low} to {high}"
                raise ValueError(f"{name} must be {wanted}, got {value!r}")

    @property
    def norm(self) -> str:
        """The norm that is minimised: the threat's."""
        return self.threat.norm

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest valid pixel: the threat's."""
        return self.threat.bounds

    def minimize(
        self, logits_fn: LogitsFn, x: tf.Tensor, y: tf.Tensor, *, seed, judge_fn: LogitsFn | None = None
    ) -> MinimumNorm:
        """The nearest adversarial image that any run finds, within epsilon or not; see `MinimumNormAttack.minimize`.

        Where gradients are not finite, neither is the image: left as it is, it would pass for a robust one.
        """
        x, y = checked_examples(x, y, self.bounds)
        judge_fn = judge_fn or logits_fn
        logits = tf.cast(judge_fn(x), tf.float32)
        boundary, ranked = self._aims(logits_fn, logits, y)
        # As `first_success` does, so that runs start where those of `__call__` do.
        seed = seeds.for_each_example(seed, tf.shape(x)[0])

        def run(index, nearest, distance):
            target = tf.gather(ranked, index // self.restarts, axis=1)
            begin = self._start(x, logits, seeds.fold_in(seed, index), index % self.restarts, distance)

            def step(count, x_now, judged, nearest, distance):
                x_new, x_now, judged, reached = self._step(boundary, judge_fn, x, y, target, x_now, judged)
                nearer = (reached < distance) | tf.math.is_nan(reached)
                return count + 1, x_now, judged, choose(nearer, x_new, nearest), tf.where(nearer, reached, distance)

            state = (tf.constant(0), *begin, nearest, distance)
            state = tf.while_loop(lambda count, *_: count < self.steps, step, state, parallel_iterations=1)
            return index + 1, *state[3:]

        def going_on(index, nearest, distance):
            return (index < self.restarts * ranked.shape[1]) & tf.reduce_any(distance > 0)

        state = (tf.constant(0), x, tf.where(_wrong(logits, y), 0.0, math.inf))
        _, nearest, distance = tf.while_loop(going_on, run, state, parallel_iterations=1)
        nearest, distance = tf.stop_gradient(nearest), tf.stop_gradient(distance)
        return MinimumNorm(nearest, distance, tf.math.is_finite(distance))

    def __call__(
        self, logits_fn: LogitsFn, x: tf.Tensor, y: tf.Tensor, *, seed, judge_fn: LogitsFn | None = None
    ) -> tf.Tensor:
        """x_adv of the shape and dtype of x [B, H, W, C]; see `pgd.PGD.__call__`. `judge_fn` decides who is fooled.

        The first adversarial image within epsilon that any run meets, and x where there is none, or NaN where gradients
        were. As nothing nearer than epsilon has been found before a restart, it starts within half of epsilon.
        """
        x, y = checked_examples(x, y, self.bounds)
        judge_fn = judge_fn or logits_fn
        logits = tf.cast(judge_fn(x), tf.float32)
        boundary, ranked = self._aims(logits_fn, logits, y)

        def advance(_, state):
            names = ("x", "y", "target", "x_now", "judged")
            x_new, x_now, judged, reached = self._step(boundary, judge_fn, *(state[name] for name in names))
            # NaN is kept: what broke down is to be seen in the result.
            hit = ~(reached > self.threat.epsilon)
            x_adv = choose(hit, x_new, state["x_adv"])
            return {**state, "x_now": x_now, "judged": judged, "x_adv": x_adv, "claimed": state["claimed"] | hit}

        def run(x, y, seed, index, ranked, logits):
            nothing_yet = tf.fill(tf.shape(y), math.inf)
            x_now, judged = self._start(x, logits, seed, index % self.restarts, nothing_yet)
            target = tf.gather(ranked, index // self.restarts, batch_dims=1)
            state = {"x": x, "y": y, "x_adv": x, "claimed": _wrong(logits, y)}
            state |= {"target": target, "x_now": x_now, "judged": judged}
            return run_rounds(advance, state, rounds=self.steps, judge_fn=judge_fn)[0]

        runs = self.restarts * ranked.shape[1]
        found = first_success(run, x, y, runs=runs, seed=seed, judge_fn=judge_fn, more=(ranked, logits))
        return tf.stop_gradient(choose(_wrong(logits, y), x, found))

    def _aims(self, logits_fn, logits, y):
        """The boundary as a function of (x_now, y, target, judged), and the targets [B, T] of the runs."""
        if not self.targets:
            return lambda x, y, _, judged: nearest_boundary(logits_fn, x, y, self.norm, judged), y[:, tf.newaxis]

        def targeted_boundary(x, y, target, judged):
            pair = (y, target)
            gradient, logits, _ = gradient_and_logits(logits_fn, losses.margin_targeted, x, pair)
            return gradient, losses.margin_targeted(_known(judged, logits), pair)

        return targeted_boundary, ranked_targets(logits, y, min(self.targets, logits.shape[-1] - 1))

    def _start(self, x, logits, seed, restart, distance):
        """x_now, and the judge's logits there, known where that is x itself."""
        if self.restarts == 1:
            return x, logits
        first = tf.fill(tf.shape(distance), True) & (restart == 0)
        radius = tf.where(first, 0.0, tf.minimum(distance, self.threat.epsilon) / 2)
        share = tf.cast(tf.math.divide_no_nan(radius, self.threat.epsilon), x.dtype)
        start = x + column_of(share, x) * (self.threat.random_start(x, seed) - x)
        return start, tf.where(first[:, tf.newaxis], logits, math.nan)

    def _step(self, boundary, judge_fn, x, y, target, x_now, judged):
        """x_new, the next x_now, the judge's logits there, NaN where they are not known, and the distance of x_new from
        x [B], infinity where it is not adversarial."""
        gradient, gap = boundary(x_now, y, target, judged)
        gap = tf.cast(gap, x.dtype)
        to_now = steps_to_hyperplane(x_now, gradient, gap, self.norm, self.bounds)
        gap += tf.reshape(dot(gradient, x - x_now), [-1])
        to_x = steps_to_hyperplane(x, gradient, gap, self.norm, self.bounds)
        from_now, from_x = (tf.maximum(SIZE[self.norm](step), SHORTEST) for step in (to_now, to_x))
        alpha = tf.minimum(from_now / (from_now + from_x), self.alpha_max)
        x_new = (1 - alpha) * (x_now + self.eta * to_now) + alpha * (x + self.eta * to_x)
        x_new = tf.ensure_shape(tf.clip_by_value(x_new, *self.bounds), x.shape)
        logits = tf.ensure_shape(tf.cast(judge_fn(x_new), tf.float32), judged.shape)
        wrong, distance = _wrong(logits, y), self.threat.distance(x_new, x)
        reached = tf.where(wrong | tf.math.is_nan(distance), distance, math.inf)
        back = x + self.beta * (x_new - x)
        return x_new, choose(wrong, back, x_new), tf.where(wrong[:, tf.newaxis], math.nan, logits), reached


def nearest_boundary(
    logits_fn: LogitsFn, x: tf.Tensor, y: tf.Tensor, norm: str, judged: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Of the boundaries to all classes but y, linearised at x, the one nearest to x in the norm, box aside.

        argmin_{k != y} |z_k - z_y| / |grad (z_k - z_y)|_dual

    Args:
      logits_fn: differentiated once for each class.
      x, y: [B, ...] and int64 [B].
      norm: "linf", "l2" or "l1"; their duals are l1, l2 and linf.
      judged: logits z of x that replace those of `logits_fn`, float32 [B, K]; NaN where there are none.

    Returns:
      The gradient of that z_k - z_y, of the shape of x, and its value, float32 [B].
    """
    classes = judged.shape[-1]

    def look(x, y, judged, first, nearest, gradient, gap):
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(x)
            logits = tf.cast(logits_fn(x), tf.float32)
        known = _known(judged, logits)
        for offset in range(min(CLASSES_AT_ONCE, classes)):
            # The last class may be seen twice, which changes nothing.
            other = tf.minimum(first + offset, classes - 1)
            pair = tf.one_hot(other, classes) - tf.one_hot(y, classes)
            slope = tape.gradient(logits, x, output_gradients=pair)
            if slope is None:
                raise NotDifferentiableError("classifier must be differentiable with respect to its input for FAB")
            difference = tf.reduce_sum(pair * known, axis=1)
            steepness = tf.cast(tf.reshape(DUAL[norm](slope), [-1]), tf.float32)
            distance = tf.where(y == tf.cast(other, y.dtype), math.inf, tf.abs(difference) / (steepness + TINY))
            # NaN is kept: what broke down is to be seen in the result.
            nearer = (distance < nearest) | tf.math.is_nan(distance)
            nearest, gap = tf.where(nearer, distance, nearest), tf.where(nearer, difference, gap)
            gradient = choose(nearer, slope, gradient)
        return nearest, gradient, gap

    def body(first, *best):
        if tf.executing_eagerly():
            return first + CLASSES_AT_ONCE, *look(x, y, judged, first, *best)
        # A graph of its own, for the reason given in `base.gradient_and_logits`.
        apart = tf.function(look, autograph=False, experimental_attributes={"_noinline": True})
        return first + CLASSES_AT_ONCE, *apart(x, y, judged, first, *best)

    start = (tf.constant(0), tf.fill(tf.shape(y), math.inf), tf.zeros_like(x), tf.zeros(tf.shape(y)))
    _, _, gradient, gap = tf.while_loop(lambda first, *_: first < classes, body, start, parallel_iterations=1)
    return gradient, gap


def _known(judged, logits):
    return tf.where(tf.math.is_nan(judged), tf.cast(logits, tf.float32), judged)


def _wrong(logits, y):
    return tf.argmax(logits, axis=-1) != y
