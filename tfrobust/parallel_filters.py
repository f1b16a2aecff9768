"""First filters that are parallel: their gradients cancel, and are summed here before they are rounded, not after.

Robust networks begin with thresholds, u = relu(n (x - a)) and v = relu(m (x - b)), and set one against the other, so
that nothing changes above both. A pixel's gradient there is n g + m h, of the gradients g by u and h by v, and small
where these are large: once they have been rounded to bfloat16, their errors decide its sign (`docs/results.md`, "What
bfloat16 costs in strength"). So the convolution that reads u and v reads them reflected,

    -(n u + m v) / r  and  (n v - m u) / r    with    r^2 = n^2 + m^2,

with a kernel that is reflected the same way: its values are the same. Of the gradient by the first of these numbers,
rounded as a whole, the pixel gets -r times; of that by the second, above both thresholds, nothing. More than two
filters that are parallel are reflected alike.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

# Of the angle between filters that count as parallel. Thresholds of one pixel have 1.00 before and after training.
LEAST_COSINE = 0.9
# Between what two filters weigh in all outputs of the next layer together: where gradients differ by more, there is
# little to cancel, and a number that holds both is rounded by the larger.
LARGEST_RATIO = 4.0

# The layer and what `ReflectedConv2D.using` gives it; another thread may trace the same layer.
_USED = contextvars.ContextVar("used", default=(None, None))


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
    groups = []
    for i in range(len(lengths)):
        fitting = [group for group in groups if close[i, [i, *group]].all()]
        if fitting:
            fitting[0].append(i)
        else:
            groups.append([i])
    return [group for group in groups if len(group) > 1]


def reflection(kernel: tf.Tensor, groups: list[list[int]]) -> tf.Tensor:
    """The orthogonal matrix [F, F] that reflects the outputs of filters of a kernel [..., F]: the row of a group's
    first is -n / |n|, of the lengths n of the filters in that group; a filter in no group stays as it is."""
    count = kernel.shape[-1]
    filters = tf.reshape(kernel, [-1, count])
    # Divided by what is largest, so that no square is too large or too small for float32.
    largest = tf.reduce_max(tf.abs(filters), axis=0)
    lengths = largest * tf.norm(tf.math.divide_no_nan(filters, largest), axis=0)
    members, firsts = np.zeros([2, len(groups), count], np.float32)
    for row, group in enumerate(groups):
        members[row, group] = 1
        firsts[row, group[0]] = 1
    # Householder's reflections, of groups that have no filter in common.
    together = members * lengths
    together = tf.math.divide_no_nan(together, tf.reduce_max(together, axis=1, keepdims=True))
    normals = tf.math.l2_normalize(firsts + tf.math.l2_normalize(together, axis=1), axis=1)
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

    def reflected(self) -> tuple[tf.Tensor, tf.Tensor]:
        """The matrix [F, F] that reflects inputs and, reflected and rounded, the kernel [h, w, F, G]."""
        # The values do not depend on the matrix, nor do the gradients of weights.
        matrix = tf.stop_gradient(reflection(tf.convert_to_tensor(self._kernel_before()), self._parallel))
        return matrix, tf.cast(tf.einsum("tf,hwfg->hwtg", matrix, tf.convert_to_tensor(self.kernel)), tf.bfloat16)

    @contextlib.contextmanager
    def using(self, reflected: tuple[tf.Tensor, tf.Tensor]) -> Iterator[None]:
        """Calls within take `reflected`, made before the loop that they are in, in place of making it at every step."""
        token = _USED.set((self, reflected))
        try:
            yield
        finally:
            _USED.reset(token)

    def call(self, inputs):
        """float32 [B, H, W, F] -> bfloat16 [B, H', W', G]."""
        layer, given = _USED.get()
        matrix, kernel = given if layer is self else self.reflected()
        inputs = tf.tensordot(inputs, matrix, [[3], [1]])
        outputs = self.convolution_op(tf.cast(inputs, tf.bfloat16), kernel)
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, tf.cast(tf.convert_to_tensor(self.bias), tf.bfloat16))
        return self.activation(outputs)
