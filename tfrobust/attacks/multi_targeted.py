"""MultiTargeted: PGD toward one class after the other (Gowal et al. 2019).

attack = MultiTargeted(ThreatModel("linf", 0.3), steps=40, step_size=0.01)
x_adv = attack(model, x, y, seed=0)
"""

import dataclasses

import tensorflow as tf

from tfrobust import losses
from tfrobust.attacks.base import LogitsFn, checked_examples, require
from tfrobust.attacks.compaction import first_success
from tfrobust.attacks.pgd import PGD
from tfrobust.attacks.targets import ranked_targets
from tfrobust.threat_models import ThreatModel


@dataclasses.dataclass(frozen=True)
class MultiTargeted:
    """PGD on z_t - z_y for each target class t in turn, the likeliest on the clean image first.

    Gowal et al. 2019, "An Alternative Surrogate Loss for PGD-based Adversarial Testing". Run r aims at target r modulo
    their number, and an example is done when a run fools it. The steps are PGD's; the paper also has Adam's and steps
    that get shorter.

    Attributes:
      threat: linf, l2 or l1.
      steps: gradient steps of a run, 1 or more.
      step_size: length of a step in pixel units, in the threat's norm.
      targets: aim at so many classes, 1 or more, or at all others where there are fewer; the paper takes all.
      restarts: runs for each target, 1 or more; more than one needs `random_start`.
      random_start: start at a random point of the ball instead of at x.

    Raises:
      ValueError: for values out of these ranges.
    """

    threat: ThreatModel
    steps: int
    step_size: float
    targets: int = 9
    restarts: int = 1
    random_start: bool = True

    def __post_init__(self):
        require(self, targets=1)
        self._pgd()

    @property
    def reach(self) -> float:
        """The sum of all steps' lengths of a run, as of `PGD`."""
        return self._pgd().reach

    def scaled(self, factor) -> "MultiTargeted":
        """The same attack with epsilon and step size times `factor`, a float or a scalar tensor."""
        return dataclasses.replace(self, threat=self.threat.scaled(factor), step_size=self.step_size * factor)

    def __call__(
        self, logits_fn: LogitsFn, x: tf.Tensor, y: tf.Tensor, *, seed, judge_fn: LogitsFn | None = None
    ) -> tf.Tensor:
        """x_adv of the shape and dtype of x [B, H, W, C]; see `pgd.PGD.__call__`.

        `judge_fn` ranks the targets and decides who is fooled. An example that no run fools gets the result of its
        first run, toward the likeliest target, or NaN where a run is.
        """
        x, y = checked_examples(x, y, self.threat.bounds)
        judge_fn = judge_fn or logits_fn
        logits = judge_fn(x)
        targets = min(self.targets, logits.shape[-1] - 1)
        pgd = self._pgd()

        def run(x, y, seed, index, ranked):
            target = tf.gather(ranked, index % targets, batch_dims=1)
            return pgd.run_from(logits_fn, x, (y, target), pgd.start(x, seed))

        return first_success(
            run,
            x,
            y,
            runs=self.restarts * targets,
            seed=seed,
            judge_fn=judge_fn,
            more=(ranked_targets(logits, y, targets),),
        )

    def _pgd(self):
        """One of the runs, which also checks the fields that they share."""
        return PGD(
            self.threat,
            self.steps,
            self.step_size,
            loss=losses.margin_targeted,
            random_start=self.random_start,
            restarts=self.restarts,
        )
