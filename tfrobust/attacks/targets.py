"""Which class a targeted attack aims at.

TargetedPGD(PGD(threat, steps=40, step_size=0.01), target=next_class)(model, x, y, seed=0)

Targets of one's own, one for each example, need no `TargetedPGD`: an attack whose loss is `losses.Targeted` takes them
in the place of the labels,

PGD(threat, steps=40, step_size=0.01, loss=losses.Targeted(losses.cross_entropy))(model, x, targets, seed=0)
"""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from tfrobust import losses, seeds
from tfrobust.attacks.base import LogitsFn, checked_examples, describe, require_untargeted
from tfrobust.attacks.pgd import PGD
from tfrobust.threat_models import ThreatModel

ChooseTarget = Callable[[tf.Tensor, tf.Tensor, object], tf.Tensor]


def runner_up(logits: tf.Tensor, y: tf.Tensor, seed) -> tf.Tensor:
    """The most likely class other than y on the clean image: [B, K] logits and [B] labels -> [B]."""
    return tf.argmax(_without_label(logits, y, logits.dtype.min), axis=-1, output_type=y.dtype)


def least_likely(logits: tf.Tensor, y: tf.Tensor, seed) -> tf.Tensor:
    """The least likely class other than y on the clean image: [B, K] logits and [B] labels -> [B]."""
    return tf.argmin(_without_label(logits, y, logits.dtype.max), axis=-1, output_type=y.dtype)


def ranked_targets(logits: tf.Tensor, y: tf.Tensor, count: int) -> tf.Tensor:
    """The `count` most likely classes other than y, most likely first: [B, K] logits and [B] labels -> [B, count]."""
    indices = tf.math.top_k(_without_label(logits, y, logits.dtype.min), count).indices
    return tf.cast(indices, y.dtype)


def random_other(logits: tf.Tensor, y: tf.Tensor, seed) -> tf.Tensor:
    """A class other than y, all equally likely: [B, K] logits and [B] labels -> [B]."""
    classes = logits.shape[-1]
    column = tf.zeros([tf.shape(y)[0], 1])
    offset = 1 + tf.cast(tf.floor(seeds.uniform(seed, column, 0.0, 1.0)[:, 0] * (classes - 1)), y.dtype)
    return (y + offset) % classes


def next_class(logits: tf.Tensor, y: tf.Tensor, seed) -> tf.Tensor:
    """The class after y, and class 0 after the last: (y + 1) mod K, [B, K] logits and [B] labels -> [B]."""
    return (y + 1) % logits.shape[-1]


@dataclasses.dataclass(frozen=True)
class TargetedPGD:
    """PGD toward a target class: descends the loss of the target instead of ascending the label's.

    With several restarts an example keeps one that has reached the target before one in another wrong class, and that
    before one that is still right; of equals the one with the highest loss.

    Attributes:
      attack: its `loss` is wrapped in `losses.Targeted`.
      target: how each example's target is chosen from its clean logits.

    Raises:
      ValueError: for another attack than PGD, or one whose loss is targeted already.
    """

    attack: PGD
    target: ChooseTarget = runner_up

    def __post_init__(self):
        if not isinstance(self.attack, PGD):
            raise ValueError(f"attack must be a PGD, got {describe(self.attack)}")
        require_untargeted("attack", self.attack.loss)

    @property
    def threat(self) -> ThreatModel:
        """The threat model of the attack."""
        return self.attack.threat

    def scaled(self, factor) -> "TargetedPGD":
        """The same attack with epsilon and step size times `factor`."""
        return dataclasses.replace(self, attack=self.attack.scaled(factor))

    def __call__(
        self, logits_fn: LogitsFn, x: tf.Tensor, y: tf.Tensor, *, seed, judge_fn: LogitsFn | None = None
    ) -> tf.Tensor:
        """x_adv of the shape and dtype of x [B, H, W, C]; see `PGD.__call__`, `y` being the labels."""
        x, y = checked_examples(x, y, self.threat.bounds)
        target = tf.cast(self.target((judge_fn or logits_fn)(x), y, seeds.fold_in(seed, -1)), tf.int64)
        attack = dataclasses.replace(self.attack, loss=losses.Targeted(self.attack.loss))

        def success(logits):
            found = tf.argmax(logits, axis=-1)
            return tf.cast(found != y, tf.int32) + tf.cast(found == target, tf.int32)

        return attack.worst_run(logits_fn, x, target, success, seed=seed, judge_fn=judge_fn)


def _without_label(logits, y, fill):
    return tf.where(tf.one_hot(y, logits.shape[-1], on_value=True, off_value=False, dtype=tf.bool), fill, logits)
