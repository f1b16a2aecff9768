"""What every attack is: frozen configuration that is called with a model's logits, images, labels and a seed."""

import contextlib
import dataclasses
import functools
import numbers
import re
from collections.abc import Callable
from typing import Protocol

import keras
import numpy as np
import tensorflow as tf

from tfrobust.full_precision import in_float32
from tfrobust.losses import LossFn, Targeted
from tfrobust.pixels import require_pixels
from tfrobust.threat_models import ThreatModel

LogitsFn = Callable[[tf.Tensor], tf.Tensor]


class NotDifferentiableError(ValueError):
    """An attack needs a gradient that the classifier does not have."""


class Attack(Protocol):
    """Any object that turns images into adversarial examples within its threat model."""

    threat: ThreatModel

    def __call__(
        self, logits_fn: LogitsFn, x: tf.Tensor, y: tf.Tensor, *, seed, judge_fn: LogitsFn | None = None
    ) -> tf.Tensor:
        """x_adv of the shape and dtype of x [B, H, W, C]; see `attacks.pgd.PGD.__call__` for the arguments."""
        ...


def require(configuration, **minima: int) -> None:
    """Raises ValueError unless a configuration's threat model and loss, where it has them, are such, and each named
    field is an integer of at least its minimum."""
    if hasattr(configuration, "threat"):
        require_threat(configuration.threat)
    if hasattr(configuration, "loss"):
        require_loss(configuration.loss)
    for name, minimum in minima.items():
        value = getattr(configuration, name)
        if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < minimum:
            raise ValueError(f"{name} must be an integer of {minimum} or more, got {value!r}")


def require_threat(threat) -> None:
    """Raises ValueError for what is no threat model, such as epsilon alone."""
    if not isinstance(threat, ThreatModel):
        raise ValueError(f"threat must be a ThreatModel, such as ThreatModel('linf', 0.3), got {threat!r}")


def require_loss(loss) -> None:
    """Raises ValueError for what cannot be ascended: names, and Keras's losses, which take the labels first and, as
    objects, give one number for a batch."""
    function = loss.func if isinstance(loss, functools.partial) else loss
    module = str(getattr(function, "__module__", None) or type(function).__module__)
    of_keras = isinstance(function, keras.losses.Loss) or module.startswith("keras.")
    if of_keras or not callable(loss):
        raise ValueError(
            "loss must be a function of logits [B, K] and labels [B], such as losses.cross_entropy, got "
            f"{'of Keras ' if of_keras else ''}{describe(loss)}"
        )


def checked_examples(x, y, bounds: tuple[float, float]) -> tuple[tf.Tensor, tf.Tensor]:
    """What an attack is called with, as tensors: images [B, H, W, C], and their labels as int64 [B].

    Raises:
      ValueError: for images that are no floating point numbers within `bounds` (in a graph an InvalidArgumentError when
        it runs), or labels that are not one for each image.
    """
    x, y = tf.convert_to_tensor(x), tf.cast(y, tf.int64)
    require_pixels(x, bounds)
    if not y.shape.is_compatible_with(x.shape[:1]):
        raise ValueError(f"labels must be class numbers [B], one for each image, got {y.shape} for images {x.shape}")
    return x, y


def require_untargeted(argument: str, loss: LossFn) -> None:
    """Raises ValueError for a targeted loss, of an attack that ends when an example is not its label any more."""
    if isinstance(loss, Targeted):
        raise ValueError(f"{argument} must have an untargeted loss, got {describe(loss)}")


def require_from_labels(argument: str, attack) -> None:
    """Raises ValueError for an attack that leads toward the class that it is called with, where that is the label: it
    would make every classifier look robust."""
    part = attack
    while part is not None:
        flag = getattr(part, "targeted", False)
        is_targeted = isinstance(flag, (bool, int, np.bool_)) and flag
        if is_targeted or isinstance(getattr(part, "loss", None), Targeted):
            raise ValueError(
                f"{argument} must lead away from the labels, got {describe(attack)}, which leads toward them: for "
                "targets of other classes there is attacks.TargetedPGD"
            )
        part = getattr(part, "attack", None)


def require_norm(norm: str, norms: tuple[str, ...] = ("l2", "linf")) -> None:
    """Raises ValueError unless `norm` is one of `norms`."""
    if norm not in norms:
        raise ValueError(f"norm must be {' or '.join(map(repr, norms))}, got {norm!r}")


def describe(configuration) -> str:
    """An attack's full configuration on one line, functions by their names: what a report shows of it."""
    if dataclasses.is_dataclass(configuration):
        fields = dataclasses.fields(configuration)
        values = ", ".join(f"{field.name}={describe(getattr(configuration, field.name))}" for field in fields)
        return f"{type(configuration).__name__}({values})"
    # Without addresses, which another run of the same program does not have.
    return getattr(configuration, "__name__", None) or re.sub(r" at 0x[0-9a-fA-F]+", "", repr(configuration))


def scaled(attack: Attack, factor: float) -> Attack:
    """The same attack with epsilon, and its step sizes where it has any, times `factor`."""
    if hasattr(attack, "scaled"):
        return attack.scaled(factor)
    return dataclasses.replace(attack, threat=attack.threat.scaled(factor))


def require_classes(logits) -> None:
    """Raises ValueError unless these are logits [B, K] of two classes or more: a single logit, of a binary classifier
    with a sigmoid, has no margin."""
    shape = getattr(logits, "shape", None)
    if not tf.is_tensor(logits) or (shape.rank is not None and (shape.rank != 2 or shape[1] == 1)):
        raise ValueError(f"classifier must return logits [B, K] of two classes or more, got {shape or type(logits)}")


def for_step(logits_fn: LogitsFn, length) -> LogitsFn:
    """`logits_fn` for the gradient of a step of this length, in the norm's units: some functions look as far as that,
    see `relu_windows.StepWindow`; any other is as it is."""
    return logits_fn.for_step(length) if hasattr(logits_fn, "for_step") else logits_fn


def input_gradient(logits_fn: LogitsFn, loss: LossFn, x: tf.Tensor, y) -> tf.Tensor:
    """Gradient of each example's own loss with respect to its pixels, of the shape and dtype of x [B, H, W, C].

    The loss is summed over the batch, so that no example's gradient is scaled by the number of its batch mates.
    """
    return gradient_and_logits(logits_fn, loss, x, y)[0]


def gradient_and_logits(logits_fn: LogitsFn, loss: LossFn, x: tf.Tensor, y) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """`input_gradient`, and what was computed on the way: the logits [B, K] and the loss [B] at x.

    Args:
      y: passed on to `loss`: labels [B], or a tuple of several such tensors.

    Raises:
      NotDifferentiableError: if no gradient leads from the loss to the pixels, as in a quantised model.
      ValueError: for anything but logits of two classes or more.
    """

    def gradient(x, y):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            # A model in mixed precision, for evaluations and trainers give a function in float32.
            with in_float32(logits_fn) if isinstance(logits_fn, keras.Model) else contextlib.nullcontext():
                logits = logits_fn(x)
            require_classes(logits)
            each = loss(logits, y)
            total = tf.reduce_sum(each)
        try:
            gradient = tape.gradient(total, x)
        except LookupError:  # an operation without a gradient
            gradient = None
        if gradient is None:
            raise NotDifferentiableError("classifier must be differentiable with respect to its input for this attack")
        return gradient, logits, each

    if tf.executing_eagerly():
        return gradient(x, y)
    # A graph of its own. In the cyclic graph of a loop TensorFlow may meet the gradient of a pooling before the pooling
    # itself, and then leaves it on a kernel that is thirty times slower: whether it does is chance at every trace.
    return tf.function(gradient, autograph=False, experimental_attributes={"_noinline": True})(x, y)
