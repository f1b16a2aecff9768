"""Numbers of examples, [B], beside images, [B, H, W, C]."""

import tensorflow as tf


def column_of(values: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """One value for each example, [B] or [B, 1], in the shape [B, 1, ..., 1] that broadcasts with `like` [B, ...]."""
    return tf.reshape(values, [-1] + [1] * (like.shape.rank - 1))


def norms_l2(tensor: tf.Tensor) -> tf.Tensor:
    """Euclidean norm of each example, kept broadcastable: [B, ...] -> [B, 1, ..., 1]."""
    return tf.sqrt(tf.reduce_sum(tf.square(tensor), axis=_inner_axes(tensor), keepdims=True))


def sum_l1(tensor: tf.Tensor) -> tf.Tensor:
    """Sum of absolute values of each example, kept broadcastable: [B, ...] -> [B, 1, ..., 1]."""
    return tf.reduce_sum(tf.abs(tensor), axis=_inner_axes(tensor), keepdims=True)


def largest(tensor: tf.Tensor) -> tf.Tensor:
    """Largest absolute value of each example, kept broadcastable: [B, ...] -> [B, 1, ..., 1]."""
    return tf.reduce_max(tf.abs(tensor), axis=_inner_axes(tensor), keepdims=True)


def has_nan(tensor: tf.Tensor) -> tf.Tensor:
    """Whether an entry of each example is NaN: [B, ...] -> bool [B]."""
    return tf.reduce_any(tf.math.is_nan(tensor), axis=_inner_axes(tensor))


def dot(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Inner product of each example's pair, kept broadcastable: [B, ...] twice -> [B, 1, ..., 1]."""
    return tf.reduce_sum(a * b, axis=_inner_axes(a), keepdims=True)


def choose(condition: tf.Tensor, a: tf.Tensor, b: tf.Tensor | float) -> tf.Tensor:
    """`a` [B, ...] for the examples where `condition` [B] holds, and `b`, of that shape or a number, for the others."""
    return tf.where(column_of(condition, a), a, b)


def _inner_axes(tensor):
    return list(range(1, tensor.shape.rank))
