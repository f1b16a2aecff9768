"""What the machine can do at most in bfloat16, and how much arithmetic one step of an attack is."""

from collections.abc import Callable

import keras
import tensorflow as tf

MATMUL_SIZE = 2048


def flops_per_sample_step(model: keras.Model) -> int:
    """Floating-point operations of one image's forward pass and input gradient, by the shapes of the layers.

    Convolutions and dense layers count, a multiplication and an addition each; the gradient costs what the forward pass
    does. Of the challenge CNN it is 55.5 million.
    """
    products = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            height, width = layer.output.shape[1:3]
            products += height * width * layer.kernel.shape.num_elements()
        elif isinstance(layer, keras.layers.Dense):
            products += layer.kernel.shape.num_elements()
    return 2 * 2 * products


def convolution(batch_size: int) -> tuple[Callable[[], object], float]:
    """The challenge CNN's second convolution in bfloat16, forward and input gradient.

    Returns:
      A function that runs it once, and its floating-point operations.
    """
    x = tf.Variable(tf.cast(tf.random.stateless_normal([batch_size, 14, 14, 32], seed=[0, 1]), tf.bfloat16))
    kernel = tf.Variable(tf.cast(tf.random.stateless_normal([5, 5, 32, 64], seed=[0, 2]), tf.bfloat16))

    @tf.function
    def run():
        y = tf.nn.conv2d(x, kernel, 1, "SAME")
        return tf.nn.conv2d_transpose(y, kernel, x.shape, 1, "SAME")[0, 0, 0, 0]

    return run, 2 * 2 * batch_size * 14 * 14 * kernel.shape.num_elements()


def matmul() -> tuple[Callable[[], object], float]:
    """A product of two square bfloat16 matrices; returns what `convolution` does."""
    shape = [MATMUL_SIZE, MATMUL_SIZE]
    a = tf.Variable(tf.cast(tf.random.stateless_normal(shape, seed=[0, 3]), tf.bfloat16))

    @tf.function
    def run():
        return tf.matmul(a, a)[0, 0]

    return run, 2 * MATMUL_SIZE**3
