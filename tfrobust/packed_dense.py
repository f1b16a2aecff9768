"""A dense layer that oneDNN lays its weights out for only once, where they are constants of the graph."""

import keras
import tensorflow as tf


class PackedDense(keras.layers.Dense):
    """`keras.layers.Dense` of vectors [B, C] with the same values and gradients, its products being convolutions.

    Before it multiplies, oneDNN copies a matrix of weights into blocks. TensorFlow keeps these blocks where a
    convolution's weights are a constant of the graph it is in; a matrix product has them made each time, which takes a
    quarter of its time in an attack on 50 images. Where the weights are no constant, Keras's layer is faster.

    It has no gradient by its kernel.
    """

    def call(self, inputs):
        """[B, C] -> [B, F]; as Keras computes it for inputs of another rank."""
        if inputs.shape.rank != 2:
            return super().call(inputs)
        kernel = tf.convert_to_tensor(self.kernel)
        bias = tf.convert_to_tensor(self.bias) if self.use_bias else tf.zeros([self.units], inputs.dtype)

        @tf.custom_gradient
        def product(x, bias):
            def gradients(upstream):
                return _convolved(upstream, tf.transpose(kernel))[0, :, 0], tf.reduce_sum(upstream, axis=0)

            return tf.nn.bias_add(_convolved(x, kernel), bias)[0, :, 0], gradients

        return self.activation(product(inputs, bias))

    @staticmethod
    def fits(layer: keras.layers.Layer) -> bool:
        """Whether `layer` is a plain dense one."""
        return type(layer) is keras.layers.Dense and layer.built and not layer.lora_enabled


def _convolved(x, kernel):
    # Examples along one side of a single image: then oneDNN takes many of them at a time.
    return tf.nn.conv2d(x[None, :, None, :], kernel[None, None], 1, "VALID")
