"""A convolution of few input channels whose input gradient is fast on a CPU."""

import keras
import tensorflow as tf

# Pixels on a side of the block that one position of the strided convolution makes.
BLOCK = 4


def convolution_input_gradient(gradient: tf.Tensor, kernel: tf.Tensor, padding: str) -> tf.Tensor:
    """Gradient of a stride-1 convolution with respect to its input, made in blocks of 4x4 pixels.

    It equals the transposed convolution of `gradient` with `kernel`. That one has as many output channels as the input
    has, 1 or 3, and vector units work on 16 or more at a time. Here the flipped kernel is shifted to the 16 places of a
    block, giving one convolution of stride 4 with 16 times the channels, and `depth_to_space` lays the blocks out. The
    terms of each sum are the same; the zeros around the shifted kernels add nothing.

    Args:
      gradient: [B, H', W', F], with respect to the convolution's output.
      kernel: [h, w, C, F].
      padding: "same" or "valid".

    Returns:
      [B, H, W, C] in the dtype of `gradient`.
    """
    size = kernel.shape[:2]
    # Of a "same" convolution, (k - 1) // 2 zeros stood before the image; the transposed one needs the rest.
    before = [k - 1 - (k - 1) // 2 if padding == "same" else k - 1 for k in size]
    output = [g if padding == "same" else g + k - 1 for g, k in zip(gradient.shape[1:3], size, strict=True)]
    blocks = [-(-n // BLOCK) for n in output]
    field = [k + BLOCK - 1 for k in size]
    total = [(n - 1) * BLOCK + f for n, f in zip(blocks, field, strict=True)]
    pads = [(b, t - g - b) for b, t, g in zip(before, total, gradient.shape[1:3], strict=True)]
    flipped = tf.transpose(kernel[::-1, ::-1], [0, 1, 3, 2])
    shifted = [
        tf.pad(flipped, [[i, BLOCK - 1 - i], [j, BLOCK - 1 - j], [0, 0], [0, 0]])
        for i in range(BLOCK)
        for j in range(BLOCK)
    ]
    padded = tf.pad(gradient, [[0, 0], *pads, [0, 0]])
    pixels = tf.nn.conv2d(padded, tf.cast(tf.concat(shifted, axis=-1), gradient.dtype), BLOCK, "VALID")
    return tf.nn.depth_to_space(pixels, BLOCK)[:, : output[0], : output[1]]


@tf.custom_gradient
def _same_convolution(x, kernel):
    return _convolution(x, kernel, "same")


@tf.custom_gradient
def _valid_convolution(x, kernel):
    return _convolution(x, kernel, "valid")


def _convolution(x, kernel, padding):
    def gradients(upstream):
        def kernel_gradient():
            return tf.raw_ops.Conv2DBackpropFilter(
                input=x, filter_sizes=kernel.shape, out_backprop=upstream, strides=[1] * 4, padding=padding.upper()
            )

        return convolution_input_gradient(upstream, kernel, padding), kernel_gradient()

    return tf.nn.conv2d(x, kernel, 1, padding.upper()), gradients


class FastInputGradientConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` with the same values and gradients, the input gradient being made in blocks."""

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
            and layer.kernel.shape[2] <= BLOCK
        )

    def convolution_op(self, inputs, kernel):
        """The convolution without bias, [B, H, W, C] -> [B, H', W', F]; the input's size must be known."""
        convolve = _same_convolution if self.padding == "same" else _valid_convolution
        return convolve(inputs, tf.convert_to_tensor(kernel))
