"""What attacks ascend: functions of logits [B, K] and labels [B] that give one float32 number for each example.

The higher the loss, the worse for the defender. A targeted attack passes its target class as the label and wraps the
loss in `Targeted`, so that the sign is decided in one place. Losses that look at a pair of classes (`dlr_targeted`,
`margin_targeted`) get the pair (labels, targets) instead of the labels.
"""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

LossFn = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

# Keeps a quotient finite where logits are equal.
TINY = 1e-12
# Of the cross-entropy by the log-odds. Without it the slope would leave float32's range where the label leads by 85 and
# more, and attacks would stand still: classifiers of large logits would look robust.
LEAST_SLOPE = 1e-10


def cross_entropy(logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """-log softmax(logits)[y], [B, K >= 2] and [B] -> [B].

    Made of the log-odds: the usual formula's gradient with respect to the label's logit, softmax(logits)[y] - 1, rounds
    to 0 in float32 where the label leads by more than 16.6, and what attacks follow is no longer the loss. This one's
    has the right direction whatever the lead: the log-odds', of which `LEAST_SLOPE` is added. Its length is right as
    well, up to leads of about 20.
    """
    odds = log_odds(logits, y)
    # What is added is 0.
    return tf.nn.softplus(odds) + LEAST_SLOPE * (odds - tf.stop_gradient(odds))


def log_odds(logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """log((1 - p) / p) of p = softmax(logits)[y], [B, K >= 2] and [B] -> [B].

        log sum_{k != y} exp(z_k) - z_y

    The cross-entropy is log(1 + exp(log-odds)), so both rise in the same direction; the gradient of the log-odds does
    not vanish where the label leads by far.
    """
    others, label_logit = _others_and_label(logits, y)
    return tf.reduce_logsumexp(others, axis=-1) - label_logit


def margin(logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """max_{k != y} logits[k] - logits[y], [B, K] and [B] -> [B]: positive exactly where the class is not y.

    Computed on values, so that a tie between y and another class is 0.
    """
    others, label_logit = _others_and_label(logits, y)
    return tf.reduce_max(others, axis=-1) - label_logit


def dlr(logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """The difference of logits ratio, [B, K >= 3] and [B] -> [B]; positive exactly where the class is not y.

        -(z_y - max_{k != y} z_k) / (z_(1) - z_(3)),    z_(1) >= z_(2) >= ... being the sorted logits

    Croce and Hein 2020, equation 6: it changes neither with a shift nor with a positive scale of the logits, so that no
    scale makes its gradient vanish.

    Raises:
      ValueError: for fewer than 3 classes.
    """
    _require_classes("dlr", logits, 3)
    largest = tf.math.top_k(tf.cast(logits, tf.float32), 3).values
    return margin(logits, y) / (largest[:, 0] - largest[:, 2] + TINY)


def dlr_targeted(logits: tf.Tensor, pair: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
    """The difference of logits ratio toward a target class, [B, K >= 4] and ([B] labels, [B] targets) -> [B].

        -(z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2)

    Croce and Hein 2020, equation 7. Positive exactly where the target's logit is above the label's.

    Raises:
      ValueError: for fewer than 4 classes.
    """
    _require_classes("dlr_targeted", logits, 4)
    largest = tf.math.top_k(tf.cast(logits, tf.float32), 4).values
    return margin_targeted(logits, pair) / (largest[:, 0] - (largest[:, 2] + largest[:, 3]) / 2 + TINY)


def margin_targeted(logits: tf.Tensor, pair: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
    """z_t - z_y, [B, K] and ([B] labels, [B] targets) -> [B]: ascended by MultiTargeted (Gowal et al. 2019)."""
    logits = tf.cast(logits, tf.float32)
    label, target = (tf.one_hot(tf.cast(part, tf.int64), logits.shape[-1]) for part in pair)
    return tf.reduce_sum((target - label) * logits, axis=-1)


@dataclasses.dataclass(frozen=True)
class CWMargin:
    """The margin up to confidence kappa: min(margin, kappa) - kappa, [B, K] and [B] -> [B].

    Carlini and Wagner 2017, function f6, as ascended by the MNIST challenge: -max(0, z_y - max_{k != y} z_k + kappa),
    with no gradient once the wrong class leads by kappa. The paper's CW is kappa 0 and its CW+ is kappa 50, which is
    what the challenge's `loss_func: "cw"` has. `Targeted` ascends -max(0, max_{k != t} z_k - z_t + kappa), f6 as
    published, with no gradient once the target leads by kappa.

    Raises:
      ValueError: if kappa is negative.
    """

    kappa: float = 0.0

    def __post_init__(self):
        if not self.kappa >= 0:
            raise ValueError(f"kappa must be 0 or more, got {self.kappa!r}")

    def __call__(self, logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return -tf.nn.relu(self.kappa - margin(logits, y))

    def toward(self, logits: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        """What a targeted attack ascends, [B, K] and [B] -> [B]."""
        return -tf.nn.relu(self.kappa + margin(logits, target))


@dataclasses.dataclass(frozen=True)
class Targeted:
    """The negative of a loss, or its `toward`: ascending it leads to the class that is passed as the label."""

    loss: LossFn = cross_entropy

    def __call__(self, logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        # Its negative would saturate before the target is reached, and not behind it.
        return self.loss.toward(logits, y) if isinstance(self.loss, CWMargin) else -self.loss(logits, y)


def _others_and_label(logits, y):
    """The logits with the lowest number in place of the label's, [B, K], and the label's, [B]."""
    y = tf.convert_to_tensor(y)
    if y.shape.rank not in (1, None):
        # Broadcast, each example would be judged by the labels of all.
        raise ValueError(f"y must be labels [B], got shape {y.shape}")
    logits = tf.cast(logits, tf.float32)
    is_label = tf.one_hot(tf.cast(y, tf.int64), logits.shape[-1], on_value=True, off_value=False, dtype=tf.bool)
    label_logit = tf.reduce_sum(tf.where(is_label, logits, 0.0), axis=-1)
    return tf.where(is_label, logits.dtype.min, logits), label_logit


def _require_classes(name, logits, needed):
    if logits.shape[-1] < needed:
        raise ValueError(f"{name} needs logits of at least {needed} classes, got {logits.shape[-1]}")
