"""What every attack is: frozen configuration that is called with a model's logits, images, labels and a seed."""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import tensorflow as tf

from tfrobust.losses import LossFn
from tfrobust.threat_models import ThreatModel

LogitsFn = Callable[[tf.Tensor], tf.Tensor]


class Attack(Protocol):
    """Any object that turns images into adversarial examples within its threat model."""

    threat: ThreatModel

    def __call__(
        self, logits_fn: LogitsFn, x: tf.Tensor, y: tf.Tensor, *, seed, judge_fn: LogitsFn | None = None
    ) -> tf.Tensor:
        """x_adv of the shape and dtype of x [B, H, W, C]; see `attacks.pgd.PGD.__call__` for the arguments."""
        ...


def describe(configuration) -> str:
    """An attack's full configuration on one line, functions by their names: what a report shows of it."""
    if dataclasses.is_dataclass(configuration):
        fields = dataclasses.fields(configuration)
        values = ", ".join(f"{field.name}={describe(getattr(configuration, field.name))}" for field in fields)
        return f"{type(configuration).__name__}({values})"
    return configuration.__name__ if callable(configuration) else repr(configuration)


def input_gradient(logits_fn: LogitsFn, loss: LossFn, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Gradient of each example's own loss with respect to its pixels, of the shape and dtype of x [B, H, W, C].

    The loss is summed over the batch, so that no example's gradient is scaled by the number of its batch mates.
    """

    def gradient(x, y):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            total = tf.reduce_sum(loss(logits_fn(x), y))
        return tape.gradient(total, x)

    if tf.executing_eagerly():
        return gradient(x, y)
    # A graph of its own. In the cyclic graph of a loop TensorFlow may meet the gradient of a pooling before the pooling
    # itself, and then leaves it on a kernel that is thirty times slower: whether it does is chance at every trace.
    return tf.function(gradient, autograph=False, experimental_attributes={"_noinline": True})(x, y)
