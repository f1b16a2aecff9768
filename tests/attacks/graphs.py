"""Compiled functions: once for batches of any size, which spares tests the graphs of each, and for a single call."""

import functools

import tensorflow as tf


def for_any_batch(function, *examples):
    """`function` of tensors [B, ...] as one graph; `examples` tell its arguments' types and the sizes behind B."""
    return tf.function(function, input_signature=specs(*examples), autograph=False)


def specs(*examples):
    """The types of tensors [B, ...] of any B."""
    examples = [tf.convert_to_tensor(example) for example in examples]
    return tuple(tf.TensorSpec([None, *example.shape[1:]], example.dtype) for example in examples)


def perturb(attack, logits_fn, x, y, **arguments):
    """One call of an attack in a graph of its own, which is faster than step by step."""
    return tf.function(functools.partial(attack, logits_fn, **arguments), autograph=False)(x, y)
