"""First filters that are parallel: their gradients cancel, and are summed here before they are rounded, not after.

Robust networks begin with thresholds, u = relu(n (x - a)) and v = relu(m (x - b)), and set one against the other, so
that nothing changes above both. A pixel's gradient there is n g + m h, of the gradients g by u and h by v, and small
where these are large: once they have been rounded to bfloat16, their errors decide its sign (`docs/results.md`, "What
bfloat16 costs in strength"). So the convolution that reads u and v reads them turned,

    (n u + m v) / r  and  (n v - m u) / r    with    r^2 = n^2 + m^2,

with a kernel that is turned the same way: its values are the same. Of the gradient by the first of these numbers,
rounded as a whole, the pixel gets r times; of that by the second, above both thresholds, nothing.
"""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

# Of the angle between two filters that count as parallel. Thresholds of one pixel have 1.00 before and after training.
LEAST_COSINE = 0.9


def parallel_pairs(kernel: np.ndarray) -> np.ndarray:
    """The pairs of filters of a kernel [..., F] that point the same way, each being the other's nearest, int [P, 2]."""
    filters = np.reshape(kernel, [-1, np.shape(kernel)[-1]])
    lengths = np.linalg.norm(filters, axis=0)
    directions = filters / np.where(lengths > 0, lengths, 1)
    cosines = directions.T @ directions
    np.fill_diagonal(cosines, -1)
    nearest = cosines.argmax(axis=1)
    pairs = [(i, j) for i, j in enumerate(nearest) if i < j and nearest[j] == i and cosines[i, j] >= LEAST_COSINE]
    return np.reshape(pairs, [-1, 2]).astype(np.int32)


def turn(kernel: tf.Tensor, pairs: np.ndarray) -> tf.Tensor:
    """The orthogonal matrix [F, F] that turns the outputs of the `pairs` of filters of a kernel [..., F]: its rows i
    and j, for a pair i and j, are (n, m) / r and (-m, n) / r in columns i and j, all others those of the identity."""
    count = kernel.shape[-1]
    lengths = tf.norm(tf.reshape(kernel, [-1, count]), axis=0)
    i, j = pairs[:, 0], pairs[:, 1]
    angle = tf.atan2(tf.gather(lengths, j), tf.gather(lengths, i))
    rows, columns = np.concatenate([i, j, i, j]), np.concatenate([i, j, j, i])
    entries = tf.concat([tf.cos(angle), tf.cos(angle), tf.sin(angle), -tf.sin(angle)], axis=0)
    single = np.isin(np.arange(count), pairs, invert=True).astype(np.float32)
    return tf.linalg.diag(single) + tf.scatter_nd(np.stack([rows, columns], axis=1), entries, [count, count])


class TurnedConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` in bfloat16 of float32 inputs, which it turns before it rounds them.

    Args:
      pairs: of filters whose outputs it reads, see `parallel_pairs`.
      kernel_before: returns the kernel [..., F] of these filters.
    """

    def __init__(self, *args, pairs: np.ndarray, kernel_before: Callable[[], tf.Tensor], **kwargs):
        super().__init__(*args, **kwargs)
        self._pairs, self._kernel_before = pairs, kernel_before

    def call(self, inputs):
        """float32 [B, H, W, F] -> bfloat16 [B, H', W', G]."""
        turned = turn(tf.convert_to_tensor(self._kernel_before()), self._pairs)
        kernel = tf.einsum("tf,hwfg->hwtg", turned, tf.convert_to_tensor(self.kernel))
        inputs = tf.tensordot(inputs, turned, [[3], [1]])
        outputs = self.convolution_op(tf.cast(inputs, tf.bfloat16), tf.cast(kernel, tf.bfloat16))
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, tf.cast(tf.convert_to_tensor(self.bias), tf.bfloat16))
        return self.activation(outputs)
