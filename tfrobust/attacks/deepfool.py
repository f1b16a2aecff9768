"""DeepFool: step onto the nearest of the linearised class boundaries, until the class changes.

attack = DeepFool("l2")
found = attack.minimize(model, x, y, seed=0)                            # MinimumNorm(x_adv, distance, success)
x_adv = WithinBall(attack, ThreatModel("l2", 2.0))(model, x, y, seed=0)
"""

import dataclasses
import math
import numbers
from typing import Literal

import tensorflow as tf

from tfrobust import losses
from tfrobust.attacks.base import LogitsFn, NotDifferentiableError, require
from tfrobust.attacks.compaction import run_rounds
from tfrobust.attacks.hyperplanes import distance_to_hyperplane, step_along
from tfrobust.attacks.minimum_norm import MinimumNorm
from tfrobust.attacks.targets import ranked_targets
from tfrobust.shapes import choose
from tfrobust.threat_models import ThreatModel

# The shortest step, as a part of the pixel range: on a boundary the distance is 0, and the class is still the label.
LEAST_STEP = 1e-5
# Backward passes that share a forward pass. They are unrolled in the graph, which must not grow with the classes.
CLASSES_AT_ONCE = 9


@dataclasses.dataclass(frozen=True)
class DeepFool:
    """Steps onto the nearest boundary between the label's class and another, each taken for a hyperplane.

        f_k = logits_k(x_t) - logits_y(x_t),   w_k = grad f_k,   l = argmin_k |f_k| / |w_k|_q
        x_{t+1} = clip(x_t + (1 + overshoot) |f_l| / |w_l|_q * d_l)

    Moosavi-Dezfooli et al. 2016, algorithm 2 and, for linf, section 3.3: q is 2 and d_l = w_l / |w_l|_2 in l2; q is 1
    and d_l = sign(w_l) in linf. As in the authors' code every step is overshot, so that the next one starts from the
    image that was tried, and the classes are those likeliest on the clean image throughout. Two things the paper does
    not have: images are clipped to bounds, and pixels at a bound that the step would push past it count as 0 in w_k,
    without which steps fall short of the boundary again and again.

    An example stops as soon as `judge_fn` misclassifies it; the result does not depend on the seed.

    Attributes:
      norm: "l2" or "linf".
      bounds: lowest and highest valid pixel.
      steps: the most steps, 1 or more.
      overshoot: by which part every step is longer than the way to the hyperplane, 0 or more.
      candidates: how many of the likeliest classes count, the label's among them, 2 or more; None for all.

    Raises:
      ValueError: for values out of these ranges.
    """

    norm: Literal["l2", "linf"]
    bounds: tuple[float, float] = (0.0, 1.0)
    steps: int = 50
    overshoot: float = 0.02
    candidates: int | None = 10

    def __post_init__(self):
        if self.norm not in ("l2", "linf"):
            raise ValueError(f"norm must be 'l2' or 'linf', got {self.norm!r}")
        ThreatModel(self.norm, 0.0, self.bounds)  # Checks the bounds.
        require(self, steps=1)
        if self.candidates is not None:
            require(self, candidates=2)
        if not (isinstance(self.overshoot, numbers.Real) and 0 <= self.overshoot < math.inf):
            raise ValueError(f"overshoot must be 0 or more, got {self.overshoot!r}")

    def minimize(
        self, logits_fn: LogitsFn, x: tf.Tensor, y: tf.Tensor, *, seed, judge_fn: LogitsFn | None = None
    ) -> MinimumNorm:
        """The adversarial images that were reached; see `minimum_norm.MinimumNormAttack.minimize`."""
        x, y = tf.convert_to_tensor(x), tf.cast(y, tf.int64)
        judge_fn = judge_fn or logits_fn
        logits = judge_fn(x)
        at_once = tf.argmax(logits, axis=-1) != y
        candidates = min(self.candidates or logits.shape[-1], logits.shape[-1])

        def advance(index, state):
            moved = self._step(logits_fn, state["x_adv"], state["y"], state["others"])
            return {**state, "x_adv": moved, "claimed": tf.ones_like(state["claimed"])}

        state = {"x_adv": x, "y": y, "others": ranked_targets(logits, y, candidates - 1), "claimed": at_once}
        x_adv, success = run_rounds(advance, state, rounds=self.steps, judge_fn=judge_fn)
        success |= at_once
        x_adv = choose(success & ~at_once, x_adv, x)
        distance = ThreatModel(self.norm, 0.0, self.bounds).distance(x_adv, x)
        return MinimumNorm(tf.stop_gradient(x_adv), tf.where(success, distance, math.inf), success)

    def _step(self, logits_fn, x_adv, y, others):
        """The next image of each example, whose other candidate classes are `others` [B, C]."""
        low, high = self.bounds
        distance, gradient = _nearest(self.norm, self.bounds, logits_fn, x_adv, y, others)
        length = (1 + self.overshoot) * tf.maximum(distance, LEAST_STEP * (high - low))
        return tf.clip_by_value(x_adv + step_along(length, gradient, self.norm), low, high)


def _nearest(norm, bounds, logits_fn, x_adv, y, others):
    """Distance [B] and gradient [B, ...] of the nearest boundary with one of the classes `others` [B, C]."""

    def look(classes, x_adv, y, distance, nearest):
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(x_adv)
            logits = logits_fn(x_adv)
            differences = [losses.margin_targeted(logits, (y, other)) for other in tf.unstack(classes, axis=1)]
        for difference in differences:
            gradient = tape.gradient(difference, x_adv)
            if gradient is None:
                raise NotDifferentiableError(
                    "classifier must be differentiable with respect to its input for this attack"
                )
            gradient = _within_bounds(gradient, x_adv, bounds)
            new = distance_to_hyperplane(difference, gradient, norm)
            nearest = choose(new < distance, gradient, nearest)
            distance = tf.minimum(new, distance)
        return distance, nearest

    if not tf.executing_eagerly():
        # A graph of its own, for the reason that `base.gradient_and_logits` has one.
        look = tf.function(look, autograph=False, experimental_attributes={"_noinline": True})
    count = others.shape[1]
    at_once = min(count, CLASSES_AT_ONCE)

    def body(start, distance, nearest):
        # The last classes come with some of those before them, so that there is only one shape.
        first = tf.minimum(start, count - at_once)
        classes = tf.ensure_shape(others[:, first : first + at_once], [None, at_once])
        return start + at_once, *look(classes, x_adv, y, distance, nearest)

    start = (tf.constant(0), tf.fill(tf.shape(y), tf.constant(math.inf, x_adv.dtype)), tf.zeros_like(x_adv))
    return tf.while_loop(lambda start, *_: start < count, body, start, parallel_iterations=1)[1:]


def _within_bounds(gradient, x_adv, bounds):
    """The gradient without the pixels at a bound that a step along it would push past it."""
    past = ((gradient < 0) & (x_adv <= bounds[0])) | ((gradient > 0) & (x_adv >= bounds[1]))
    return tf.where(past, tf.zeros_like(gradient), gradient)
