"""Auto-PGD: projected gradient descent that chooses its own step sizes (Croce and Hein 2020, algorithm 1).

apgd_ce(ThreatModel("linf", 0.3))(model, x, y, seed=0)        # cross-entropy
apgd_t(ThreatModel("linf", 0.3))(model, x, y, seed=0)         # targeted DLR, the nine likeliest other classes in turn
"""

import dataclasses
import math
import warnings

import tensorflow as tf

from tfrobust import losses
from tfrobust.attacks import apgd_steps
from tfrobust.attacks.base import LogitsFn, checked_examples, describe, gradient_and_logits, require, require_untargeted
from tfrobust.attacks.compaction import first_success, run_rounds
from tfrobust.attacks.targets import ranked_targets
from tfrobust.losses import LossFn
from tfrobust.shapes import choose, has_nan
from tfrobust.threat_models import ThreatModel

# Losses that need more classes than a classifier may have, and what takes their place.
_WITH_FEW_CLASSES = {losses.dlr: (3, losses.margin), losses.dlr_targeted: (4, losses.margin_targeted)}


@dataclasses.dataclass(frozen=True)
class APGD:
    """Projected gradient descent with momentum, whose step size halves for each example when it stops being useful.

        z_{t+1} = project(x_t + step * steepest(grad_t))
        x_{t+1} = project(x_t + 0.75 (z_{t+1} - x_t) + 0.25 (x_t - x_{t-1}))

    The first step size is 2 epsilon. At checkpoints that come ever closer (after 22, 41, 57, ... of 100 steps) an
    example whose loss rose in no more than `rho` of the steps, or whose best loss has not moved since a checkpoint that
    kept its step, goes on from its best point with half the step. In l1 steps are sparse instead, see `apgd_steps`.
    As in the published code, except that an example stops as soon as it is fooled, which changes no count.

    Attributes:
      threat: linf, l2 or l1.
      steps: gradient steps of a run, 1 or more; AutoAttack takes 100.
      loss: ascended; with `targets`, a loss of (logits, (labels, targets)).
      restarts: random starts, 1 or more; for each target, where there are any.
      targets: aim at so many classes in turn, the likeliest first, from 0 (untargeted). No more than there are.
      rho: fraction of rising steps above which the step size is kept, from 0 to 1.
      eot_samples: gradients that are averaged in each step, for randomised classifiers.

    An example is done when `judge_fn` misclassifies it. The result of one that is not fooled is the point of largest
    margin of its first run, or NaN where in some run gradients were and left no way on.

    Raises:
      ValueError: for values out of these ranges.
    """

    threat: ThreatModel
    steps: int = 100
    loss: LossFn = losses.cross_entropy
    restarts: int = 1
    targets: int = 0
    rho: float = 0.75
    eot_samples: int = 1

    def __post_init__(self):
        require(self, steps=1, restarts=1, targets=0, eot_samples=1)
        require_untargeted("APGD", self.loss)
        of_pairs = self.loss in (losses.dlr_targeted, losses.margin_targeted)
        if of_pairs != bool(self.targets):
            wanted = "1 or more with a loss of labels and targets" if of_pairs else "0 with a loss of labels"
            raise ValueError(f"targets must be {wanted}, got {self.targets!r} with {describe(self.loss)}")
        if not 0 <= self.rho <= 1:
            raise ValueError(f"rho must be from 0 to 1, got {self.rho!r}")

    def __call__(
        self, logits_fn: LogitsFn, x: tf.Tensor, y: tf.Tensor, *, seed, judge_fn: LogitsFn | None = None
    ) -> tf.Tensor:
        """x_adv of the shape and dtype of x [B, H, W, C]; see `pgd.PGD.__call__`. `judge_fn` decides who is fooled."""
        x, y = checked_examples(x, y, self.threat.bounds)
        judge_fn = judge_fn or logits_fn
        logits = judge_fn(x)
        classes = logits.shape[-1]
        loss = _loss_for(self.loss, classes)
        targets = min(self.targets, classes - 1)
        if not targets:

            def run(x, y, seed, index):
                return self._run(logits_fn, judge_fn, loss, x, y, (), seed)

            return tf.stop_gradient(first_success(run, x, y, runs=self.restarts, seed=seed, judge_fn=judge_fn))

        ranked = ranked_targets(logits, y, targets)

        def run_targeted(x, y, seed, index, ranked):
            target = tf.gather(ranked, index // self.restarts, batch_dims=1)
            return self._run(logits_fn, judge_fn, loss, x, y, (target,), seed)

        runs = self.restarts * targets
        found = first_success(run_targeted, x, y, runs=runs, seed=seed, judge_fn=judge_fn, more=(ranked,))
        return tf.stop_gradient(found)

    def _run(self, logits_fn, judge_fn, loss, x, y, target, seed):
        """One run of every example; in l1 three of them, with epsilons that shrink to the one that counts."""
        x_start = apgd_steps.start(self.threat, x, seed)
        factors, steps = zip(*apgd_steps.phases(self.threat.norm, self.steps), strict=True)
        lengths = [apgd_steps.round_lengths(self.threat.norm, part) for part in steps]

        def phase(threat, lengths, x_start, claims):
            x_start = threat.project(x_start, x)
            return self._ascend(threat, lengths, logits_fn, judge_fn, loss, x, y, target, x_start, claims)

        if len(factors) == 1:
            return phase(self.threat, tf.constant(lengths[0]), x_start, True)
        # One graph for all phases, as each would hold the network several times.
        epsilons = tf.stack([tf.cast(self.threat.scaled(factor).epsilon, tf.float32) for factor in factors])
        rounds = tf.ragged.constant(lengths)

        def next_phase(index, x_start):
            threat = dataclasses.replace(self.threat, epsilon=tf.gather(epsilons, index))
            x_adv = phase(threat, rounds[index], x_start, tf.equal(index, len(factors) - 1))
            return index + 1, tf.ensure_shape(x_adv, x_start.shape)

        return tf.while_loop(lambda index, _: index < len(factors), next_phase, (0, x_start), parallel_iterations=1)[1]

    def _ascend(self, threat, lengths, logits_fn, judge_fn, loss, x, y, target, x_start, claims):
        names = ("y", "target")[: 1 + len(target)]

        def look(state, x_new):
            """Loss, gradient and margin at x_new, and the best of each example brought up to date."""
            labels = tuple(state[name] for name in names)
            labels = labels if target else labels[0]
            gradient, logits, value = self._mean_gradient(logits_fn, loss, x_new, labels)
            # A classifier may be blind to a pixel that is NaN.
            is_number = ~has_nan(x_new)
            value, margin = (tf.where(is_number, part, math.nan) for part in (value, losses.margin(logits, state["y"])))
            better = value > state["best_loss"]
            harm = tf.where(claims, margin, value)
            harder = harm > state["harm"]
            return {
                **state,
                "x_now": x_new,
                "gradient": gradient,
                "loss": value,
                "rises": state["rises"] + tf.cast(value > state["loss"], tf.int32),
                "best_loss": tf.where(better, value, state["best_loss"]),
                "best_x": choose(better, x_new, state["best_x"]),
                "best_gradient": choose(better, gradient, state["best_gradient"]),
                "harm": tf.where(harder, harm, state["harm"]),
                "hardest": choose(harder, x_new, state["hardest"]),
                "claimed": state["claimed"] | ((margin > 0) & claims),
            }

        lowest = tf.fill(tf.shape(y), -float("inf"))
        # Until a point is better than none.
        state = {"x": x, "y": y, "best_gradient": x * math.nan}
        state |= dict.fromkeys(("x_before", "best_x", "hardest", "x_adv"), x_start)
        state |= {"loss": lowest, "best_loss": lowest, "harm": lowest, "claimed": tf.zeros(tf.shape(y), tf.bool)}
        state |= {"rises": tf.zeros(tf.shape(y), tf.int32), **dict(zip(names[1:], target, strict=True))}
        state = apgd_steps.begin(threat, look(state, x_start))

        def advance(index, state):
            length = tf.gather(lengths, index)

            def body(step, state):
                x_new = apgd_steps.step(threat, state, first=(index == 0) & (step == 0))
                return step + 1, look({**state, "x_before": state["x_now"]}, x_new)

            loop = tf.while_loop(lambda step, _: step < length, body, (tf.constant(0), state), parallel_iterations=1)
            state = apgd_steps.checkpoint(threat, loop[1], length, self.rho)
            # Where no gradient leads on, the hardest image so far would pass for a robust one. Claims are judged.
            stuck = has_nan(state["gradient"]) & ~(claims & (state["harm"] > 0))
            return {**state, "x_adv": choose(~stuck, state["hardest"], math.nan)}

        return run_rounds(advance, state, rounds=tf.size(lengths), judge_fn=judge_fn)[0]

    def _mean_gradient(self, logits_fn, loss, x, y):
        """Gradient, logits and loss at x, each the mean of `eot_samples` of them."""
        found = gradient_and_logits(logits_fn, loss, x, y)
        if self.eot_samples == 1:
            return found

        def add(count, *sums):
            more = gradient_and_logits(logits_fn, loss, x, y)
            return count + 1, *(total + part for total, part in zip(sums, more, strict=True))

        # A loop: the network is traced twice, however many samples there are.
        state = (tf.constant(1), *found)
        sums = tf.while_loop(lambda count, *_: count < self.eot_samples, add, state, parallel_iterations=1)[1:]
        return [total / self.eot_samples for total in sums]


def apgd_ce(threat: ThreatModel, **arguments) -> APGD:
    """APGD on the cross-entropy, the first attack of AutoAttack."""
    return APGD(threat, loss=losses.cross_entropy, **arguments)


def apgd_dlr(threat: ThreatModel, **arguments) -> APGD:
    """APGD on the difference of logits ratio."""
    return APGD(threat, loss=losses.dlr, **arguments)


def apgd_t(threat: ThreatModel, *, targets: int = 9, **arguments) -> APGD:
    """APGD on the targeted difference of logits ratio, the second attack of AutoAttack."""
    return APGD(threat, loss=losses.dlr_targeted, targets=targets, **arguments)


def _loss_for(loss, classes):
    needed, instead = _WITH_FEW_CLASSES.get(loss, (0, loss))
    if classes >= needed:
        return loss
    warnings.warn(
        f"{loss.__name__} needs {needed} classes and the classifier has {classes}: {instead.__name__} is ascended "
        "instead",
        stacklevel=3,
    )
    return instead
