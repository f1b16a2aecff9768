"""Input that cannot give a meaningful number, said in one line before the work begins."""

import numbers
import re
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from tfrobust import pixels
from tfrobust.attacks.base import LogitsFn, describe, require_from_labels
from tfrobust.classifier_fronts import does_not_fit
from tfrobust.full_precision import lowest_precision, rounds
from tfrobust.precision import Functions, Precision, functions, inference

# Images on which the logits of a twin are looked at, and how far apart they may be, in parts of how far logits are from
# their mean.
_FEW, _LARGEST_GAP = 10, 0.03


def require_integer(argument: str, value: int, minimum: int, maximum: int | None = None) -> None:
    """Raises ValueError unless `value` is an integer from `minimum` to `maximum`, both included."""
    if isinstance(value, numbers.Integral) and minimum <= value and (maximum is None or value <= maximum):
        return
    wanted = f"an integer of at least {minimum}" if maximum is None else f"an integer from {minimum} to {maximum}"
    raise ValueError(f"{argument} must be {wanted}, got {value!r}")


def require_named(attacks, attribute: str, kind: str, *, labels_are_targets: bool = False) -> None:
    """Raises ValueError unless `attacks` is a mapping, as reports tell attacks apart by name, of attacks of the kind
    that has an attribute of this name; also for one that leads toward its labels, unless they are targets."""
    if not isinstance(attacks, Mapping):
        raise ValueError(f"attacks must be a mapping of names to attacks, got a {type(attacks).__name__}")
    for name, attack in attacks.items():
        if not hasattr(attack, attribute):
            raise ValueError(f"attacks must be {kind}, got {describe(attack)} for {name!r}")
        if not labels_are_targets:
            require_from_labels("attacks", attack)


def check_examples(images, labels, bounds) -> tuple[np.ndarray, np.ndarray]:
    """The images as float32, where rounding took them out of bounds clipped, and the labels, [N] or [N, 1], as int64
    [N].

    Raises:
      ValueError: if there are none, if their numbers differ, or for pixels that are not finite or out of bounds.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    slack = pixels.rounding(images.dtype.name, bounds)
    images = np.asarray(images, np.float32)
    if labels.ndim == 2 and labels.shape[1] == 1:  # as in keras.datasets
        labels = labels[:, 0]
    if images.ndim == 0 or len(images) == 0 or labels.shape != images.shape[:1]:
        raise ValueError(f"labels must be one for each image, at least one, got {labels.shape} for {images.shape}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be integers, got {labels.dtype}")
    labels = labels.astype(np.int64)
    if not np.isfinite(images).all():
        raise ValueError(f"images must be finite, got NaN or infinity in {_count_bad(~np.isfinite(images))}")
    outside = (images < bounds[0] - slack) | (images > bounds[1] + slack)
    if outside.any():
        raise ValueError(
            f"images must be within {list(bounds)}, got [{images.min():g}, {images.max():g}] in {_count_bad(outside)}"
        )
    if images.min() < bounds[0] or images.max() > bounds[1]:
        images = np.clip(images, *bounds)
    return images, labels


def checked_seed(seed: int) -> int:
    """A seed as Python's integer, which JSON takes; ValueError for what is no integer from 0 up."""
    require_integer("seed", seed, 0)
    return int(seed)


def check_classifier(logits_fn: LogitsFn, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Tries the classifier on a few images; returns its logits [B, K].

    Raises:
      ValueError: if it does not accept them, returns no [B, K] logits with every label below K, returns values that
        are not finite, or returns probabilities.
    """
    logits = _logits(logits_fn, images)
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(
            f"classifier must have a class for every label, got {logits.shape[1]} classes and labels in "
            f"[{labels.min()}, {labels.max()}]"
        )
    if not np.isfinite(logits).all():
        raise ValueError("classifier must return finite logits, got NaN or infinity")
    _refuse_probabilities(logits)
    return logits


def checked_functions(
    classifier: keras.Model | LogitsFn,
    precision: Precision,
    images,
    labels,
    relu_window: float = 0.0,
    *,
    frozen: bool = False,
) -> Functions:
    """What attacks and evaluations call, see `precision.functions`, of a classifier that was tried on a few images.

    Raises:
      ValueError: see `require_logits`, `functions` and `check_classifier`; also for a function that is not made of
        TensorFlow's operations.
    """
    require_logits(classifier)
    if isinstance(classifier, keras.Model):
        _require_float32(classifier, images)
    # Before a twin is made: a model may have to be called once to be built.
    logits = check_classifier(inference(classifier), images, labels)
    found = functions(classifier, precision, relu_window, frozen=frozen)
    if isinstance(classifier, keras.Model):
        if not _is_its_twin(found, classifier, logits, images):
            if relu_window:
                raise does_not_fit(classifier)
            found = functions(found.judge_fn, "float32")
        # Layers may cast by themselves.
        rounded = lowest_precision(lambda x: found.gradient_fn()(x), images) == "float16"
        return found._replace(precision="float16") if rounded else found
    logits = classifier(tf.constant(images[:1]))
    if not tf.is_tensor(logits):
        raise ValueError(
            f"classifier must be a Keras model or a function that returns a tensor, got {type(logits).__name__}: give "
            "Keras models themselves, and wrap what is not TensorFlow in tf.numpy_function"
        )

    def with_classes(x):
        # Inside of a graph it may not tell of how many.
        return tf.ensure_shape(classifier(x), [None, logits.shape[1]])

    return Functions(with_classes, lambda: with_classes, lowest_precision(with_classes, images))


def check_classes(logits_fn: LogitsFn, image_shape: tuple[int, int, int], num_classes: int) -> None:
    """Raises ValueError unless the classifier takes images [H, W, C] of this shape, has so many classes and returns
    something else than probabilities."""
    logits = _logits(logits_fn, np.zeros([1, *image_shape], np.float32))
    if logits.shape[1] != num_classes:
        raise ValueError(f"classifier must have the data's {num_classes} classes, got {logits.shape[1]}")
    _refuse_probabilities(logits)


def require_logits_of_noise(classifier: keras.Model) -> None:
    """Raises ValueError for a model that returns probabilities, or several outputs, for two images of noise; of one
    that does not tell of what size its images are nothing is known."""
    # The inputs of other models than Sequential may have names.
    images = classifier.inputs[0] if isinstance(classifier, keras.Sequential) else getattr(classifier, "input", None)
    if isinstance(images, keras.KerasTensor) and len(images.shape) == 4 and None not in images.shape[1:]:
        count = images.shape[0] or 2
        noise = np.random.default_rng(0).uniform(size=(count, *images.shape[1:])).astype(np.float32)
        _require_float32(classifier, noise)
        _refuse_probabilities(_logits(inference(classifier), noise))


def _is_its_twin(found, classifier, logits, images):
    """Whether what attacks differentiate is the classifier, whose logits are given: a layer may be something else than
    its configuration says, of which its copy was made."""
    inputs = getattr(classifier, "inputs", None)
    if not inputs or inputs[0].shape[0] is None:  # not for batches of one size only
        images, logits = images[:_FEW], logits[:_FEW]
    images = tf.constant(images)
    spread = np.abs(logits - logits.mean(axis=1, keepdims=True)).max()
    allowed = _LARGEST_GAP * max(spread, np.abs(logits).max() / 10)
    gap = np.abs(found.gradient_fn()(images) - logits).max()
    if gap <= allowed or found.precision == "float32":
        return gap <= allowed
    # Rounding where large numbers cancel is another matter.
    exact = functions(classifier, "float32").gradient_fn()(images)
    return np.abs(exact - logits).max() <= allowed


def _require_float32(classifier, images):
    """Raises ValueError for a model that works in its own precision alone: a layer of it holds numbers in that."""
    if not any(map(rounds, classifier._flatten_layers())):
        return
    images, failure = tf.constant(images), None
    try:
        inference(classifier)(images)
        return
    except Exception as error:  # whatever a layer raises
        failure = error
    try:
        classifier(images, training=False)
    except Exception:  # nor in its own precision: said by whoever calls it next
        return
    raise ValueError(
        f"classifier must compute in float32, in which it fails ({first_line(failure)}): make it with Keras's dtype "
        "policy float32 and give it the same weights"
    ) from failure


def require_logits(classifier: keras.Model | LogitsFn) -> None:
    """Raises ValueError for a Keras model that ends in a softmax or a sigmoid; of any other function nothing is known
    before it is called, see `check_classifier`."""
    last = classifier
    while isinstance(last, keras.Model):
        last = _last_operation(last)
    name = getattr(getattr(last, "activation", None), "__name__", None)
    if type(last).__name__ in ("Softmax", "Sigmoid"):
        name = type(last).__name__.lower()
    if name in ("softmax", "sigmoid"):
        raise ValueError(
            f"classifier must return logits, got a last layer {last.name!r} with a {name}: remove it, whose gradients "
            "vanish and make every attack look weak"
        )


def _last_operation(model):
    """The layer or operation that makes a model's output, or None where only its code knows."""
    if isinstance(model, keras.Sequential):
        return model.layers[-1] if model.layers else None
    outputs = getattr(model, "outputs", None)
    return outputs[0]._keras_history.operation if outputs else None


def _refuse_probabilities(logits):
    if logits.min() >= 0 and np.abs(logits.sum(axis=1) - 1).max() < 1e-3:
        raise ValueError(
            "classifier must return logits, got probabilities (each row is positive and sums to 1): remove its "
            "softmax, whose gradients vanish and make every attack look weak"
        )


def _logits(logits_fn, images):
    """What the classifier returns for images [B, H, W, C], checked to be [B, K]."""
    try:
        logits = logits_fn(tf.constant(images))
    except (ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
        raise ValueError(
            f"classifier must take images of shape {images.shape[1:]}, got: {first_line(error)}"
        ) from error
    if isinstance(logits, Mapping | list | tuple):
        raise ValueError(
            f"classifier must return one tensor of logits [B, K], got a {type(logits).__name__}: make a keras.Model of "
            "its images and that output alone"
        )
    try:
        logits = np.asarray(logits, np.float32)
    except (ValueError, TypeError) as error:
        raise ValueError(f"classifier must return logits [B, K], got {first_line(error)}") from error
    if logits.ndim != 2 or logits.shape[0] != len(images):
        raise ValueError(f"classifier must return logits [B, K], got shape {logits.shape} for {len(images)} images")
    return logits


def _count_bad(mask):
    bad = int(mask.reshape(len(mask), -1).any(axis=1).sum())
    return (
        f"{bad} of {len(mask)} images, the first being number {int(mask.reshape(len(mask), -1).any(axis=1).argmax())}"
    )


def first_line(error):
    """What an error says first, in plain text, less the line in which Keras names the call."""
    # Keras makes parts of its messages bold.
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("Exception encountered when calling")]
    return lines[0] if lines else type(error).__name__
