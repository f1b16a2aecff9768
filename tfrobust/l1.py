"""The l1 ball: its projection together with the box of valid pixels, its noise and its steps."""

import tensorflow as tf

from tfrobust import seeds
from tfrobust.shapes import column_of, largest, sum_l1

# Halvings of an interval of at most the largest change of a pixel; the last step is exact on a linear piece.
BISECTIONS = 26


def project(x_adv: tf.Tensor, x: tf.Tensor, epsilon, bounds: tuple[float, float]) -> tf.Tensor:
    """The point nearest to `x_adv` (Euclidean) with |. - x|_1 <= epsilon and pixels within bounds; all [B, ...].

    Croce and Hein 2021, "Mind the box", proposition 2.1: every coordinate of the change keeps its sign and shrinks by
    the same lambda, down to 0 and at most to the distance of the box's wall. The lambda at which the sum of what is
    left is epsilon is found by bisection, and then exactly on the linear piece around it.
    """
    # NumPy's numbers have types that tensors do not take.
    bounds = tuple(map(float, bounds))
    delta, epsilon = x_adv - x, tf.cast(epsilon, x.dtype)
    size, sign = tf.abs(delta), tf.sign(delta)
    room = tf.where(sign > 0, bounds[1] - x, x - bounds[0])

    def shrunk(shrink):
        return tf.clip_by_value(size - shrink, 0.0, room)

    def halve(low, high):
        middle = (low + high) / 2
        too_much = sum_l1(shrunk(middle)) > epsilon
        return tf.where(too_much, middle, low), tf.where(too_much, high, middle)

    # Lambda is between them.
    ends = (tf.zeros_like(largest(size)), largest(size))
    low, _ = tf.while_loop(lambda *_: True, halve, ends, maximum_iterations=BISECTIONS, parallel_iterations=1)
    left = shrunk(low)
    # Only coordinates strictly between the two clips still move with lambda.
    moving = tf.cast((left > 0) & (left < room), size.dtype)
    step = tf.math.divide_no_nan(tf.nn.relu(sum_l1(left) - epsilon), sum_l1(moving))
    left = tf.where(sum_l1(shrunk(0.0)) > epsilon, shrunk(low + step), shrunk(0.0))
    # What rounding has left over.
    left *= tf.minimum(1.0, tf.math.divide_no_nan(epsilon, sum_l1(left)))
    return tf.clip_by_value(x + sign * left, *bounds)


def laplace(seed, like: tf.Tensor) -> tf.Tensor:
    """Standard Laplace numbers of the shape of `like` [B, ...]: their direction is uniform on the l1 sphere."""
    uniform = seeds.uniform(seed, like, -1.0, 1.0)
    # uniform may be exactly -1.
    return -tf.sign(uniform) * tf.math.log(tf.maximum(1.0 - tf.abs(uniform), 1e-30))


def sparse_sign(gradient: tf.Tensor, coordinates: tf.Tensor | None = None) -> tf.Tensor:
    """Signs of the entries of largest magnitude, scaled to an l1 norm of 1: [B, ...] -> [B, ...].

    Args:
      gradient: [B, ...]; 0 where it is 0 throughout, NaN where an entry is. Entries as large as the last one that takes
        part do so too.
      coordinates: [B], how many entries of each example; by default 1 %, at least one.
    """
    size = tf.abs(gradient)
    flat = tf.reshape(size, [tf.shape(size)[0], -1])
    count = tf.shape(flat)[1]
    if coordinates is None:
        coordinates = tf.fill([tf.shape(flat)[0]], tf.maximum(count // 100, 1))
    coordinates = tf.clip_by_value(tf.cast(coordinates, tf.int32), 1, count)
    smallest = tf.gather(tf.sort(flat, axis=1), count - coordinates, batch_dims=1)
    # NaN, which compares as false, takes part, or an attack that broke down would seem to go on.
    takes_part = (size >= column_of(smallest, size)) | tf.math.is_nan(size)
    sign = tf.where(takes_part, tf.sign(gradient), 0.0)
    return tf.math.divide_no_nan(sign, sum_l1(sign))
