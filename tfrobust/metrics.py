"""The measures of Deep Defense (Yan et al. 2018, section 4): rho under DeepFool, and accuracy under FGSM at eps_ref."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfrobust import precision as precisions
from tfrobust.attacks.base import input_gradient
from tfrobust.attacks.deepfool_perturbation import deepfool_perturbation
from tfrobust.checks import check_examples, require_integer, require_logits
from tfrobust.losses import log_odds
from tfrobust.perturbation_size import image_norm, relative_size
from tfrobust.precision import Precision

Progress = Callable[[int, int], None]

# Values of a batch: 500 images of CIFAR-10, ten from ImageNet.
_BATCH_VALUES = 500 * 32 * 32 * 3
# Parts of [0, 1] that are looked at from the smallest epsilon on.
_SCAN = 64


def batch_size_for(image_shape: Sequence[int]) -> int:
    """How many images [H, W, C] are measured at a time where nothing else is said, from 1 to 500."""
    return max(1, min(500, _BATCH_VALUES // math.prod(image_shape)))


class Rho(NamedTuple):
    """What DeepFool found.

    Attributes:
      value: the mean of |delta|_p / |x|_p over all images, those that it did not fool among them (Moosavi-Dezfooli et
        al. 2016, eq. 15); images of norm 0 are left out.
      success_rate: the part of the images whose class has changed.
      sizes: of each image, [N].
      classes: what the classifier takes each image for as it is, [N].
    """

    value: float
    success_rate: float
    sizes: np.ndarray
    classes: np.ndarray


class RhoMeter:
    """How far images must move to leave the class that the classifier gives them, by DeepFool.

    As in the code of Deep Defense every image counts, whether its class is right or not, and none is clipped. The
    nearest boundaries are looked for in `precision`; the steps onto them and the classes are float32.

        meter = RhoMeter(classifier, iterations=50)
        meter(images).value

    Args:
      classifier: a built keras.Model, pixels in [0, 1] -> logits; its weights may change between calls.
      iterations: of DeepFool, 1 or more; the code of Deep Defense makes 5, that of DeepFool 50. Calls may ask for
        another number, for which nothing is compiled anew.
      norm: "l2" or "linf".
      center: what counts as 0 in |x|; see `relative_size`.
      batch_size: images at a time; default: `batch_size_for` them.

    Raises:
      ValueError: for a classifier that ends in a softmax; from calls, for no images or iterations, and as in
        `deepfool_perturbation`.
    """

    def __init__(
        self,
        classifier: keras.Model,
        *,
        iterations: int = 50,
        norm: str = "l2",
        center: np.ndarray | float = 0.0,
        batch_size: int | None = None,
        precision: Precision = "auto",
    ):
        require_logits(classifier)
        self._iterations = iterations
        self._batch_size = batch_size or batch_size_for(classifier.input_shape[1:])
        functions = precisions.functions(classifier, precision)
        signature = (tf.TensorSpec((None, *classifier.input_shape[1:])), tf.TensorSpec((), tf.int32))

        @tf.function(autograph=False, input_signature=signature)
        def measure(x, iterations):
            y = tf.argmax(functions.judge_fn(x), axis=-1)
            found = deepfool_perturbation(
                functions.judge_fn,
                x,
                y,
                iterations=iterations,
                norm=norm,
                choose_fn=functions.gradient_fn(),
                differentiable=False,
            )
            size = relative_size(found.delta, x, norm, center)
            return size, image_norm(x, norm, center) != 0, found.crossed, y

        self._measure = measure

    def __call__(
        self, images: np.ndarray, on_progress: Progress | None = None, *, iterations: int | None = None
    ) -> Rho:
        """Measures images [N, H, W, C] in [0, 1], with other `iterations` than the meter's if they are given.

        `on_progress` is called with how many are done, and of how many.
        """
        _require_images(images)
        iterations = self._iterations if iterations is None else iterations
        require_integer("iterations", iterations, 1)
        arrays = _over_batches(lambda x: self._measure(x, iterations), (images,), self._batch_size, on_progress)
        sizes, has_size, crossed, classes = arrays
        # Any other number that is not finite must show.
        measured = sizes[has_size]
        return Rho(float(np.mean(measured)) if len(measured) else float("nan"), float(np.mean(crossed)), sizes, classes)


class SignAttack:
    """FGSM on one classifier and many epsilons: the gradient's sign is computed once.

    It is the sign of the cross-entropy's gradient, taken of the log-odds, which rise in the same direction: with the
    large leads that Deep Defense makes, the cross-entropy's own gradient rounds to something else or to 0 in float32,
    and FGSM looks weak.

        attack = SignAttack(classifier, images, labels)
        epsilon = attack.epsilon_at(0.5)
        attack.accuracy(epsilon / 5)

    Args:
      classifier: a built keras.Model, pixels in [0, 1] -> logits.
      images, labels: [N, H, W, C] in [0, 1] and [N].

    Raises:
      ValueError: for no images, pixels out of [0, 1], labels that do not fit, or a classifier that ends in a softmax.
    """

    def __init__(self, classifier: keras.Model, images: np.ndarray, labels: np.ndarray, batch_size: int | None = None):
        _require_images(images)
        require_logits(classifier)
        self._images, self._labels = check_examples(images, labels, (0.0, 1.0))
        self._batch_size = batch_size or batch_size_for(images.shape[1:])
        judge_fn = precisions.inference(classifier)

        @tf.function(autograph=False)
        def sign(x, y):
            return (tf.sign(input_gradient(judge_fn, log_odds, x, y)),)

        @tf.function(autograph=False)
        def correct(x, direction, y, epsilon):
            x_adv = tf.clip_by_value(x + epsilon * direction, 0.0, 1.0)
            return (tf.argmax(judge_fn(x_adv), axis=-1) == tf.cast(y, tf.int64),)

        self._correct = correct
        (self._signs,) = _over_batches(sign, (images, self._labels), self._batch_size)

    def accuracy(self, epsilon: float) -> float:
        """The part of the images that are still classified correctly after one step of `epsilon` in linf."""
        epsilon = tf.constant(epsilon, tf.float32)
        arrays = (self._images, self._signs, self._labels)
        (correct,) = _over_batches(lambda x, s, y: self._correct(x, s, y, epsilon), arrays, self._batch_size)
        return float(np.mean(correct))

    def epsilon_at(self, accuracy: float, *, tolerance: float = 1e-8) -> float:
        """The smallest epsilon at which the accuracy is at most `accuracy`.

        By bisection to `tolerance` of the first of `_SCAN` equal parts of [0, 1] at whose end it is: FGSM may be weaker
        at a larger epsilon. With an accuracy of 0.5 it is eps_ref of Deep Defense.

        Raises:
          ValueError: unless the natural accuracy is above `accuracy`, and one under FGSM is not.
        """
        found = natural = self.accuracy(0.0)
        high, lowest = 0.0, natural
        while accuracy < found and high < 1:
            high += 1 / _SCAN
            found = self.accuracy(high)
            lowest = min(lowest, found)
        if not found <= accuracy < natural:
            raise ValueError(
                f"accuracy must be at least the lowest of FGSM, {lowest:g}, and below the natural one, {natural:g}, "
                f"got {accuracy!r}"
            )
        low = high - 1 / _SCAN
        while high - low > tolerance:
            middle = (low + high) / 2
            low, high = (low, middle) if self.accuracy(middle) <= accuracy else (middle, high)
        return high


def _require_images(images):
    if not len(images):
        raise ValueError("images must be one or more, got none")


def _over_batches(function, arrays, batch_size, on_progress=None):
    """The results of `function`, a tuple of arrays [B, ...], over all of `arrays` [N, ...] in batches of one shape."""
    total = len(arrays[0])
    size = min(batch_size, total)
    parts = []
    for start in range(0, total, size):
        count = min(size, total - start)
        # The last batch is filled up with the first images, so that there is one shape.
        index = np.concatenate([np.arange(start, start + count), np.arange(size - count)])
        parts.append([np.asarray(part)[:count] for part in function(*(array[index] for array in arrays))])
        if on_progress:
            on_progress(start + count, total)
    return [np.concatenate(part) for part in zip(*parts, strict=True)]
