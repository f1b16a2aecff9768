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

from tfrobust.attacks.base import LogitsFn, checked_examples, require, require_norm
from tfrobust.attacks.compaction import run_rounds
from tfrobust.attacks.hyperplanes import step_along
from tfrobust.attacks.minimum_norm import MinimumNorm, confirmed, shown_broken
from tfrobust.attacks.nearest_boundary import nearest_boundary
from tfrobust.attacks.targets import ranked_targets
from tfrobust.shapes import choose, has_nan
from tfrobust.threat_models import ThreatModel

# The shortest step, as a part of the pixel range: on a boundary the distance is 0, and the class is still the label.
LEAST_STEP = 1e-5


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
        require_norm(self.norm)
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
        x, y = checked_examples(x, y, self.bounds)
        judge_fn = judge_fn or logits_fn
        logits = judge_fn(x)
        at_once = tf.argmax(logits, axis=-1) != y
        candidates = min(self.candidates or logits.shape[-1], logits.shape[-1])

        def advance(index, state):
            moved = self._step(logits_fn, state["x_adv"], state["y"], state["others"])
            return {**state, "x_adv": moved, "claimed": tf.ones_like(state["claimed"])}

        state = {"x_adv": x, "y": y, "others": ranked_targets(logits, y, candidates - 1), "claimed": at_once}
        x_adv, success = run_rounds(advance, state, rounds=self.steps, judge_fn=judge_fn)
        broken = has_nan(x_adv)
        success &= ~broken
        x_adv = choose(success & ~at_once, x_adv, x)
        distance = ThreatModel(self.norm, 0.0, self.bounds).distance(x_adv, x)
        found = confirmed(MinimumNorm(tf.stop_gradient(x_adv), distance, success | at_once), x, y, judge_fn)
        return shown_broken(found, broken)

    def _step(self, logits_fn, x_adv, y, others):
        """The next image of each example, whose other candidate classes are `others` [B, C]."""
        low, high = self.bounds
        distance, gradient, _ = nearest_boundary(logits_fn, x_adv, y, others, self.norm, self.bounds)
        length = (1 + self.overshoot) * tf.maximum(distance, LEAST_STEP * (high - low))
        return tf.clip_by_value(x_adv + step_along(length, gradient, self.norm), low, high)
