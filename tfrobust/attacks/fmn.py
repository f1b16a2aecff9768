"""FMN: gradient steps within a ball whose radius jumps to the boundary and then adapts, in linf, l2 and l1.

found = FMN("linf").minimize(model, x, y, seed=0)                       # MinimumNorm(x_adv, distance, success)
x_adv = WithinBall(FMN("linf"), ThreatModel("linf", 0.3))(model, x, y, seed=0)
"""

import dataclasses
import math
from typing import Literal

import tensorflow as tf

from tfrobust import losses
from tfrobust.attacks import adaptive_norm
from tfrobust.attacks.base import LogitsFn, checked_examples, require
from tfrobust.attacks.hyperplanes import distance_to_hyperplane
from tfrobust.attacks.minimum_norm import MinimumNorm
from tfrobust.shapes import column_of
from tfrobust.threat_models import ThreatModel

# Gamma after the last step.
LAST_GAMMA = 0.001


@dataclasses.dataclass(frozen=True)
class FMN:
    """The fast minimum-norm attack: projected gradient steps on the margin, whose ball adapts to each example.

        epsilon_{t+1} = min(epsilon_t (1 - gamma_t), distance of the nearest so far)   if x_t is adversarial,
                      = epsilon_t (1 + gamma_t)                                        if not, but a point before was,
                      = max(epsilon_t, |x_t - x|_p + |margin_t| / |grad_t|_q) (1 + gamma_t)   if none was
        x_{t+1} = project(x_t + step_size_t * steepest(grad_t)), onto the ball of epsilon_{t+1} within bounds

    Pintor et al. 2021, algorithm 1, from x itself; q is the dual of p. Step sizes fall along a cosine to a hundredth of
    the first, and gamma to 0.001.

    Not of the paper: until a point is adversarial, epsilon never falls and exceeds the linear estimate, and points are
    pushed out onto the sphere; without that they come to rest before the boundary of a robust MNIST model in a third
    of the images (l2). A gradient of 0 is replaced by a random one. The paper's steps have a Euclidean length in linf,
    too; steps along the sign lead to nearer images. Gamma begins at 0.2 instead of 0.05: on that model the median norm
    falls by 8 % in l2 and by 40 % in l1, and on an undefended one it is the same.

    Attributes:
      norm: "linf", "l2" or "l1".
      bounds: lowest and highest valid pixel.
      steps: gradients, 1 or more.
      gamma: the first step's part of epsilon by which it changes, above 0 and below 1.
      step_size: the first step's length in pixel units, above 0: of each pixel in linf, Euclidean in l2 and l1.
      targeted: `y` is the class to reach, instead of the one to leave.

    Raises:
      ValueError: for values out of these ranges.
    """

    norm: Literal["linf", "l2", "l1"]
    bounds: tuple[float, float] = (0.0, 1.0)
    steps: int = 100
    gamma: float = 0.2
    step_size: float = 1.0
    targeted: bool = False

    def __post_init__(self):
        ThreatModel(self.norm, 0.0, self.bounds)  # Checks norm and bounds.
        require(self, steps=1)
        adaptive_norm.require_between(self, gamma=1.0, step_size=math.inf)

    def minimize(
        self, logits_fn: LogitsFn, x: tf.Tensor, y: tf.Tensor, *, seed, judge_fn: LogitsFn | None = None
    ) -> MinimumNorm:
        """The nearest adversarial images that were met; see `minimum_norm.MinimumNormAttack.minimize`."""
        x, y = checked_examples(x, y, self.bounds)
        farthest = adaptive_norm.farthest(self, x)

        def move(look, epsilon):
            gamma = LAST_GAMMA + (self.gamma - LAST_GAMMA) * look.wave
            found = look.nearest.success
            estimate = look.distance + tf.cast(distance_to_hyperplane(look.loss, look.gradient, self.norm), tf.float32)
            epsilon = tf.where(
                look.adversarial,
                tf.minimum(epsilon * (1 - gamma), look.nearest.distance),
                tf.where(found, epsilon, tf.maximum(epsilon, estimate)) * (1 + gamma),
            )
            epsilon = tf.minimum(epsilon, farthest)
            ball = ThreatModel(self.norm, tf.cast(column_of(epsilon, x), x.dtype), self.bounds)
            delta = look.stepped - x
            outward = tf.math.divide_no_nan(epsilon, ball.distance(look.stepped, x))
            delta *= tf.cast(column_of(tf.where(found, 1.0, tf.maximum(outward, 1.0)), x), x.dtype)
            return epsilon, ball.project(x + delta, x)

        return adaptive_norm.search(self, losses.margin, move, 0.0, logits_fn, x, y, seed=seed, judge_fn=judge_fn)
