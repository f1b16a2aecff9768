"""Gradient descent with momentum as TensorFlow 1 computed it, and Adam in fewer passes over the weights."""

import keras
import tensorflow as tf


class Momentum(keras.optimizers.Optimizer):
    """TensorFlow 1's `MomentumOptimizer`, in which the present learning rate multiplies the whole momentum.

        accumulator <- momentum * accumulator + gradient
        variable    <- variable - learning_rate * accumulator

    Keras's SGD puts the learning rate into the accumulator. Both are the same as long as the rate is; after a drop of
    the rate SGD goes on for some steps with the momentum of the higher one.

    Args:
      learning_rate: a number or a schedule.
      momentum: from 0 up to below 1.
      name, arguments: as for any Keras optimizer.

    Raises:
      ValueError: for a momentum out of range.
    """

    def __init__(self, learning_rate=0.01, momentum: float = 0.9, name: str = "momentum", **arguments):
        super().__init__(learning_rate=learning_rate, name=name, **arguments)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1, got {momentum!r}")
        self.momentum = momentum

    def build(self, variables):
        """One accumulator for each variable, 0 at the start."""
        if self.built:
            return
        super().build(variables)
        self._accumulators = self.add_optimizer_variables(variables, "momentum")

    def update_step(self, gradient, variable, learning_rate):
        """The update of one variable."""
        accumulator = self._accumulators[self._get_variable_index(variable)]
        self.assign(accumulator, self.momentum * accumulator + gradient)
        self.assign_sub(variable, keras.ops.cast(learning_rate, variable.dtype) * accumulator)

    def get_config(self) -> dict:
        """The arguments, as Keras wants them for saving."""
        return {**super().get_config(), "momentum": self.momentum}


class FusedAdam(keras.optimizers.Adam):
    """`keras.optimizers.Adam`, each variable being updated by one operation of TensorFlow's instead of some fifteen.

    The update is the same but for rounding. On a CPU it takes a third of the time, which spares nearly a fifth of a
    step of natural training of the MNIST challenge's network. Under a distribution strategy, with `amsgrad` and for
    sparse gradients it is Keras's own.
    """

    def update_step(self, gradient, variable, learning_rate):
        """The update of one variable."""
        sparse = isinstance(gradient, tf.IndexedSlices)
        if self.amsgrad or sparse or tf.distribute.has_strategy():
            super().update_step(gradient, variable, learning_rate)
            return
        index, dtype = self._get_variable_index(variable), variable.dtype
        m, v = self._momentums[index], self._velocities[index]
        step = tf.cast(self.iterations + 1, dtype)
        beta_1, beta_2 = tf.cast(self.beta_1, dtype), tf.cast(self.beta_2, dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=_handle(variable),
            m=_handle(m),
            v=_handle(v),
            beta1_power=tf.pow(beta_1, step),
            beta2_power=tf.pow(beta_2, step),
            lr=tf.cast(learning_rate, dtype),
            beta1=beta_1,
            beta2=beta_2,
            epsilon=tf.cast(self.epsilon, dtype),
            grad=tf.cast(gradient, dtype),
        )


def _handle(variable):
    """Of a variable of Keras's or of TensorFlow's."""
    return variable.value.handle if isinstance(variable, keras.Variable) else variable.handle
