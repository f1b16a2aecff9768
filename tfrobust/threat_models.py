"""What the adversary may do: a norm, a radius and the range of valid pixels.

A `ThreatModel` is the set S of the saddle-point problem (Madry et al. 2018, equation 2.1),

    min_theta E_(x,y) [ max_{delta in S} L(theta, x + delta, y) ],    S = {delta: |delta|_p <= epsilon},

cut with the box of valid pixels. It owns epsilon: attacks and reports ask it and never hold a copy.

    threat = ThreatModel("linf", epsilon=0.3)    # or "l2", "l1"
    x_adv = threat.project(x + noise, x)
    threat.distance(x_adv, x)                  # [B], at most epsilon + threat.tolerance
"""

import dataclasses
import math
import numbers
from typing import Literal

import tensorflow as tf

from tfrobust import l1, seeds
from tfrobust.shapes import column_of, norms_l2, sum_l1

NORMS = ("linf", "l2", "l1")
FLOAT32_STEP = 2.0**-24


@dataclasses.dataclass(frozen=True)
class ThreatModel:
    """An l_p ball of radius `epsilon` around the image, within `bounds`.

    Attributes:
      norm: "linf", "l2" or "l1".
      epsilon: radius, in pixel units of `bounds`; a float from 0 up. A scalar tensor (an epsilon schedule inside a
        graph, see `scaled`) is accepted unchecked.
      bounds: lowest and highest valid pixel.

    Raises:
      ValueError: for an unknown norm, bounds out of order, an epsilon that is negative or not finite, or one in linf
        that is wider than the bounds (8 where 8/255 was meant).
    """

    norm: Literal["linf", "l2", "l1"]
    epsilon: float
    bounds: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self):
        if self.norm not in NORMS:
            raise ValueError(f"norm must be 'linf', 'l2' or 'l1', got {self.norm!r}")
        if not (isinstance(self.bounds, tuple) and len(self.bounds) == 2 and self.bounds[0] < self.bounds[1]):
            raise ValueError(f"bounds must be (low, high) with low < high, got {self.bounds!r}")
        if not all(map(math.isfinite, self.bounds)):
            raise ValueError(f"bounds must be finite, got {self.bounds!r}")
        # NumPy's numbers have types that tensors do not take.
        object.__setattr__(self, "bounds", tuple(map(float, self.bounds)))
        if tf.is_tensor(self.epsilon):
            return
        if not (isinstance(self.epsilon, numbers.Real) and math.isfinite(self.epsilon) and self.epsilon >= 0):
            raise ValueError(f"epsilon must be a finite number from 0 up, got {self.epsilon!r}")
        object.__setattr__(self, "epsilon", float(self.epsilon))
        if self.norm == "linf" and self.epsilon > self.bounds[1] - self.bounds[0]:
            raise ValueError(
                f"epsilon must be at most {self.bounds[1] - self.bounds[0]:g} for pixels in {list(self.bounds)}, "
                f"got {self.epsilon!r}; {self.epsilon:g} grey levels of 255 are {self.epsilon:g}/255"
            )

    @property
    def tolerance(self) -> float:
        """By how much a projected float32 image may be farther away than epsilon: 1e-6 for pixels in [0, 1], and some
        rounding steps of the largest number at hand where that is more; in l1, whose distance is a sum over all pixels
        that were rounded one by one, a hundred thousandth of epsilon."""
        if self.norm == "l1":
            return 1e-5 * max(self.bounds[1] - self.bounds[0], self.epsilon)
        return max(1e-6, 8 * FLOAT32_STEP * max(abs(self.bounds[0]), abs(self.bounds[1]), self.epsilon))

    def scaled(self, factor) -> "ThreatModel":
        """The same threat with epsilon times `factor`, a float or a scalar tensor."""
        return dataclasses.replace(self, epsilon=self.epsilon * factor)

    def project(self, x_adv: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """The point of the ball around `x`, within bounds, that replaces `x_adv`. Both [B, ...], as is the result.

        For linf and l1 this is the Euclidean projection onto ball and box together; for l2 it is the ball first and
        the box after, which stays in the ball because `x` is in the box.
        """
        if self.norm == "l1":
            return l1.project(x_adv, x, self.epsilon, self.bounds)
        delta = x_adv - x
        if self.norm == "linf":
            delta = tf.clip_by_value(delta, -self.epsilon, self.epsilon)
        else:
            # max(norm, epsilon) would be 0 / 0 at epsilon 0 with delta 0.
            delta *= tf.math.divide_no_nan(self.epsilon, tf.maximum(norms_l2(delta), self.epsilon))
        return tf.clip_by_value(x + delta, *self.bounds)

    def random_start(self, x: tf.Tensor, seed) -> tf.Tensor:
        """A uniformly random point of the ball around each `x` [B, ...], cut to bounds; `seed` as in `seeds`."""
        if self.norm == "linf":
            return self.project(x + seeds.uniform(seed, x, -1.0, 1.0) * self.epsilon, x)
        direction = seeds.normal(seed, x) if self.norm == "l2" else l1.laplace(seed, x)
        size = norms_l2(direction) if self.norm == "l2" else sum_l1(direction)
        # The radius of a uniform point of a d-dimensional ball is distributed as U^(1/d).
        dimension = tf.cast(tf.size(x) / tf.maximum(tf.shape(x)[0], 1), x.dtype)
        column = tf.reshape(x, [tf.shape(x)[0], -1])[:, :1]
        radius = tf.pow(seeds.uniform(seeds.fold_in(seed, 1), column, 0.0, 1.0), 1.0 / dimension)
        delta = self.epsilon * column_of(radius, x) * tf.math.divide_no_nan(direction, size)
        return self.project(x + delta, x)

    def steepest_ascent(self, gradient: tf.Tensor, step_size, coordinates: tf.Tensor | None = None) -> tf.Tensor:
        """The step of norm `step_size` along which a linear function rises most: sign for linf, unit vector for l2.

        For l1 that would be a single coordinate, which makes for slow attacks; the step is shared equally by the
        signs of the largest `coordinates` entries, as in Tramer and Boneh 2019 (appendix, SLIDE), who take 1 %.

        Args:
          gradient: [B, ...]; an example whose gradient is 0 gets a step of 0.
          step_size: pixel units, a float or a tensor that broadcasts with the gradient.
          coordinates: [B], for l1 only: how many entries take part, by default 1 % of them, at least one.
        """
        if self.norm == "linf":
            return step_size * tf.sign(gradient)
        if self.norm == "l1":
            return step_size * l1.sparse_sign(gradient, coordinates)
        # Scaled by the largest entry first, so that squares of tiny gradients do not underflow to 0.
        largest = tf.reduce_max(tf.abs(gradient), axis=list(range(1, gradient.shape.rank)), keepdims=True)
        gradient = tf.math.divide_no_nan(gradient, largest)
        return step_size * tf.math.divide_no_nan(gradient, norms_l2(gradient))

    def distance(self, x_adv: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """Distance of each example in this norm, float32 [B]."""
        delta = tf.reshape(tf.cast(x_adv, tf.float32) - tf.cast(x, tf.float32), [tf.shape(x)[0], -1])
        if self.norm == "linf":
            return tf.reduce_max(tf.abs(delta), axis=1)
        return tf.norm(delta, axis=1) if self.norm == "l2" else tf.reduce_sum(tf.abs(delta), axis=1)
