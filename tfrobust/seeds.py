"""Stateless randomness: the same seed gives the same numbers, whatever was drawn before and in whichever batch.

A seed is one of
- an int, for convenience;
- an int tensor [2], one seed for a whole batch;
- an int tensor [B, 2], one seed for each example, so that an example's noise does not depend on its batch mates.
"""

import numbers

import tensorflow as tf


def as_tensor(seed) -> tf.Tensor:
    """`seed` as an int32 tensor [2] or [B, 2].

    Raises:
      ValueError: for a tensor of another shape, or an int outside of int32.
    """
    if isinstance(seed, numbers.Integral):
        return tf.constant([0, _checked(seed)], tf.int32)
    seed = tf.cast(seed, tf.int32)
    if seed.shape.rank not in (1, 2) or seed.shape[-1] != 2:
        raise ValueError(f"seed must be an int, or have shape [2] or [B, 2], got shape {seed.shape}")
    return seed


def per_example(seed: int, indices: tf.Tensor) -> tf.Tensor:
    """Seeds [B, 2] of the examples with the given indices [B] in their dataset; ValueError as for `as_tensor`."""
    indices = tf.cast(indices, tf.int32)
    return tf.stack([indices, tf.fill(tf.shape(indices), _checked(seed))], axis=1)


def fold_in(seed, data) -> tf.Tensor:
    """A seed of the same shape that differs for every int `data`: one for each step, replica or restart."""
    return _for_each(lambda s: tf.random.fold_in(s, data), as_tensor(seed), tf.TensorSpec([2], tf.int32))


def for_each_example(seed, count) -> tf.Tensor:
    """Seeds [B, 2] of `count` examples: those of `seed` itself where it has one for each, else derived from it."""
    seed = as_tensor(seed)
    if seed.shape.rank == 2:
        return seed
    return fold_in_each(tf.repeat(seed[tf.newaxis], count, axis=0), tf.range(count))


def fold_in_each(seed: tf.Tensor, data: tf.Tensor) -> tf.Tensor:
    """`fold_in` of each of the seeds [B, 2] with its own int of `data` [B]."""
    return tf.map_fn(
        lambda pair: tf.random.fold_in(*pair), (seed, data), fn_output_signature=tf.TensorSpec([2], tf.int32)
    )


def uniform(seed, like: tf.Tensor, low: float, high: float) -> tf.Tensor:
    """Uniform numbers in [low, high) of the shape and dtype of `like` [B, ...]."""
    return _draw(tf.random.stateless_uniform, seed, like, minval=low, maxval=high)


def normal(seed, like: tf.Tensor) -> tf.Tensor:
    """Standard normal numbers of the shape and dtype of `like` [B, ...]."""
    return _draw(tf.random.stateless_normal, seed, like)


def _checked(seed):
    if not -(2**31) <= seed < 2**31:
        raise ValueError(f"seed must fit in 32 bits, got {seed}")
    return int(seed)


def _draw(sample, seed, like, **arguments):
    seed = as_tensor(seed)
    shape = tf.shape(like) if seed.shape.rank == 1 else tf.shape(like)[1:]
    spec = tf.TensorSpec(like.shape[1:], like.dtype)
    drawn = _for_each(lambda s: sample(shape, s, dtype=like.dtype, **arguments), seed, spec)
    return tf.ensure_shape(drawn, like.shape)


def _for_each(fn, seed, spec):
    """`fn` of the one seed [2], or of each of the seeds [B, 2], stacked."""
    if seed.shape.rank == 1:
        return fn(seed)
    return tf.map_fn(fn, seed, fn_output_signature=spec)
