"""A convolution of few input channels whose input gradient is fast on a CPU."""

import math

import keras
import numpy as np
import tensorflow as tf

# Rows and columns of the block of pixels that one position of the strided convolution makes; tall and narrow ones keep
# the vector units busiest. 7 divides MNIST's 28 rows, 8 CIFAR's 32.
BLOCKS, BLOCKS_MADE_TWICE = ((7, 2), (8, 2)), ((4, 2),)
# Input channels times rows and columns of a stride, above which vector units are busy anyway.
MOST_CHANNELS = 4


def convolution_input_gradient(
    gradient: tf.Tensor, kernel: tf.Tensor, padding: str, size: tuple[int, int], strides: tuple[int, int] = (1, 1)
) -> tf.Tensor:
    """Gradient of a convolution with respect to its input, made in blocks of pixels.

    It equals the transposed convolution of `gradient` with `kernel`. That one has as many output channels as the input
    has, 1 or 3, and vector units work on 16 or more at a time. Here the flipped kernel is shifted to every place of a
    block, giving one convolution of the block's stride with as many times the channels, and its outputs are laid out as
    pixels. The terms of each sum are the same; the zeros around the shifted kernels add nothing.

    A convolution with strides equals one without on an image whose channels are the pixels under each stride, and is
    treated as that.

    Where `gradient` is of lower precision, bfloat16, the kernel is a sum of two of that precision: what it is rounded
    to, and the error. Each pixel is made twice and summed. A rounded kernel errs in the same direction at every step of
    an attack (`docs/results.md`, "What bfloat16 costs in strength").

    Args:
      gradient: [B, H', W', F], with respect to the convolution's output.
      kernel: [h, w, C, F].
      padding: "same" or "valid".
      size: H and W of the input.
      strides: in rows and columns.

    Returns:
      [B, H, W, C] in the dtype of `kernel`.
    """
    kernel_size = kernel.shape[:2]
    before = [0, 0]
    if padding == "same":
        before = [_zeros_before(*sizes) for sizes in zip(size, kernel_size, strides, strict=True)]
    if tuple(strides) == (1, 1):
        return _unstrided_input_gradient(gradient, kernel, before, size)
    # Zeros around the kernel let it begin and end with a stride.
    ends = [(-b % s, -(k + -b % s) % s) for b, k, s in zip(before, kernel_size, strides, strict=True)]
    rows, columns = strides
    kernel = tf.pad(kernel, [*ends, [0, 0], [0, 0]])
    height, width, channels, filters = kernel.shape
    kernel = tf.reshape(kernel, [height // rows, rows, width // columns, columns, channels, filters])
    kernel = tf.reshape(tf.transpose(kernel, [0, 2, 1, 3, 4, 5]), [height // rows, width // columns, -1, filters])
    before = [(b + front) // s for b, (front, _), s in zip(before, ends, strides, strict=True)]
    count = [-(-n // s) for n, s in zip(size, strides, strict=True)]
    pixels = _unstrided_input_gradient(gradient, kernel, before, count)
    return _laid_out(pixels, count, strides, channels)[:, : size[0], : size[1]]


def _zeros_before(size, kernel_size, stride):
    """How many zeros "same" padding puts before rows or columns of an input."""
    return max((-(-size // stride) - 1) * stride + kernel_size - size, 0) // 2


def _laid_out(pixels, count, block, channels):
    """Blocks of pixels, [B, *count, block * channels], as an image [B, H, W, channels]."""
    pixels = tf.transpose(tf.reshape(pixels, [-1, *count, *block, channels]), [0, 1, 3, 2, 4, 5])
    return tf.reshape(pixels, [-1, count[0] * block[0], count[1] * block[1], channels])


def _unstrided_input_gradient(gradient, kernel, before, output):
    """As `convolution_input_gradient`, of a convolution that put `before` zeros before the rows and columns of an input
    of size `output`: [B, *output, C]."""
    parts, blocks = [kernel], BLOCKS
    if gradient.dtype.size < kernel.dtype.size:
        rounded = tf.cast(kernel, gradient.dtype)
        parts, blocks = [rounded, tf.cast(kernel - tf.cast(rounded, kernel.dtype), gradient.dtype)], BLOCKS_MADE_TWICE
    size, channels = kernel.shape[:2], kernel.shape[2]
    block = next((b for b in blocks if output[0] % b[0] == 0), blocks[-1])
    count = [-(-n // b) for n, b in zip(output, block, strict=True)]
    field = [k + b - 1 for k, b in zip(size, block, strict=True)]
    total = [(n - 1) * b + f for n, b, f in zip(count, block, field, strict=True)]
    # The transposed convolution needs the zeros that did not stand before the input.
    above = [k - 1 - b for k, b in zip(size, before, strict=True)]
    pads = [(a, t - g - a) for a, t, g in zip(above, total, gradient.shape[1:3], strict=True)]
    shifts = _shifts(size, block)

    def shifted(part):
        # One row more than the kernel has weights, of zeros.
        weights = tf.pad(tf.reshape(part, [size[0] * size[1], -1]), [[0, 1], [0, 0]])
        weights = tf.reshape(tf.gather(weights, shifts), [field[0] * field[1], -1, kernel.shape[3]])
        return tf.reshape(tf.transpose(weights, [0, 2, 1]), [*field, kernel.shape[3], -1])

    kernels = tf.concat([shifted(part) for part in parts], axis=-1)
    pixels = tf.nn.conv2d(tf.pad(gradient, [[0, 0], *pads, [0, 0]]), kernels, block, "VALID")
    pixels = tf.reshape(tf.cast(pixels, kernel.dtype), [-1, *count, len(parts), block[0] * block[1] * channels])
    pixels = tf.reduce_sum(pixels, axis=3)
    return _laid_out(pixels, count, block, channels)[:, : output[0], : output[1]]


def _shifts(size, block):
    """Which weight of a kernel of `size` stands where, when it is flipped and shifted to each place of a block: numbers
    [rows of the field, its columns, rows of the block, its columns], size[0] * size[1] where none does."""
    row, column = (k - 1 - (np.arange(k + b - 1)[:, None] - np.arange(b)) for k, b in zip(size, block, strict=True))
    row, column = row[:, None, :, None], column[None, :, None, :]
    inside = (row >= 0) & (row < size[0]) & (column >= 0) & (column < size[1])
    return np.where(inside, row * size[1] + column, size[0] * size[1]).astype(np.int32)


class FastInputGradientConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` in float32 with the same values and gradients, the input gradient being made in blocks.

    Args:
      output_dtype: of the result, which is rounded after the bias has been added. With "bfloat16" the input gradient is
        a product of bfloat16 numbers, too, of which the kernel takes two for each weight.
    """

    def __init__(self, *args, output_dtype: str = "float32", **kwargs):
        super().__init__(*args, **kwargs)
        self.output_dtype = output_dtype

    @staticmethod
    def fits(layer: keras.layers.Layer) -> bool:
        """Whether `layer` is a plain convolution that this class can stand in for with profit, in float32."""
        return (
            type(layer) is keras.layers.Conv2D
            and layer.compute_dtype != "float64"
            and layer.dilation_rate == (1, 1)
            and layer.groups == 1
            and layer.padding in ("same", "valid")
            and layer.data_format == "channels_last"
            and all(k >= s for k, s in zip(layer.kernel_size, layer.strides, strict=True))
            and layer.kernel.shape[2] * math.prod(layer.strides) <= MOST_CHANNELS
        )

    def call(self, inputs):
        """[B, H, W, C] -> [B, H', W', F] in `output_dtype`; as Keras computes it where H and W are unknown."""
        if None in inputs.shape[1:]:
            return tf.cast(super().call(inputs), self.output_dtype)
        kernel = tf.convert_to_tensor(self.kernel)
        bias = tf.convert_to_tensor(self.bias) if self.use_bias else tf.zeros([self.filters], kernel.dtype)
        strides, padding, size = self.strides, self.padding.upper(), inputs.shape[1:3]

        @tf.custom_gradient
        def convolve(x, kernel, bias):
            def gradients(upstream):
                wide = tf.cast(upstream, x.dtype)
                kernel_gradient = tf.raw_ops.Conv2DBackpropFilter(
                    input=x, filter_sizes=kernel.shape, out_backprop=wide, strides=[1, *strides, 1], padding=padding
                )
                input_gradient = convolution_input_gradient(upstream, kernel, self.padding, size, strides)
                return tf.cast(input_gradient, x.dtype), kernel_gradient, tf.reduce_sum(wide, axis=[0, 1, 2])

            outputs = tf.nn.bias_add(tf.nn.conv2d(x, kernel, strides, padding), bias)
            return tf.cast(outputs, self.output_dtype), gradients

        return self.activation(convolve(inputs, kernel, bias))
