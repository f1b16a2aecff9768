"""The loss around one image: what PGD finds from many starts, and how its maxima lie (Madry et al. 2018, section 3.1).

landscape = Landscape(model, PGD(ThreatModel("linf", 0.3), steps=40, step_size=0.01))
maxima = landscape.maxima(x, y, restarts=range(200), seed=0)
geometry(maxima.delta).mean_angle           # the paper: about 90 degrees
"""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfrobust import precision, seeds
from tfrobust.attacks import PGD
from tfrobust.attacks.base import LogitsFn, gradient_and_logits, input_gradient
from tfrobust.pixels import require_pixels


class Maxima(NamedTuple):
    """What PGD found from R starts around an image.

    Attributes:
      losses: before each step and behind the last one, [R, steps + 1].
      delta: the last iterates less the image, [R, H, W, C].
      start: the starts less the image, [R, H, W, C].
    """

    losses: np.ndarray
    delta: np.ndarray
    start: np.ndarray


class Geometry(NamedTuple):
    """How R points lie to each other, over all pairs: l2 distances, and angles in degrees as seen from 0."""

    mean_distance: float
    deviation_of_distance: float
    mean_angle: float
    deviation_of_angle: float


class Landscape:
    """The loss of one classifier around images.

    Args:
      classifier: a keras.Model or function, pixels [B, H, W, C] -> logits [B, K]; asked in inference mode, in float32.
      attack: its threat, steps and loss; each restart is one of its own.
      batch_size: restarts, or points of a surface, at a time: memory does not grow with their number.

    Raises:
      ValueError: from calls, for an image that is not within the bounds of the attack's threat model.
    """

    def __init__(self, classifier: keras.Model | LogitsFn, attack: PGD, batch_size: int = 200):
        self.attack, self._batch_size = attack, batch_size
        logits_fn = precision.inference(classifier)

        @tf.function(autograph=False, reduce_retracing=True)
        def ascend(x, y, seed):
            x_start = attack.start(x, seed)
            losses = tf.TensorArray(tf.float32, attack.steps + 1)

            def body(step, x_adv, losses):
                gradient, _, loss = gradient_and_logits(logits_fn, attack.loss, x_adv, y)
                losses = losses.write(step, loss)
                return step + 1, attack.advance(x, x_adv, gradient, step), losses

            state = (tf.constant(0), x_start, losses)
            _, x_adv, losses = tf.while_loop(lambda step, *_: step < attack.steps, body, state, parallel_iterations=1)
            losses = losses.write(attack.steps, attack.loss(logits_fn(x_adv), y))
            return tf.transpose(losses.stack()), x_adv - x, x_start - x

        self._ascend = ascend
        self._loss = tf.function(lambda x, y: attack.loss(logits_fn(x), y), autograph=False, reduce_retracing=True)
        self._gradient = tf.function(lambda x, y: input_gradient(logits_fn, attack.loss, x, y), autograph=False)

    def maxima(self, x: np.ndarray, y: int, restarts: Sequence[int], *, seed: int) -> Maxima:
        """Ascends around the image x [H, W, C] of class y from the starts of these numbers.

        Start number r is the same whatever others are asked for with it; another image should have another seed.
        """
        parts = []
        for first in range(0, len(restarts), self._batch_size):
            numbers = tf.constant(restarts[first : first + self._batch_size], tf.int32)
            images, labels = self._repeated(x, y, len(numbers))
            parts.append([part.numpy() for part in self._ascend(images, labels, seeds.per_example(seed, numbers))])
        return Maxima(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def gradient(self, x: np.ndarray, y: int) -> np.ndarray:
        """The loss's gradient at the image itself, [H, W, C]."""
        return self._gradient(*self._repeated(x, y, 1)).numpy()[0]

    def surface(self, x: np.ndarray, y: int, points: int, *, seed: int) -> np.ndarray:
        """The loss on a plane through the image, [points, points].

        The first axis goes from -epsilon to epsilon along the sign of the gradient, the second along random signs.
        Points are cut to the range of pixels, not to the ball: at the corners both changes add up.
        """
        steps = np.linspace(-1, 1, points, dtype=np.float32) * np.float32(self.attack.threat.epsilon)
        random = np.sign(seeds.normal(seeds.fold_in(seed, 1), tf.constant(x)).numpy())
        along, across = (steps.reshape(-1, 1, 1, 1) * sign for sign in (np.sign(self.gradient(x, y)), random))
        values = []
        for row in along:
            for first in range(0, points, self._batch_size):
                images = np.clip(x + row + across[first : first + self._batch_size], *self.attack.threat.bounds)
                values.append(self._loss(images, tf.fill([len(images)], tf.cast(y, tf.int64))).numpy())
        return np.concatenate(values).reshape(points, points)

    def _repeated(self, x, y, count):
        require_pixels(tf.convert_to_tensor(x), self.attack.threat.bounds)
        images = tf.repeat(tf.cast(x, tf.float32)[tf.newaxis], count, axis=0)
        return images, tf.fill([count], tf.cast(y, tf.int64))


def geometry(points: np.ndarray) -> Geometry:
    """See `Geometry`; points [R, ...] with R of 2 or more.

    Raises:
      ValueError: for fewer points.
    """
    if len(points) < 2:
        raise ValueError(f"points must be two or more, got {len(points)}")
    flat = points.reshape(len(points), -1).astype(np.float64)
    products = flat @ flat.T
    squares = np.diag(products)
    above = np.triu_indices(len(flat), 1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares[None, :] - 2 * products, 0))[above]
    lengths = np.sqrt(squares)
    angles = np.degrees(np.arccos(np.clip((products / (lengths[:, None] * lengths[None, :]))[above], -1, 1)))
    return Geometry(*(float(value) for value in (distances.mean(), distances.std(), angles.mean(), angles.std())))


def cosines(points: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Cosine of the angle between each of the points [R, ...] and a direction [...], [R]; NaN where one is 0."""
    flat, direction = points.reshape(len(points), -1).astype(np.float64), direction.ravel().astype(np.float64)
    with np.errstate(invalid="ignore"):
        return flat @ direction / (np.linalg.norm(flat, axis=1) * np.linalg.norm(direction))
