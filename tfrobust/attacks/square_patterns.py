"""The moves of Square Attack (Andriushchenko et al. 2020): where it starts, and what it tries next.

In linf a move sets a square to one of the two walls of the ball (algorithm 2 of the paper); in l2 it adds a pair of
bumps to one square, and gives it what the change in another one was worth (algorithm 3); in l1 it does as in l2 with
steeper bumps (Croce and Hein 2021, "Mind the box").

A move is a function of a few uniform numbers of each example, so that each has its own square, whatever its batch
mates do. AutoAttack's code has one position for a whole batch.
"""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from tfrobust import seeds
from tfrobust.shapes import norms_l2, sum_l1
from tfrobust.threat_models import ThreatModel

State = dict[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class WallSquares:
    """Moves in linf.

    Attributes:
      threat: the ball and its bounds.
      shape: (height, width, channels) of the images.
      sides: of the square of each query; see `square_side`.
    """

    threat: ThreatModel
    shape: tuple[int, int, int]
    sides: tuple[int, ...]

    @property
    def numbers(self) -> int:
        """How many uniform numbers a move takes."""
        return 2 + self.shape[2]

    def start(self, x: tf.Tensor, seed) -> tf.Tensor:
        """Vertical stripes, one pixel wide, each at a random wall of the ball: [B, H, W, C] -> [B, H, W, C]."""
        return self.threat.project(x + self.threat.epsilon * _signs(seeds.uniform(seed, x[:, :1], 0.0, 1.0)), x)

    def constants(self, x: tf.Tensor) -> State:
        """What `move` needs of the images x [B, H, W, C]: the walls."""
        walls = {"low": -self.threat.epsilon, "high": self.threat.epsilon}
        return {name: self.threat.project(x + epsilon, x) for name, epsilon in walls.items()}

    def move(self, state: State, x_adv: tf.Tensor, numbers: tf.Tensor, query: tf.Tensor) -> tf.Tensor:
        """`x_adv` with a random square at a random wall, a wall for each channel; all [B, H, W, C].

        Args:
          state: among others `constants`.
          numbers: uniform in [0, 1), [B, `self.numbers`].
          query: int scalar, number of the query.
        """
        height, width, channels = self.shape
        side = tf.gather(tf.constant(self.sides), query)
        rows = _inside(_first(numbers[:, 0], height, side), height, side, x_adv.dtype)
        columns = _inside(_first(numbers[:, 1], width, side), width, side, x_adv.dtype)
        # As products of vectors, channels beside columns: a comparison that broadcasts takes several times longer.
        signs = tf.cast(_signs(numbers[:, 2:]), x_adv.dtype)
        columns = tf.reshape(columns[:, :, tf.newaxis] * signs[:, tf.newaxis], [-1, width * channels])
        square = tf.reshape(rows[:, :, tf.newaxis] * columns[:, tf.newaxis], [-1, *self.shape])
        # More than from wall to wall, so that pixels end exactly on one.
        change = 3 * self.threat.epsilon * square
        return tf.maximum(tf.minimum(x_adv + change, state["high"]), state["low"])


@dataclasses.dataclass(frozen=True)
class BumpSquares:
    """Moves in l2 and l1; attributes and methods as those of `WallSquares`."""

    threat: ThreatModel
    shape: tuple[int, int, int]
    sides: tuple[int, ...]

    @property
    def numbers(self) -> int:
        return 5 + self.shape[2]

    def start(self, x: tf.Tensor, seed) -> tf.Tensor:
        """Bumps of random sign and orientation on a grid of squares, five in the shorter direction."""
        height, width, channels = self.shape
        side = max(min(height, width) // 5, 1)
        grid = (height // side, width // side)
        numbers = seeds.uniform(seed, tf.zeros([tf.shape(x)[0], *grid, 1 + channels]), 0.0, 1.0)
        pattern = bump(self.threat.norm, side)
        upright = numbers[..., :1, tf.newaxis] < 0.5
        tiles = tf.where(upright, pattern, pattern.T)[..., tf.newaxis]
        tiles *= _signs(numbers[:, :, :, tf.newaxis, tf.newaxis, 1:])
        # [B, grid row, grid column, row, column, C]
        delta = tf.reshape(tf.transpose(tiles, [0, 1, 3, 2, 4, 5]), [-1, grid[0] * side, grid[1] * side, channels])
        above, left = ((size - count * side) // 2 for size, count in zip((height, width), grid, strict=True))
        delta = tf.image.pad_to_bounding_box(delta, above, left, height, width)
        return self._at_full_size(tf.cast(delta, x.dtype), x)

    def constants(self, x: tf.Tensor) -> State:
        return {"x": x}

    def move(self, state: State, x_adv: tf.Tensor, numbers: tf.Tensor, query: tf.Tensor) -> tf.Tensor:
        """`x_adv` with bumps added in one random square, and x in another one of the same side.

        The first square's change has, in each channel, the size that both had, and a share of what is left of epsilon.
        """
        height, width, channels = self.shape
        x, norm, epsilon = state["x"], self.threat.norm, self.threat.epsilon
        side = tf.gather(tf.constant(self.sides), query)
        sizes = (height, width, height, width)
        corners = [_first(numbers[:, i], size, side) for i, size in enumerate(sizes)]
        inside = [_inside(corner, size, side, x.dtype) for corner, size in zip(corners, sizes, strict=True)]
        window, emptied = (
            inside[i][:, :, tf.newaxis, tf.newaxis] * inside[i + 1][:, tf.newaxis, :, tf.newaxis] for i in (0, 2)
        )
        either = tf.maximum(window, emptied)
        bumps = self._bumps(query, corners[0], corners[1], upright=numbers[:, 4] < 0.5)
        bumps = tf.cast(bumps * _signs(numbers[:, tf.newaxis, tf.newaxis, 5:]), x.dtype)

        delta = x_adv - x
        old = delta * window
        new = bumps + tf.math.divide_no_nan(old, _channel_sizes(norm, old))
        freed = _channel_sizes(norm, delta * either)
        if norm == "l2":
            unused = tf.nn.relu(epsilon**2 - tf.square(norms_l2(delta)))
            available = tf.sqrt(unused / channels + tf.square(freed))
        else:
            # As published: more than there is where there are several channels, and cut by the projection.
            available = channels * (tf.nn.relu(epsilon - sum_l1(delta)) / channels + freed)
        new *= tf.math.divide_no_nan(available, _channel_sizes(norm, new))
        return self._at_full_size(delta * (1 - either) + new, x)

    def _at_full_size(self, delta, x):
        """x with a change that, but for the bounds, has in l2 the norm epsilon, and in l1 at most that."""
        if self.threat.norm == "l2":
            delta = self.threat.epsilon * tf.math.divide_no_nan(delta, norms_l2(delta))
        return self.threat.project(x + delta, x)

    def _bumps(self, query, first_row, first_column, upright):
        """The query's bumps at the given places, 0 around them: [B, H, W, 1]."""
        sides, number = np.unique(self.sides, return_inverse=True)
        # All patterns, each with a border of zeros at least one pixel wide, looked up by relative row and column.
        length = int(sides[-1]) + 2
        table = np.zeros([len(sides), length, length], np.float32)
        for pattern, side in zip(table, sides, strict=True):
            pattern[1 : side + 1, 1 : side + 1] = bump(self.threat.norm, side)

        def places(first, size, stride):
            relative = tf.clip_by_value(tf.range(size) - first[:, tf.newaxis] + 1, 0, length - 1)
            return relative * stride[:, tf.newaxis]

        start = tf.gather(tf.constant(number * length**2, tf.int32), query)
        rows = places(first_row, self.shape[0], tf.where(upright, length, 1))
        columns = places(first_column, self.shape[1], tf.where(upright, 1, length))
        index = (start + rows)[:, :, tf.newaxis] + columns[:, tf.newaxis]
        return tf.gather(tf.constant(table.ravel()), index)[..., tf.newaxis]


def square_side(norm: str, fraction: float, height: int, width: int) -> int:
    """Side of a square with about `fraction` of the pixels: from 1 up in linf, odd and from 3 up in l2 and l1, and as
    large as fits in images that are smaller."""
    side, largest_side = round(math.sqrt(fraction * height * width)), min(height, width)
    if norm == "linf":
        return min(max(side, 1), largest_side)
    return min(max(side, 3) // 2 * 2 + 1, (largest_side - 1) // 2 * 2 + 1)


def bump(norm: str, side: int) -> np.ndarray:
    """A hill in the upper half of a square and a hole in the lower one, float32 [side, side] of norm 1.

    With d the distance of a pixel from the middle of its half, counted in square rings, its height is the sum of
    1 / k^2 over k from d + 1 to the number of rings, and of 1 / k^4 in l1. Both halves have the same norm.
    """
    upper = side // 2
    pattern = np.concatenate([_hill(norm, upper, side), -_hill(norm, side - upper, side)])
    return (pattern / _size(norm, pattern)).astype(np.float32)


def _hill(norm, rows, columns):
    if not rows:
        return np.zeros([0, columns])
    row, column = np.ogrid[:rows, :columns]
    ring = np.maximum(np.abs(row - rows // 2), np.abs(column - columns // 2))
    rings = max(rows, columns) // 2 + 1
    steps = 1.0 / np.arange(1, rings + 1) ** (2 if norm == "l2" else 4)
    heights = np.cumsum(steps[::-1])[::-1]
    hill = heights[ring]
    return hill / _size(norm, hill)


def _size(norm, array):
    return np.sqrt(np.sum(array**2)) if norm == "l2" else np.sum(np.abs(array))


def _channel_sizes(norm, tensor):
    """Norm of each channel, [B, H, W, C] -> [B, 1, 1, C]."""
    if norm == "l2":
        return tf.sqrt(tf.reduce_sum(tf.square(tensor), axis=[1, 2], keepdims=True))
    return tf.reduce_sum(tf.abs(tensor), axis=[1, 2], keepdims=True)


def _signs(numbers):
    """-1 or 1 for each uniform number."""
    return tf.where(numbers < 0.5, -tf.ones([], numbers.dtype), 1.0)


def _first(number, size, side):
    """The first row or column of a window, int [B], from the uniform numbers [B]: from 0 to size - side."""
    last = size - side
    # The product may be rounded up to the next integer.
    return tf.minimum(tf.cast(number * tf.cast(last + 1, number.dtype), tf.int32), last)


def _inside(first, size, side, dtype):
    """1 in the window's rows or columns and 0 elsewhere: [B] -> [B, size]."""
    index, first = tf.range(size), first[:, tf.newaxis]
    return tf.cast((index >= first) & (index < first + side), dtype)
