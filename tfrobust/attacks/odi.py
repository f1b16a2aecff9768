"""ODI: PGD from starts that differ in what the model says of them (Tashiro et al. 2020).

pgd = PGD(ThreatModel("linf", 0.3), steps=20, step_size=0.075, loss=losses.margin, restarts=20)
x_adv = ODI(pgd)(model, x, y, seed=0)
"""

import dataclasses
import math
import numbers

import tensorflow as tf

from tfrobust import seeds
from tfrobust.attacks.base import LogitsFn, checked_examples, require, require_untargeted
from tfrobust.attacks.compaction import first_success
from tfrobust.attacks.pgd import PGD
from tfrobust.threat_models import ThreatModel


@dataclasses.dataclass(frozen=True)
class ODI:
    """Output-diversified initialisation: each run of PGD starts where a random direction of the logits has led.

        w       = uniform in [-1, 1]^K, anew for every run of every example,
        x_{t+1} = project(x_t + step_size * steepest(grad_x w . logits(x_t))),    then PGD from there

    Tashiro et al. 2020, "Diversity can be Transferred": of the logits, not of their softmax. As in the published code,
    x_0 is where PGD itself would start, a random point of the ball; the PGD of that code ascends the margin.

    Attributes:
      attack: its start is diversified; its `restarts` are runs, the first that fools an example counts.
      steps: along w, 1 or more; the paper takes 2.
      step_size: of these steps, in pixel units of the threat's norm; by default epsilon, as in the paper.

    Raises:
      ValueError: for steps below 1, a step_size below 0, or an attack whose loss is targeted.
    """

    attack: PGD
    steps: int = 2
    step_size: float | None = None

    def __post_init__(self):
        require(self, steps=1)
        given = self.step_size is not None and not tf.is_tensor(self.step_size)
        if given and not (isinstance(self.step_size, numbers.Real) and 0 <= self.step_size < math.inf):
            raise ValueError(f"step_size must be 0 or more, or None for epsilon, got {self.step_size!r}")
        require_untargeted("attack", self.attack.loss)

    @property
    def threat(self) -> ThreatModel:
        """The threat model of the attack."""
        return self.attack.threat

    def scaled(self, factor) -> "ODI":
        """The same attack with epsilon and all step sizes times `factor`, a float or a scalar tensor."""
        step_size = None if self.step_size is None else self.step_size * factor
        return dataclasses.replace(self, attack=self.attack.scaled(factor), step_size=step_size)

    def __call__(
        self, logits_fn: LogitsFn, x: tf.Tensor, y: tf.Tensor, *, seed, judge_fn: LogitsFn | None = None
    ) -> tf.Tensor:
        """x_adv of the shape and dtype of x [B, H, W, C]; see `pgd.PGD.__call__`. `judge_fn` decides who is fooled.

        An example that no run fools gets the result of its first run, or NaN where a run is.
        """
        x, y = checked_examples(x, y, self.threat.bounds)
        step_size = self.threat.epsilon if self.step_size is None else self.step_size
        diversify = PGD(self.threat, self.steps, step_size, loss=_along)
        classes = logits_fn(x).shape[-1]

        def run(x, y, seed, index):
            direction = seeds.uniform(seeds.fold_in(seed, 1), tf.zeros([tf.shape(x)[0], classes]), -1.0, 1.0)
            start = self.attack.start(x, seeds.fold_in(seed, 0))
            return self.attack.run_from(logits_fn, x, y, diversify.run_from(logits_fn, x, direction, start))

        return first_success(run, x, y, runs=self.attack.restarts, seed=seed, judge_fn=judge_fn or logits_fn)


def _along(logits, direction):
    """direction . logits, [B, K] and [B, K] -> [B]."""
    return tf.reduce_sum(direction * tf.cast(logits, tf.float32), axis=-1)
