"""Means over the last steps, for callbacks that look back over windows of different lengths."""

import math
from collections.abc import Mapping

import keras
import tensorflow as tf


class Averages(keras.callbacks.Callback):
    """Cuts training into parts at every step at which some callback writes, and adds parts up to windows.

    Keras's numbers are means since its metrics were last reset, which only one callback can do without shortening the
    windows of the others. This is the one; it comes before those that ask it.

    Args:
      start_step, total_steps: the steps at which training starts and ends.
      every: the windows' lengths, in steps: a part ends at each multiple of one of them, and where training ends or is
        stopped.
    """

    def __init__(self, *, start_step: int, total_steps: int, every: tuple[int, ...]):
        super().__init__()
        self._step, self._total, self._every = start_step, total_steps, every
        # Of each part its first and its last step, and its means.
        self._parts: list[tuple[int, int, Mapping[str, float]]] = []
        self._begin = start_step

    def on_train_batch_end(self, batch, logs=None):
        """Ends a part where one is due."""
        self._step += 1
        due = any(self._step % every == 0 for every in self._every)
        if not due and self._step != self._total and not self.model.stop_training:
            return
        self._parts = [part for part in self._parts if part[1] > self._step - max(self._every)]
        self._parts.append((self._begin, self._step, dict(logs)))
        self._begin = self._step
        self.model.reset_metrics()

    def since(self, step: int) -> dict[str, float]:
        """The means of all that was measured after `step`, which is where a part ended or training started.

        A part counts by its steps, and not at all for what was never measured in it; NaN if no part measured it.
        """
        parts = [(end - begin, means) for begin, end, means in self._parts if begin >= step]
        return {name: _mean([(n, means[name]) for n, means in parts if name in means]) for name in parts[-1][1]}

    @property
    def learning_rate(self) -> float:
        """The optimiser's at this step."""
        # A variable of several devices is no number before it is a tensor.
        return float(tf.convert_to_tensor(self.model.optimizer.learning_rate))


def _mean(weighted):
    known = [(n, value) for n, value in weighted if not math.isnan(value)]
    return sum(n * value for n, value in known) / sum(n for n, _ in known) if known else math.nan
