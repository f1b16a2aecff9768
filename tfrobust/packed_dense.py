"""A dense layer whose weights are constants, which oneDNN lays out once for all products with them."""

import keras
import numpy as np
import tensorflow as tf

# Bytes of all constants of a twin, which every graph that attacks has a copy of.
MOST_BYTES = 64 * 2**20


class PackedDense(keras.layers.Dense):
    """`keras.layers.Dense` of vectors [B, C] with the same values and gradients, its products being convolutions.

    Before it multiplies, oneDNN copies a matrix of weights into blocks. TensorFlow keeps these blocks where a
    convolution's weights are a constant of the graph it is in; a matrix product has them made each time, which takes a
    quarter of its time in an attack on 50 images.

    `freeze` is to be called before the layer is; it computes with these weights until it is called again, and has no
    gradient by its weights.
    """

    def freeze(self, kernel: np.ndarray) -> None:
        """Takes a kernel [C, F] of the layer's precision."""
        self._frozen = kernel[None, None], np.ascontiguousarray(kernel.T)[None, None]

    def call(self, inputs):
        """[B, C] -> [B, F]; as Keras computes it for inputs of another rank."""
        if inputs.shape.rank != 2:
            return super().call(inputs)
        kernel, transposed = self._frozen
        bias = tf.convert_to_tensor(self.bias) if self.use_bias else tf.zeros([self.units], inputs.dtype)

        @tf.custom_gradient
        def product(x, bias):
            def gradients(upstream):
                return _convolved(upstream, transposed)[0, :, 0], tf.reduce_sum(upstream, axis=0)

            return tf.nn.bias_add(_convolved(x, kernel), bias)[0, :, 0], gradients

        return self.activation(product(inputs, bias))

    @staticmethod
    def fits(layer: keras.layers.Layer) -> bool:
        """Whether `layer` is a plain dense one."""
        return type(layer) is keras.layers.Dense and layer.built and not layer.lora_enabled


def _convolved(x, kernel):
    # Examples along one side of a single image: then oneDNN takes many of them at a time. The constant is made here,
    # in the graph of the product: one from outside of a loop would be an argument like any other.
    return tf.nn.conv2d(x[None, :, None, :], tf.constant(kernel), 1, "VALID")
