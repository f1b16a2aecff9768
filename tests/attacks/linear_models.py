"""Affine classifiers of images in a row, whose boundaries are known."""

import tensorflow as tf

# Bounds that no attack on them reaches.
WIDE = (-100.0, 100.0)


def affine(weights, biases):
    """Logits x . weights + biases of images of len(weights) pixels; weights [D, K]."""
    weights, biases = tf.constant(weights, tf.float32), tf.constant(biases, tf.float32)
    return lambda x: tf.reshape(x, [-1, weights.shape[0]]) @ weights + biases


def image(*pixels):
    """One image [1, 1, len(pixels), 1]."""
    return tf.constant(pixels, shape=[1, 1, len(pixels), 1])
