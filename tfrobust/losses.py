"""What attacks ascend: functions of logits [B, K] and labels [B] that give one float32 number for each example.

The higher the loss, the worse for the defender. A targeted attack passes its target class as the label and wraps the
loss in `Targeted`, so that the sign is decided in one place.
"""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

LossFn = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def cross_entropy(logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """-log softmax(logits)[y], [B, K] and [B] -> [B]."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.cast(y, tf.int64), logits=tf.cast(logits, tf.float32)
    )


def margin(logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """max_{k != y} logits[k] - logits[y], [B, K] and [B] -> [B]: positive exactly where the class is not y.

    Computed on values, so that a tie between y and another class is 0.
    """
    logits = tf.cast(logits, tf.float32)
    is_label = tf.one_hot(tf.cast(y, tf.int64), logits.shape[-1], on_value=True, off_value=False, dtype=tf.bool)
    label_logit = tf.reduce_sum(tf.where(is_label, logits, 0.0), axis=-1)
    return tf.reduce_max(tf.where(is_label, logits.dtype.min, logits), axis=-1) - label_logit


@dataclasses.dataclass(frozen=True)
class CWMargin:
    """The margin up to confidence kappa: min(margin, kappa) - kappa, [B, K] and [B] -> [B].

    Carlini and Wagner 2017, function f6, as ascended by the MNIST challenge: -max(0, z_y - max_{k != y} z_k + kappa),
    with no gradient once the wrong class leads by kappa. The paper's CW is kappa 0 and its CW+ is kappa 50, which is
    what the challenge's `loss_func: "cw"` has.

    Raises:
      ValueError: if kappa is negative.
    """

    kappa: float = 0.0

    def __post_init__(self):
        if not self.kappa >= 0:
            raise ValueError(f"kappa must be 0 or more, got {self.kappa!r}")

    def __call__(self, logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return -tf.nn.relu(self.kappa - margin(logits, y))


@dataclasses.dataclass(frozen=True)
class Targeted:
    """The negative of a loss: ascending it leads to the class that is passed as the label."""

    loss: LossFn = cross_entropy

    def __call__(self, logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return -self.loss(logits, y)
