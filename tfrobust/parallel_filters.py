"""First filters that are parallel: their gradients cancel, and are summed here before they are rounded, not after.

Robust networks begin with thresholds, u = relu(n (x - a)) and v = relu(m (x - b)), and set one against the other, so
that nothing changes above both. A pixel's gradient there is n g + m h, of the gradients g by u and h by v, and small
where these are large: once they have been rounded to bfloat16, their errors decide its sign (`docs/results.md`, "What
bfloat16 costs in strength"). So the convolution that reads u and v reads them turned,

    (n u + m v) / r  and  (m u - n v) / r    with    r^2 = n^2 + m^2,

with a kernel that is turned the same way: its values are the same. Of the gradient by the first of these numbers,
rounded as a whole, the pixel gets r times; of that by the second, above both thresholds, nothing. More than two filters
that are parallel are reflected alike.
"""

import contextlib
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

# Of the angle between filters that count as parallel. Thresholds of one pixel have 1.00 before and after training.
LEAST_COSINE = 0.9
# Between what two filters weigh in the next layer. Gradients that differ by more cannot cancel, and a number that holds
# both is rounded by the larger.
LARGEST_RATIO = 4.0


def parallel_groups(kernel: np.ndarray, next_kernel: np.ndarray) -> list[list[int]]:
    """Filters of a convolution that are parallel and may cancel in the next one, in groups of two or more.

    Args:
      kernel: [h, w, C, F].
      next_kernel: of the convolution that reads their outputs, [h', w', F, G].
    """
    with np.errstate(all="ignore"):
        filters = kernel.reshape([-1, kernel.shape[-1]])
        lengths = np.linalg.norm(filters, axis=0)
        weights = lengths * np.sqrt(np.sum(np.square(next_kernel), axis=(0, 1, 3)))
        directions = filters / lengths
        cosines = directions.T @ directions
        ratios = weights / weights[:, np.newaxis]
        # What is 0, infinite or NaN compares as False.
        close = (cosines >= LEAST_COSINE) & (ratios <= LARGEST_RATIO) & (ratios >= 1 / LARGEST_RATIO)
    groups, left = [], set(range(len(lengths)))
    for i in range(len(lengths)):
        group = [j for j in sorted(left) if close[i, j]] if i in left else []
        if len(group) > 1 and i in group:
            groups.append(group)
            left.difference_update(group)
    return groups


def reflection(kernel: tf.Tensor, groups: list[list[int]]) -> tf.Tensor:
    """The orthogonal matrix [F, F] that reflects the outputs of filters of a kernel [..., F]: the row of a group's
    first is -n / |n|, of the lengths n of the filters in that group; a filter in no group stays as it is."""
    count = kernel.shape[-1]
    lengths = tf.norm(tf.reshape(kernel, [-1, count]), axis=0)
    members, firsts = np.zeros([2, len(groups), count], np.float32)
    for row, group in enumerate(groups):
        members[row, group] = 1
        firsts[row, group[0]] = 1
    # Householder's reflections, of groups that have no filter in common.
    normals = firsts + tf.math.l2_normalize(members * lengths, axis=1)
    normals = tf.math.l2_normalize(normals, axis=1)
    return tf.eye(count) - 2 * tf.matmul(normals, normals, transpose_a=True)


class ReflectedConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` that computes in bfloat16, of float32 inputs that are reflected before they are rounded.

    Args:
      parallel: groups of the filters whose outputs it reads, see `parallel_groups`.
      kernel_before: returns the kernel [..., F] of these filters.
    """

    def __init__(self, *args, parallel: list[list[int]], kernel_before: Callable[[], tf.Tensor], **kwargs):
        super().__init__(*args, **kwargs)
        # Keras would wrap a list.
        self._parallel, self._kernel_before = tuple(map(tuple, parallel)), kernel_before
        self._reflected = None

    def reflected(self) -> tuple[tf.Tensor, tf.Tensor]:
        """The matrix [F, F] that reflects inputs and, reflected and rounded, the kernel [h, w, F, G]."""
        # The values do not depend on the matrix, nor do the gradients of weights.
        matrix = tf.stop_gradient(reflection(tf.convert_to_tensor(self._kernel_before()), self._parallel))
        return matrix, tf.cast(tf.einsum("tf,hwfg->hwtg", matrix, tf.convert_to_tensor(self.kernel)), tf.bfloat16)

    @contextlib.contextmanager
    def using(self, reflected: tuple[tf.Tensor, tf.Tensor]) -> Iterator[None]:
        """Calls within take `reflected`, made before the loop that they are in, in place of making it at every step."""
        self._reflected = reflected
        try:
            yield
        finally:
            self._reflected = None

    def call(self, inputs):
        """float32 [B, H, W, F] -> bfloat16 [B, H', W', G]."""
        matrix, kernel = self._reflected or self.reflected()
        inputs = tf.tensordot(inputs, matrix, [[3], [1]])
        outputs = self.convolution_op(tf.cast(inputs, tf.bfloat16), kernel)
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, tf.cast(tf.convert_to_tensor(self.bias), tf.bfloat16))
        return self.activation(outputs)
