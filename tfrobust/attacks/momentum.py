"""The momentum iterative method, MI-FGSM: gradients are accumulated over the steps.

attack = MomentumPGD(ThreatModel("linf", 0.3), steps=10, step_size=0.03)
x_adv = attack(model, x, y, seed=0)
"""

import dataclasses
import math
import numbers

import tensorflow as tf

from tfrobust import losses, seeds
from tfrobust.attacks.base import LogitsFn, checked_examples, for_step, input_gradient
from tfrobust.attacks.pgd import PGD
from tfrobust.shapes import largest, sum_l1
from tfrobust.threat_models import ThreatModel


@dataclasses.dataclass(frozen=True)
class MomentumPGD:
    """Steepest ascent along a decaying sum of normalised gradients; the last iterate counts.

        g_{t+1} = decay g_t + gradient_t / |gradient_t|_1,    gradient_t = grad_x loss(logits(x_t), y),    g_0 = 0,
        x_{t+1} = project(x_t + step_size * steepest(g_{t+1}))

    Dong et al. 2018, algorithm 1, for linf, where the step is a sign and step_size is epsilon / steps; the steps of the
    other norms are those of `ThreatModel.steepest_ascent`. With decay 0 this is PGD.

    Attributes:
      threat: linf, l2 or l1.
      steps: gradient steps, 1 or more; the paper takes 10.
      step_size: length of a step in pixel units, in the threat's norm.
      decay: what of the sum is left after a step, from 0 up; mu in the paper.
      loss: ascended; [B, K] logits and [B] labels -> [B].
      random_start: start at a random point of the ball instead of at x.

    Raises:
      ValueError: for steps below 1, or a step_size or decay below 0.
    """

    threat: ThreatModel
    steps: int
    step_size: float
    decay: float = 1.0
    loss: losses.LossFn = losses.cross_entropy
    random_start: bool = False

    def __post_init__(self):
        # Its first fields are checked as PGD's.
        PGD(self.threat, self.steps, self.step_size, self.loss)
        if not (isinstance(self.decay, numbers.Real) and 0 <= self.decay < math.inf):
            raise ValueError(f"decay must be 0 or more, got {self.decay!r}")

    @property
    def reach(self) -> float:
        """The sum of all steps' lengths, as of `PGD`."""
        return self.steps * self.step_size

    def scaled(self, factor) -> "MomentumPGD":
        """The same attack with epsilon and step size times `factor`, a float or a scalar tensor."""
        return dataclasses.replace(self, threat=self.threat.scaled(factor), step_size=self.step_size * factor)

    def __call__(
        self, logits_fn: LogitsFn, x: tf.Tensor, y: tf.Tensor, *, seed, judge_fn: LogitsFn | None = None
    ) -> tf.Tensor:
        """x_adv of the shape and dtype of x [B, H, W, C]; see `pgd.PGD.__call__`. `judge_fn` is not asked."""
        x, y = checked_examples(x, y, self.threat.bounds)
        x_adv = self.threat.random_start(x, seeds.fold_in(seed, 0)) if self.random_start else x

        def body(step, x_adv, accumulated):
            gradient = input_gradient(for_step(logits_fn, self.step_size), self.loss, x_adv, y)
            accumulated = self.decay * accumulated + _unit_l1(gradient)
            x_adv = self.threat.project(x_adv + self.threat.steepest_ascent(accumulated, self.step_size), x)
            return step + 1, x_adv, accumulated

        loop = tf.while_loop(
            lambda step, *_: step < self.steps,
            body,
            (tf.constant(0), x_adv, tf.zeros_like(x)),
            maximum_iterations=self.steps,
            parallel_iterations=1,
        )
        return tf.stop_gradient(loop[1])


def _unit_l1(gradient):
    """Each example's gradient with an l1 norm of 1, or 0 where it is 0."""
    # Scaled by the largest entry first, so that neither tiny nor huge gradients leave the range of float32.
    gradient = tf.math.divide_no_nan(gradient, largest(gradient))
    return tf.math.divide_no_nan(gradient, sum_l1(gradient))
