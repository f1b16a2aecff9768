"""The small attacks that an inspection runs, all made of one compiled step."""

import dataclasses
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfrobust import seeds
from tfrobust.attacks.base import LogitsFn, input_gradient
from tfrobust.attacks.pgd import PGD
from tfrobust.losses import LossFn
from tfrobust.threat_models import ThreatModel

BATCH_SIZE = 50


class Slopes(NamedTuple):
    """What the gradients of a loss at the images are: bool [N] each.

    Attributes:
      finite: whether every entry of an example's gradient is.
      zero: whether every entry is exactly 0.
    """

    finite: np.ndarray
    zero: np.ndarray


class Probe:
    """A classifier and images that it classifies correctly, with small attacks that say which of them they fool.

    Epsilon and step size are arguments of one compiled step, and the loop around it is Python's: a dozen different
    attacks cost a single trace.

    Args:
      judge_fn: pixels [B, H, W, C] -> logits [B, K]; decides who is fooled.
      gradient_fn: returns the logits that are differentiated; called inside of the graph, see `AttackTwin.logits_fn`.
      images: float32 [N, H, W, C].
      labels: int64 [N].
      indices: int32 [N], the examples' numbers: each has noise of its own, by its number and the seed.
      threat: the norm and the bounds of all attacks; its epsilon is that of `noise`.
      seed: an int.
    """

    def __init__(self, judge_fn: LogitsFn, gradient_fn, images, labels, indices, threat: ThreatModel, seed: int):
        self.images, self.labels, self.threat = images, labels, threat
        self._indices = indices
        pixels, label = tf.TensorSpec([None, *images.shape[1:]]), tf.TensorSpec([None], tf.int64)
        index, count, number = tf.TensorSpec([None], tf.int32), tf.TensorSpec([], tf.int32), tf.TensorSpec([])

        def compiled(*signature):
            return tf.function(input_signature=signature, autograph=False)

        def within(epsilon):
            return dataclasses.replace(threat, epsilon=epsilon)

        @compiled(pixels, label)
        def is_fooled(x_adv, y):
            logits = tf.cast(judge_fn(x_adv), tf.float32)
            # A class that is read off NaN is none.
            return is_finite(x_adv) & is_finite(logits) & (tf.argmax(logits, axis=-1) != y)

        @compiled(pixels, index, count, number)
        def start(x, index, draw, epsilon):
            return within(epsilon).random_start(x, seeds.fold_in(seeds.per_example(seed, index), draw))

        @compiled(pixels, pixels, label, number, number)
        def step(x_adv, x, y, epsilon, step_size):
            return PGD(within(epsilon), 1, step_size).run_from(gradient_fn(), x, y, x_adv)

        self._is_fooled, self._start, self._step = is_fooled, start, step
        self._gradient_fn, self._signature = gradient_fn, (pixels, label)

    def slopes(self, loss: LossFn) -> Slopes:
        """Whether the gradients of `loss` at the images are finite, and whether they are 0.

        Raises:
          NotDifferentiableError: if no gradient leads from the loss to the pixels.
        """

        @tf.function(input_signature=self._signature, autograph=False)
        def look(x, y):
            gradient = input_gradient(self._gradient_fn(), loss, x, y)
            return is_finite(gradient), tf.reduce_all(flat(gradient) == 0, axis=1)

        parts = [look(x, y) for x, y, _ in self._batches()]
        return Slopes(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def pgd(self, epsilon: float, steps: int, *, travel: float = 2.5, random_start: bool = True) -> np.ndarray:
        """Which examples PGD on the cross-entropy fools, bool [N]; its steps are together `travel` epsilon long.

        2.5 is Madry et al.'s choice for CIFAR-10: from any start every point of the ball is within reach.
        """
        results = []
        for x, y, index in self._batches():
            x_adv = self._start(x, index, 0, epsilon) if random_start else x
            for _ in range(steps):
                x_adv = self._step(x_adv, x, y, epsilon, travel * epsilon / steps)
            results.append(self._is_fooled(x_adv, y))
        return np.concatenate(results)

    def noise(self, draws: int) -> np.ndarray:
        """Which examples at least one of `draws` random points of the threat's ball fools, bool [N]."""
        results = []
        for x, y, index in self._batches():
            points = (self._start(x, index, draw, self.threat.epsilon) for draw in range(1, draws + 1))
            results.append(np.any([self._is_fooled(point, y) for point in points], axis=0))
        return np.concatenate(results)

    def _batches(self):
        for start in range(0, len(self.images), BATCH_SIZE):
            batch = slice(start, start + BATCH_SIZE)
            yield self.images[batch], self.labels[batch], self._indices[batch]


def is_finite(tensor: tf.Tensor) -> tf.Tensor:
    """Whether all entries of each example are finite: [B, ...] -> bool [B]."""
    return tf.reduce_all(tf.math.is_finite(flat(tensor)), axis=1)


def flat(tensor: tf.Tensor) -> tf.Tensor:
    """[B, ...] -> [B, D]."""
    return tf.reshape(tensor, [tf.shape(tensor)[0], -1])
