"""DDN: the direction of an l2 attack follows the gradient, and its norm the decision of the classifier.

found = DDN().minimize(model, x, y, seed=0)                             # MinimumNorm(x_adv, distance, success)
x_adv = WithinBall(DDN(), ThreatModel("l2", 2.0))(model, x, y, seed=0)
"""

import dataclasses
import math
from typing import ClassVar

import tensorflow as tf

from tfrobust import losses
from tfrobust.attacks import adaptive_norm
from tfrobust.attacks.base import LogitsFn, checked_examples, require
from tfrobust.attacks.minimum_norm import MinimumNorm
from tfrobust.shapes import column_of, norms_l2
from tfrobust.threat_models import ThreatModel


@dataclasses.dataclass(frozen=True)
class DDN:
    """Decoupled direction and norm: gradient steps on a sphere that shrinks while its point is adversarial.

        epsilon_{t+1} = epsilon_t (1 - gamma) if x_t is adversarial, else epsilon_t (1 + gamma)
        d = x_t + step_size_t grad_t / |grad_t| - x
        x_{t+1} = clip(x + epsilon_{t+1} d / |d|)

    Rony et al. 2019, algorithm 1, on the cross-entropy, without its rounding to grey levels. Step sizes fall along a
    cosine to a hundredth of the first. Where the gradient is 0 the direction is random, as in the authors' code.

    Attributes:
      bounds: lowest and highest valid pixel.
      steps: gradients, 1 or more.
      initial_norm: the first epsilon, above 0, in pixel units as is `step_size`.
      gamma: the part of epsilon by which it changes in a step, above 0 and below 1.
      step_size: the first step's length, above 0.
      targeted: `y` is the class to reach, instead of the one to leave.

    Raises:
      ValueError: for values out of these ranges.
    """

    norm: ClassVar[str] = "l2"

    bounds: tuple[float, float] = (0.0, 1.0)
    steps: int = 100
    initial_norm: float = 1.0
    gamma: float = 0.05
    step_size: float = 1.0
    targeted: bool = False

    def __post_init__(self):
        ThreatModel(self.norm, 0.0, self.bounds)  # Checks the bounds.
        require(self, steps=1)
        adaptive_norm.require_between(self, initial_norm=math.inf, gamma=1.0, step_size=math.inf)

    def minimize(
        self, logits_fn: LogitsFn, x: tf.Tensor, y: tf.Tensor, *, seed, judge_fn: LogitsFn | None = None
    ) -> MinimumNorm:
        """The nearest adversarial images that were met; see `minimum_norm.MinimumNormAttack.minimize`."""
        x, y = checked_examples(x, y, self.bounds)
        farthest = adaptive_norm.farthest(self, x)

        def move(look, epsilon):
            epsilon = tf.minimum(epsilon * tf.where(look.adversarial, 1 - self.gamma, 1 + self.gamma), farthest)
            delta = look.stepped - x
            radius = tf.cast(column_of(epsilon, x), x.dtype)
            delta *= tf.math.divide_no_nan(radius, norms_l2(delta))
            return epsilon, tf.clip_by_value(x + delta, *self.bounds)

        return adaptive_norm.search(
            self, losses.cross_entropy, move, self.initial_norm, logits_fn, x, y, seed=seed, judge_fn=judge_fn
        )
