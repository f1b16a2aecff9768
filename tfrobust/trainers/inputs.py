"""What trainers are given, checked: attacks, losses, optimizers and batches."""

import keras
import numpy as np
import tensorflow as tf

from tfrobust.attacks.base import require_from_labels
from tfrobust.checks import require_logits, require_logits_of_noise
from tfrobust.pixels import require_within


def require_attack(argument: str, attack) -> None:
    """Raises ValueError unless `attack` is None or what every attack is, see `attacks.base.Attack`, and leads away from
    the labels."""
    if attack is not None and not (callable(attack) and hasattr(attack, "threat")):
        raise ValueError(f"{argument} must be an attack, such as PGD(threat, steps=7, step_size=0.1), got {attack!r}")
    require_from_labels(argument, attack)


def require_trainable(classifier: keras.Model) -> None:
    """Raises ValueError for what is no Keras model, such as a loaded SavedModel, for one that returns no logits, and
    for a Sequential that does not know its images yet, of which no faster copy can be made."""
    if not isinstance(classifier, keras.Model):
        raise ValueError(f"classifier must be a keras.Model, got {classifier!r}")
    require_logits(classifier)
    if len(getattr(classifier, "inputs", None) or [None]) != 1:
        raise ValueError(f"classifier must have one input, images [B, H, W, C], got {len(classifier.inputs)}")
    if isinstance(classifier, keras.Sequential) and not classifier.built:
        raise ValueError("classifier must be built: begin it with keras.Input(shape), or call it with images once")
    require_logits_of_noise(classifier)


def require_updates(optimizer: keras.optimizers.Optimizer | None) -> None:
    """Raises ValueError for an optimizer that accumulates gradients: its count of updates does not tell steps apart."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if getattr(optimizer, "gradient_accumulation_steps", None):
        raise ValueError("optimizer must not have gradient_accumulation_steps: noise is drawn by count of updates")


def require_loss_of_logits(loss) -> None:
    """Raises ValueError for those of Keras's cross-entropies that take probabilities, by name, function or object,
    alone or in a list."""
    for part in keras.tree.flatten(loss):
        _require_loss_of_logits(part)


def _require_loss_of_logits(loss):
    if isinstance(loss, str):
        try:
            loss = keras.losses.get(loss)
        except ValueError:  # which Keras says better
            return
    if loss is keras.losses.categorical_crossentropy or isinstance(loss, keras.losses.CategoricalCrossentropy):
        raise ValueError(
            "loss must be one of class numbers, such as keras.losses.SparseCategoricalCrossentropy(from_logits=True), "
            "got CategoricalCrossentropy"
        )
    functions = (keras.losses.sparse_categorical_crossentropy, keras.losses.categorical_crossentropy)
    if loss in functions or getattr(loss, "from_logits", None) is False:
        raise ValueError(
            "loss must be one of logits, such as keras.losses.SparseCategoricalCrossentropy(from_logits=True), got "
            f"{getattr(loss, '__name__', None) or type(loss).__name__} of probabilities"
        )


def unpacked(data) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
    """Images, labels [B] and sample weights, if any, of what Keras calls a batch.

    Labels are class numbers [B], or [B, 1] as in keras.datasets.

    Raises:
      ValueError: for labels of another shape, or for several tensors in the place of one.
    """
    # Arrays are what Keras hands on of a single batch when it runs eagerly.
    parts = keras.utils.unpack_x_y_sample_weight(data)
    x, y, sample_weight = (tf.convert_to_tensor(part) if isinstance(part, np.ndarray) else part for part in parts)
    if not (tf.is_tensor(x) and tf.is_tensor(y)):
        kinds = f"{type(x).__name__} and {type(y).__name__}"
        raise ValueError(f"batches must be of images and labels, one tensor each, got {kinds}")
    if y.shape.rank == 2 and y.shape[1] == 1:
        y = tf.squeeze(y, axis=1)
    if y.shape.rank not in (1, None):
        raise ValueError(f"labels must be class numbers [B] or [B, 1], got shape {y.shape}")
    return x, y, sample_weight


def checked_labels(y: tf.Tensor, classes: int | None) -> tf.Tensor:
    """The labels [B], which are from 0 up and below the number of classes, if that is known; in a graph when it runs.

    Raises:
      ValueError: if they are not; in a graph a tf.errors.InvalidArgumentError, which `pixels.as_value_error` turns into
        one.
    """
    if classes is None:
        return y
    text = f"labels must be class numbers from 0 to {classes - 1}, got from"
    check = require_within(tf.cast(y, tf.int64), 0, classes - 1, text)
    # Before Keras's loss, which says it in many lines.
    with tf.control_dependencies([] if check is None else [check]):
        return tf.identity(y)
