"""What training shows on the way: a bar on a terminal, a line every so many steps elsewhere."""

import math
import os
import shutil
import sys
import time

import keras
import tqdm

from train.averages import Averages


def clock(seconds: float) -> str:
    """Minutes and seconds: 0:07, 83:20."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Progress(keras.callbacks.Callback):
    """Loss, accuracies and speed, averaged since the line before.

    Args:
      total_steps: the step at which training ends.
      start_step: the step at which it starts.
      every: steps from one line, and one average, to the next.
      batch_size: examples in a step.
      averages: callback of the same run, before this one; ends a part at each of those steps.
    """

    def __init__(self, *, total_steps: int, start_step: int, every: int, batch_size: int, averages: Averages):
        super().__init__()
        self._total, self._step, self._every, self._batch_size = total_steps, start_step, every, batch_size
        self._averages, self._bar = averages, None

    def on_train_begin(self, logs=None):
        """Draws the empty bar."""
        is_terminal = sys.stderr.isatty()
        # Where a terminal does not know its size, in some containers, tqdm takes it to be 0, and shows nothing.
        known = is_terminal and 0 not in os.get_terminal_size(sys.stderr.fileno())
        size = {"dynamic_ncols": True} if known else {"ncols": shutil.get_terminal_size().columns, "nrows": 24}
        self._bar = tqdm.tqdm(total=self._total, initial=self._step, unit="step", disable=not is_terminal, **size)
        self._mark = (self._step, time.perf_counter())

    def on_train_batch_end(self, batch, logs=None):
        """Moves the bar, and prints a line when one is due."""
        self._step += 1
        self._bar.update()
        if self._step % self._every and self._step != self._total:
            return
        then, start = self._mark
        means = self._averages.since(then)
        seconds = time.perf_counter() - start
        speed = (self._step - then) * self._batch_size / seconds
        remaining = (self._total - self._step) * seconds / (self._step - then)
        # NaN where it was not measured since training was resumed.
        accuracy = means.get("natural_accuracy", math.nan)
        natural = f"natural {accuracy:.1%}  " if math.isfinite(accuracy) else ""
        regularizer = f"regulariser {means['regularizer']:.3f}  " if "regularizer" in means else ""
        text = (
            f"loss {means['xent']:.3f}  {regularizer}{natural}"
            f"{'adversarial' if self.model.attack else 'training'} {means['adversarial_accuracy']:.1%}  "
            f"{speed:.0f} examples/s"
        )
        self._bar.set_postfix_str(text)
        if self._bar.disable:
            print(f"step {self._step}/{self._total}  {text}  {clock(remaining)} left", flush=True)
        self._mark = (self._step, time.perf_counter())

    def on_train_end(self, logs=None):
        """Leaves the last bar on the screen."""
        self._bar.close()
