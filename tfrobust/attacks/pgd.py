"""Projected gradient descent and its special cases, as one compiled graph.

attack = PGD(ThreatModel("linf", 0.3), steps=40, step_size=0.01)
x_adv = attack(model, x, y, seed=0)

fgsm(ThreatModel("linf", 0.3))(model, x, y, seed=0)          # one step
bim(ThreatModel("linf", 0.3), steps=10)(model, x, y, seed=0) # no random start
RFGSM(ThreatModel("linf", 0.3))(model, x, y, seed=0)         # one random step and one of the gradient
"""

import dataclasses
import math
import numbers
from collections.abc import Callable

import tensorflow as tf

from tfrobust import losses, seeds
from tfrobust.attacks.base import LogitsFn, checked_examples, for_step, input_gradient, require, require_threat
from tfrobust.shapes import choose, has_nan
from tfrobust.threat_models import ThreatModel


@dataclasses.dataclass(frozen=True)
class PGD:
    """Steepest ascent of a loss, projected onto the threat model after every step; the last iterate counts.

        x_0     = random point of the ball (or x),
        x_{t+1} = project(x_t + step_size * step_decay^t * steepest(grad_x loss(logits(x_t), y)))

    Madry et al. 2018, section 2.1; as in their challenge code, which keeps the last iterate and not the best one.
    With several restarts an example keeps its most harmful one: a misclassified one before a classified one, and of
    those the one with the highest loss. That choice is made for each example, never for a batch.

    Attributes:
      threat: the ball, its epsilon and the pixel range.
      steps: gradient steps, 1 or more.
      step_size: length of the first step in pixel units, in the threat's norm.
      loss: ascended; [B, K] logits and [B] labels -> [B].
      random_start: start at a random point of the ball instead of at x.
      restarts: runs for each example, 1 or more; more than one needs `random_start`.
      step_decay: what each step's length is multiplied by for the next one, above 0 and at most 1. Long steps first
        and short ones last, as in Auto-PGD, make few steps stronger.

    Raises:
      ValueError: for what is no threat model or no loss, steps or restarts below 1, a step_size below 0, a step_decay
        out of range, or restarts without a random start.
    """

    threat: ThreatModel
    steps: int
    step_size: float
    loss: losses.LossFn = losses.cross_entropy
    random_start: bool = True
    restarts: int = 1
    step_decay: float = 1.0

    def __post_init__(self):
        require(self, steps=1, restarts=1)
        if not 0 < self.step_decay <= 1:
            raise ValueError(f"step_decay must be above 0 and at most 1, got {self.step_decay!r}")
        if not tf.is_tensor(self.step_size) and not (
            isinstance(self.step_size, numbers.Real) and 0 <= self.step_size < math.inf
        ):
            raise ValueError(f"step_size must be 0 or more, got {self.step_size!r}")
        if self.restarts > 1 and not self.random_start:
            raise ValueError(f"restarts must be 1 without random_start, got {self.restarts!r}: they would all be equal")

    @property
    def reach(self) -> float:
        """The sum of all steps' lengths: below epsilon, PGD cannot cross half of the ball."""
        decay = self.step_decay
        return self.step_size * (self.steps if decay == 1 else (1 - decay**self.steps) / (1 - decay))

    def scaled(self, factor) -> "PGD":
        """The same attack with epsilon and step size times `factor`, a float or a scalar tensor."""
        return dataclasses.replace(self, threat=self.threat.scaled(factor), step_size=self.step_size * factor)

    def __call__(
        self, logits_fn: LogitsFn, x: tf.Tensor, y: tf.Tensor, *, seed, judge_fn: LogitsFn | None = None
    ) -> tf.Tensor:
        """Adversarial examples for the images `x` with labels `y`.

        Args:
          logits_fn: [B, H, W, C] pixels -> [B, K] logits; differentiated.
          x: float [B, H, W, C] within the threat's bounds.
          y: int [B] labels, or targets where `loss` is `losses.Targeted`.
          seed: as in `seeds`; the same seed gives the same result.
          judge_fn: the logits that choose between restarts, where `logits_fn` is a fast approximation of the model.

        Returns:
          x_adv, of the shape and dtype of `x`, within epsilon of `x` and within bounds.

        Raises:
          ValueError: for images that are not within bounds, such as grey levels of 255, or labels that are not one for
            each image. Within a `tf.function` pixels are an InvalidArgumentError, when it runs.
        """
        x, y = checked_examples(x, y, self.threat.bounds)

        def success(logits):
            margin = losses.margin(logits, y)
            return tf.cast(margin < 0 if isinstance(self.loss, losses.Targeted) else margin > 0, tf.int32)

        return self.worst_run(logits_fn, x, y, success, seed=seed, judge_fn=judge_fn)

    def worst_run(
        self,
        logits_fn: LogitsFn,
        x: tf.Tensor,
        y: tf.Tensor,
        rank_fn: Callable[[tf.Tensor], tf.Tensor],
        *,
        seed,
        judge_fn: LogitsFn | None = None,
    ) -> tf.Tensor:
        """As `__call__`, but that `rank_fn` says how far each run has come: logits [B, K] -> int32 [B], 0 or more.

        An example keeps the run of highest rank, and of those the one with the highest loss. What is NaN is no success:
        where there is none, but a run was NaN, the result is so, too. Left to comparisons, which NaN never wins, an
        attack that broke down would pass for a robust example.
        """
        if self.restarts == 1:
            return self._run(logits_fn, x, y, seeds.fold_in(seed, 0))
        judge_fn = judge_fn or logits_fn

        def body(restart, best_x, best_loss, best_rank, broken):
            x_adv = self._run(logits_fn, x, y, seeds.fold_in(seed, restart))
            logits = judge_fn(x_adv)
            loss = self.loss(logits, y)
            is_number = ~(tf.math.is_nan(loss) | has_nan(x_adv))
            rank = tf.where(is_number, rank_fn(logits), 0)
            better = is_number & ((rank > best_rank) | ((rank == best_rank) & (loss > best_loss)))
            best_x, best_loss = choose(better, x_adv, best_x), tf.where(better, loss, best_loss)
            return restart + 1, best_x, best_loss, tf.maximum(rank, best_rank), broken | ~is_number

        count = tf.shape(x)[0]
        start = (tf.constant(0), x, tf.fill([count], -math.inf), tf.zeros([count], tf.int32), tf.fill([count], False))
        # Restarts one after the other: memory does not grow with their number.
        loop = tf.while_loop(lambda restart, *_: restart < self.restarts, body, start, parallel_iterations=1)
        _, best_x, _, best_rank, broken = loop
        return choose(~broken | (best_rank > 0), best_x, math.nan)

    def start(self, x: tf.Tensor, seed) -> tf.Tensor:
        """Where a run begins: a random point of the ball around each `x` [B, H, W, C], or x without `random_start`."""
        return self.threat.random_start(x, seed) if self.random_start else x

    def run_from(self, logits_fn: LogitsFn, x: tf.Tensor, y, x_start: tf.Tensor) -> tf.Tensor:
        """The last iterate of one run that begins at `x_start`, a point of the ball around `x`; all [B, H, W, C].

        Args:
          y: passed on to `loss`: labels [B], or whatever else the loss takes, such as a pair of labels and targets.
        """

        def body(step, x_adv):
            gradient = input_gradient(for_step(logits_fn, self._length(step)), self.loss, x_adv, y)
            return step + 1, self.advance(x, x_adv, gradient, step)

        loop = tf.while_loop(
            lambda step, _: step < self.steps,
            body,
            (tf.constant(0), x_start),
            maximum_iterations=self.steps,
            parallel_iterations=1,
        )
        return tf.stop_gradient(loop[1])

    def advance(self, x: tf.Tensor, x_adv: tf.Tensor, gradient: tf.Tensor, step) -> tf.Tensor:
        """The iterate behind `x_adv`, where the loss has this gradient, in step 0, 1, ...; all [B, H, W, C]."""
        length = self._length(step)
        length = tf.cast(length, x.dtype) if tf.is_tensor(length) else length
        return self.threat.project(x_adv + self.threat.steepest_ascent(gradient, length), x)

    def _length(self, step):
        if self.step_decay == 1:
            return self.step_size
        decay = tf.pow(self.step_decay, tf.cast(step, tf.float32))
        return self.step_size * (tf.cast(decay, self.step_size.dtype) if tf.is_tensor(self.step_size) else decay)

    def _run(self, logits_fn, x, y, seed):
        return self.run_from(logits_fn, x, y, self.start(x, seed))


@dataclasses.dataclass(frozen=True)
class RFGSM:
    """R+FGSM: a random sign step, and from there the fast gradient sign method for what is left of epsilon.

        x_1   = x + alpha sign(N(0, I)),
        x_adv = x_1 + (epsilon - alpha) sign(grad_x loss(logits(x_1), y))

    Tramer et al. 2018, "Ensemble Adversarial Training"; both points are cut to the range of pixels.

    Attributes:
      threat: linf.
      random_fraction: alpha as a fraction of epsilon, from 0 to 1; the paper's is a half.
      loss: ascended; [B, K] logits and [B] labels -> [B].

    Raises:
      ValueError: for what is no threat model or no loss, another norm, or a fraction out of range.
    """

    threat: ThreatModel
    random_fraction: float = 0.5
    loss: losses.LossFn = losses.cross_entropy

    def __post_init__(self):
        require(self)
        if self.threat.norm != "linf":
            raise ValueError(f"threat must have the norm 'linf', got {self.threat.norm!r}")
        if not 0 <= self.random_fraction <= 1:
            raise ValueError(f"random_fraction must be from 0 to 1, got {self.random_fraction!r}")

    def scaled(self, factor) -> "RFGSM":
        """The same attack with epsilon times `factor`, a float or a scalar tensor."""
        return dataclasses.replace(self, threat=self.threat.scaled(factor))

    def __call__(
        self, logits_fn: LogitsFn, x: tf.Tensor, y: tf.Tensor, *, seed, judge_fn: LogitsFn | None = None
    ) -> tf.Tensor:
        """x_adv of the shape and dtype of x [B, H, W, C]; see `PGD.__call__`. `judge_fn` is not asked."""
        x, y = checked_examples(x, y, self.threat.bounds)
        alpha = self.random_fraction * self.threat.epsilon
        sign = tf.where(seeds.uniform(seeds.fold_in(seed, 0), x, -1.0, 1.0) < 0, -tf.ones_like(x), tf.ones_like(x))
        gradient_step = PGD(self.threat, 1, self.threat.epsilon - alpha, self.loss, random_start=False)
        return gradient_step.run_from(logits_fn, x, y, self.threat.project(x + alpha * sign, x))


def fgsm(threat: ThreatModel, loss: losses.LossFn = losses.cross_entropy) -> PGD:
    """The fast gradient sign method, x + epsilon sign(grad_x loss): one step of length epsilon from x itself.

    Goodfellow et al. 2015, equation in section 4; for l2 the step is the normalised gradient.
    """
    require_threat(threat)
    return PGD(threat, steps=1, step_size=threat.epsilon, loss=loss, random_start=False)


def bim(
    threat: ThreatModel,
    steps: int = 10,
    step_size: float | None = None,
    loss: losses.LossFn = losses.cross_entropy,
) -> PGD:
    """The basic iterative method, or iterative FGSM: PGD from x itself, without a random start.

    Kurakin et al. 2017, section 2.2. They take steps of one grey level, and for a large epsilon 1.25 times as many as
    it has grey levels; so here all steps together are by default 1.25 epsilon long.
    """
    require_threat(threat)
    if step_size is None:
        # PGD refuses fewer than 1 step.
        step_size = 1.25 * threat.epsilon / max(steps, 1)
    return PGD(threat, steps, step_size, loss=loss, random_start=False)
