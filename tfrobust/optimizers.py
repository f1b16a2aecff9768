"""Gradient descent with momentum as TensorFlow 1 computed it."""

import keras


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
