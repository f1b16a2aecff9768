"""A convolution of few input channels whose input gradient is fast on a CPU."""

import keras
import numpy as np
import tensorflow as tf

# Rows and columns of the block of pixels that one position of the strided convolution makes; tall and narrow ones keep
# the vector units busiest. 7 divides MNIST's 28 rows, 8 CIFAR's 32.
BLOCKS, BLOCKS_MADE_TWICE = ((7, 2), (8, 2)), ((4, 2),)
MOST_CHANNELS = 4


def convolution_input_gradient(gradient: tf.Tensor, kernel: tf.Tensor, padding: str) -> tf.Tensor:
    """Gradient of a stride-1 convolution with respect to its input, made in blocks of pixels.

    It equals the transposed convolution of `gradient` with `kernel`. That one has as many output channels as the input
    has, 1 or 3, and vector units work on 16 or more at a time. Here the flipped kernel is shifted to every place of a
    block, giving one convolution of the block's stride with as many times the channels, and its outputs are laid out as
    pixels. The terms of each sum are the same; the zeros around the shifted kernels add nothing.

    Where `gradient` is of lower precision, bfloat16, the kernel is a sum of two of that precision: what it is rounded
    to, and the error. Each pixel is made twice and summed. A rounded kernel errs in the same direction at every step of
    an attack (`docs/results.md`, "What bfloat16 costs in strength").

    Args:
      gradient: [B, H', W', F], with respect to the convolution's output.
      kernel: [h, w, C, F].
      padding: "same" or "valid".

    Returns:
      [B, H, W, C] in the dtype of `kernel`.
    """
    parts, blocks = [kernel], BLOCKS
    if gradient.dtype.size < kernel.dtype.size:
        rounded = tf.cast(kernel, gradient.dtype)
        parts, blocks = [rounded, tf.cast(kernel - tf.cast(rounded, kernel.dtype), gradient.dtype)], BLOCKS_MADE_TWICE
    size, channels = kernel.shape[:2], kernel.shape[2]
    # Of a "same" convolution, (k - 1) // 2 zeros stood before the image; the transposed one needs the rest.
    before = [k - 1 - (k - 1) // 2 if padding == "same" else k - 1 for k in size]
    output = [g if padding == "same" else g + k - 1 for g, k in zip(gradient.shape[1:3], size, strict=True)]
    block = next((b for b in blocks if output[0] % b[0] == 0), blocks[-1])
    count = [-(-n // b) for n, b in zip(output, block, strict=True)]
    field = [k + b - 1 for k, b in zip(size, block, strict=True)]
    total = [(n - 1) * b + f for n, b, f in zip(count, block, field, strict=True)]
    pads = [(a, t - g - a) for a, t, g in zip(before, total, gradient.shape[1:3], strict=True)]
    shifts = _shifts(size, block)

    def shifted(part):
        # One row more than the kernel has weights, of zeros.
        weights = tf.pad(tf.reshape(part, [size[0] * size[1], -1]), [[0, 1], [0, 0]])
        weights = tf.reshape(tf.gather(weights, shifts), [field[0] * field[1], -1, kernel.shape[3]])
        return tf.reshape(tf.transpose(weights, [0, 2, 1]), [*field, kernel.shape[3], -1])

    kernels = tf.concat([shifted(part) for part in parts], axis=-1)
    pixels = tf.nn.conv2d(tf.pad(gradient, [[0, 0], *pads, [0, 0]]), kernels, block, "VALID")
    pixels = tf.add_n(tf.split(tf.cast(pixels, kernel.dtype), len(parts), axis=-1))
    pixels = tf.transpose(tf.reshape(pixels, [-1, *count, *block, channels]), [0, 1, 3, 2, 4, 5])
    pixels = tf.reshape(pixels, [-1, count[0] * block[0], count[1] * block[1], channels])
    return pixels[:, : output[0], : output[1]]


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
        """Whether `layer` is a plain convolution that this class can stand in for with profit."""
        return (
            type(layer) is keras.layers.Conv2D
            and layer.strides == (1, 1)
            and layer.dilation_rate == (1, 1)
            and layer.groups == 1
            and layer.padding in ("same", "valid")
            and layer.data_format == "channels_last"
            and layer.kernel.shape[2] <= MOST_CHANNELS
        )

    def call(self, inputs):
        """[B, H, W, C] -> [B, H', W', F] in `output_dtype`; as Keras computes it where H and W are unknown."""
        if None in inputs.shape[1:]:
            return tf.cast(super().call(inputs), self.output_dtype)
        kernel = tf.convert_to_tensor(self.kernel)
        bias = tf.convert_to_tensor(self.bias) if self.use_bias else tf.zeros([self.filters], kernel.dtype)
        padding = self.padding.upper()

        @tf.custom_gradient
        def convolve(x, kernel, bias):
            def gradients(upstream):
                wide = tf.cast(upstream, x.dtype)
                kernel_gradient = tf.raw_ops.Conv2DBackpropFilter(
                    input=x, filter_sizes=kernel.shape, out_backprop=wide, strides=[1] * 4, padding=padding
                )
                input_gradient = convolution_input_gradient(upstream, kernel, self.padding)
                return tf.cast(input_gradient, x.dtype), kernel_gradient, tf.reduce_sum(wide, axis=[0, 1, 2])

            outputs = tf.nn.bias_add(tf.nn.conv2d(x, kernel, 1, padding), bias)
            return tf.cast(outputs, self.output_dtype), gradients

        return self.activation(convolve(inputs, kernel, bias))
