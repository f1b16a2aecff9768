"""Learning-rate schedules."""

import keras
import tensorflow as tf


class WarmupLinearDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear rise from 0 to the peak, a plateau, and a linear fall to 0.

        rate(t) = peak * min(1, (t + 1) / warmup_steps, (total_steps - t) / (total_steps - decay_from))

    Args:
      peak: the highest learning rate, above 0.
      total_steps: the step at which the rate reaches 0.
      warmup_steps: updates until the peak; 0 starts there.
      decay_from: the update from which the rate falls; `total_steps` keeps it at the peak.

    Raises:
      ValueError: if peak is not positive or the steps are not in order.
    """

    def __init__(self, peak: float, total_steps: int, *, warmup_steps: int = 0, decay_from: int | None = None):
        decay_from = total_steps if decay_from is None else decay_from
        if not peak > 0:
            raise ValueError(f"peak must be above 0, got {peak!r}")
        if not 0 <= warmup_steps <= decay_from <= total_steps:
            raise ValueError(
                "warmup_steps, decay_from and total_steps must be in order from 0 up, "
                f"got {warmup_steps}, {decay_from} and {total_steps}"
            )
        self.peak, self.total_steps, self.warmup_steps, self.decay_from = peak, total_steps, warmup_steps, decay_from

    def __call__(self, step) -> tf.Tensor:
        """The rate of update number `step`, counted from 0: a float32 scalar."""
        step = tf.cast(step, tf.float32)
        factor = tf.constant(1.0)
        if self.warmup_steps:
            factor = tf.minimum(factor, (step + 1) / self.warmup_steps)
        if self.decay_from < self.total_steps:
            factor = tf.minimum(factor, (self.total_steps - step) / (self.total_steps - self.decay_from))
        return self.peak * tf.maximum(factor, 0.0)

    def get_config(self) -> dict:
        """The arguments, as Keras wants them for saving."""
        names = ("peak", "total_steps", "warmup_steps", "decay_from")
        return {name: getattr(self, name) for name in names}
