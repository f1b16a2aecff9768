"""The progress of a training run as CSV, for eval.training_curves."""

import math
import pathlib
import time

import keras

from eval import curve_files, output_files
from train.averages import Averages


class TrainingLog(keras.callbacks.Callback):
    """Writes training.csv: a row after every so many steps, at the end and where training is stopped.

    Its numbers are means since the row before, or since this start.

    `seconds` is how long training has taken up to the row, tables and all time between a stop and a start left out. A
    resumed run goes on in the file that is there, behind the step at which it starts.

    Args:
      model_dir: folder of the file.
      start_step, total_steps: the steps at which training starts and ends.
      every: steps between rows.
      averages: callback of the same run, before this one; ends a part at each of those steps.
    """

    def __init__(self, model_dir, *, start_step: int, total_steps: int, every: int, averages: Averages):
        super().__init__()
        self._averages = averages
        self._path = pathlib.Path(model_dir) / curve_files.TRAINING_FILE
        self._step, self._last, self._total, self._every = start_step, start_step, total_steps, every
        before = curve_files.read(self._path, curve_files.TRAINING_COLUMNS)
        self._rows = [row for row in before if row["step"] <= start_step]
        self._seconds_before, self._start = self._seconds_at(start_step), None

    def _seconds_at(self, step):
        if step == 0:
            return 0.0
        if not self._rows:
            return math.nan
        # The run may have been killed between two rows.
        return self._rows[-1]["seconds"] * step / self._rows[-1]["step"]

    @property
    def seconds(self) -> float:
        """How long training has taken up to now; NaN if the file does not say how long it took before this start."""
        return self._seconds_before + (0 if self._start is None else time.perf_counter() - self._start)

    def on_train_begin(self, logs=None):
        """Starts the clock."""
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Writes the row that is due at this step."""
        self._step += 1
        if self._step % self._every and self._step != self._total and not self.model.stop_training:
            return
        known = self._averages.since(self._last)
        self._last = self._step
        known |= {"step": self._step, "learning_rate": self._averages.learning_rate}
        known["seconds"] = self.seconds
        self._rows.append({name: float(known.get(name, math.nan)) for name in curve_files.TRAINING_COLUMNS})
        with output_files.whole_file(str(self._path)) as file:
            file.write(curve_files.text(self._rows, curve_files.TRAINING_COLUMNS).encode())
